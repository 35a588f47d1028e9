"""The files of profiles/, as they were read -> Catalogue. An error names file, line and field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from tasks.catalogue import File
from tasks.catalogue_image_rules import image_problems
from tasks.catalogue_model_rules import model_problems
from tasks.catalogue_routing_rules import function_problems, routing_problems
from tasks.catalogue_rules import Problems, device_problems, profile_problems, service_problems
from tasks.contracts import (
    Catalogue,
    DeviceFact,
    Image,
    JetPack,
    Model,
    Profile,
    Routing,
    Service,
    Shape,
)
from tasks.marked_yaml import Document, Steps, refusal
from tasks.shapes import S, decode

N = TypeVar("N", Profile, Service)


class ModelFile(Shape, frozen=True):
    """A file below profiles/models."""

    models: tuple[Model, ...]


class DeviceFile(Shape, frozen=True):
    """The file profiles/devices.yaml."""

    devices: tuple[DeviceFact, ...]


class ImageFile(Shape, frozen=True):
    """The file profiles/images.yaml."""

    images: tuple[Image, ...]
    jetpacks: tuple[JetPack, ...]


def built(files: Mapping[str, list[File]]) -> Catalogue:
    """Return the catalogue that files of each kind hold.

    Raises:
        CatalogueError: a file is wrong; the first problem is named by file, line and field.
    """
    models = _models(files["models"])
    profiles = _named(files["hardware"], Profile, models=models, problems=profile_problems)
    routing, document = _decoded(files["routing"][0], Routing)
    _refuse(document, (), routing_problems(routing))
    services = _services(files["services"], models, routing)
    devices, document = _decoded(files["devices"][0], DeviceFile)
    _refuse(document, (), device_problems(devices.devices))
    images, document = _decoded(files["images"][0], ImageFile)
    _refuse(document, (), image_problems(images.images, images.jetpacks))
    return Catalogue(
        models=models,
        profiles=profiles,
        services=services,
        devices=devices.devices,
        images=images.images,
        jetpacks=images.jetpacks,
        routing=routing,
    )


def _services(files: list[File], models: dict[str, Model], routing: Routing) -> dict[str, Service]:
    taken: dict[str, str] = {}

    def problems(service: Service, stem: str, models: Mapping[str, Model]) -> Problems:
        yield from service_problems(service, stem, models)
        yield from function_problems(service, routing, taken)
        taken.update({use.function: f"{service.name}.yaml" for use in service.uses if use.function})

    return _named(files, Service, models=models, problems=problems)


def _named(
    files: list[File],
    shape: type[N],
    *,
    models: dict[str, Model],
    problems: Callable[[N, str, Mapping[str, Model]], Problems],
) -> dict[str, N]:
    """Return the records of a folder that has one in each file."""
    found = {}
    for file in files:
        record, document = _decoded(file, shape)
        _refuse(document, (), problems(record, file.stem, models))
        found[record.name] = record
    return found


def _models(files: list[File]) -> dict[str, Model]:
    found: dict[str, tuple[Model, str]] = {}
    for file in files:
        content, document = _decoded(file, ModelFile)
        for index, model in enumerate(content.models):
            place: Steps = ("models", index)
            _refuse(document, place, model_problems(model))
            if model.name in found:
                problem = f'"{model.name}" is already the name of a model in {found[model.name][1]}'
                raise document.error((*place, "name"), problem)
            found[model.name] = (model, f"{document.name}:{document.line((*place, 'name'))}")
    return {name: found[name][0] for name in sorted(found)}


def _decoded(file: File, shape: type[S]) -> tuple[S, Document]:
    try:
        text = file.content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal(file.name, f"byte {error.start} is not UTF-8 text") from None
    return decode(text, shape, name=file.name)


def _refuse(document: Document, place: Steps, problems: Problems) -> None:
    """Raise the first problem, if there is one."""
    for steps, problem in problems:
        raise document.error((*place, *steps), problem)
