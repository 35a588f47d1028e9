"""What the shape of profiles/images.yaml cannot say: see catalogue_rules.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import get_args

from tasks.catalogue_rules import Problems, above_0, below, twice
from tasks.contracts import Image, ImageFor, JetPack, RuntimeName, ToolImage
from tasks.wording import listed

ARCHITECTURES = ("x86_64", "aarch64")
NO_CONTAINER: tuple[RuntimeName, ...] = ("embedded", "external")
GPU: tuple[ImageFor, ...] = tuple(one for one in get_args(ImageFor) if one != "cpu")
LAST_PORT = 65535

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(?::\d{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_MOVING = re.compile(r"(.*-)?(latest|main|master|nightly|stable)(-.*)?")
_COMPUTE = re.compile(r"\d{1,2}\.\d")
_DRIVER = re.compile(r"\d{3}(\.\d+)*")
_USER = re.compile(r"any|root|\d+(:\d+)?")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_ROOT = re.compile(r"root|0(:\d+)?")


def image_problems(images: tuple[Image, ...], jetpacks: tuple[JetPack, ...]) -> Problems:
    """Yield what is wrong with the images and with what is said of a Jetson's software."""
    yield from below(("jetpacks",), twice((str(one.l4t) for one in jetpacks), "l4t"))
    for index, jetpack in enumerate(jetpacks):
        yield from below(("jetpacks", index), _jetpack_problems(jetpack))
    usable = {one.l4t for one in jetpacks if not one.refused}
    first: dict[object, int] = {}
    for index, image in enumerate(images):
        yield from below(("images", index), _image_problems(image, usable))
        for what in _used_for(image):
            if what in first:
                yield (
                    ("images", index, "runtime"),
                    f"images[{first[what]}] is for the same runtime and hardware, so this is never used",
                )
            first.setdefault(what, index)


def _used_for(image: Image) -> Iterable[object]:
    """Yield what an image is chosen by, once for each processor and release."""
    rest = (image.runtime, image.accelerator, image.compute, image.least_compute, image.least_driver)
    return ((*rest, one, l4t) for one in image.architectures for l4t in image.l4t or (0,))


def _jetpack_problems(jetpack: JetPack) -> Problems:
    yield from above_0(jetpack, "l4t")
    yield from _sourced(jetpack.sources)
    yield from _variables(jetpack.environment)


def _image_problems(image: Image, usable: set[int]) -> Problems:
    if image.runtime in NO_CONTAINER:
        yield ("runtime",), f'"{image.runtime}" does not run in a container'
    yield from origin_problems(image)
    yield from _hardware_problems(image, usable)
    yield from _hardening_problems(image)
    yield from _variables(image.environment)


def origin_problems(image: Image | ToolImage) -> Problems:
    """Yield what is wrong with where an image comes from, and what it is."""
    yield from below(("architectures",), twice(image.architectures))
    if not image.architectures:
        yield ("architectures",), "there must be at least one"
    for index, one in enumerate(image.architectures):
        if one not in ARCHITECTURES:
            yield ("architectures", index), f'"{one}" is not one of {listed(ARCHITECTURES)}'
    yield from _name_problems(image)
    yield from above_0(image, "size_bytes")
    if not 0 < image.port <= LAST_PORT:
        yield ("port",), f"a port is a number from 1 to {LAST_PORT}"
    yield from _sourced(image.sources)


def _name_problems(image: Image | ToolImage) -> Problems:
    if not _REPOSITORY.fullmatch(image.repository):
        yield ("repository",), "a repository is written owner/name or registry/owner/name, without a tag"
    if not _TAG.fullmatch(image.tag):
        yield ("tag",), "a tag is letters, digits, dots, underscores and hyphens"
    elif _MOVING.fullmatch(image.tag):
        yield ("tag",), f'"{image.tag}" is another image tomorrow: name a release or a build'
    if not (image.digest or image.unpinned):
        yield ("tag",), "an image without a digest, and without the field unpinned that says why"
    if image.digest and image.unpinned:
        yield ("unpinned",), "there is a digest, so there is nothing to excuse"
    if image.digest and not _DIGEST.fullmatch(image.digest):
        yield ("digest",), "a digest is sha256: and 64 lower-case hex digits"


def _hardware_problems(image: Image, usable: set[int]) -> Problems:
    yield from _driver_problems(image)
    if image.accelerator == "jetson" and not image.l4t:
        yield ("accelerator",), "an image for a Jetson needs the field l4t"
    if image.accelerator != "jetson" and image.l4t:
        yield ("l4t",), "only a Jetson has L4T"
    for index, l4t in enumerate(image.l4t):
        if l4t not in usable:
            yield ("l4t", index), f"jetpacks has no L4T {l4t}, or refuses it"


def _driver_problems(image: Image) -> Problems:
    yield from below(("compute",), twice(image.compute))
    wrong = 'a compute capability is written "8.6"'
    for index, one in enumerate(image.compute):
        if not _COMPUTE.fullmatch(one):
            yield ("compute", index), wrong
    if image.least_compute is not None and not _COMPUTE.fullmatch(image.least_compute):
        yield ("least_compute",), wrong
    if image.compute and image.least_compute is not None:
        yield ("least_compute",), "the field compute lists them all, so there is no least one"
    if image.least_driver is not None and not _DRIVER.fullmatch(image.least_driver):
        yield ("least_driver",), 'a driver is written "570" or "570.26"'
    for field in ("compute", "least_compute", "least_driver"):
        if getattr(image, field) and image.accelerator not in {"cuda", "jetson"}:
            yield (field,), f'an image for "{image.accelerator}" is used whatever NVIDIA\'s driver says'


def _hardening_problems(image: Image) -> Problems:
    """Yield what an image takes of the hardening without a sentence that says why."""
    if not _USER.fullmatch(image.user):
        yield ("user",), 'a user is "any", "root", or numbers such as "1000:1000"'
    given_up = {
        "writable_root": image.writable_root,
        "user": bool(_ROOT.fullmatch(image.user)),
        "tmpfs": any("exec" in one.partition(":")[2].split(",") for one in image.tmpfs),
    }
    for field, is_given_up in given_up.items():
        if is_given_up and not image.exceptions:
            yield (field,), "what is given up of the hardening needs a sentence in the field exceptions"
    for index, folder in enumerate(image.tmpfs):
        if not folder.startswith("/") or folder.partition(":")[0] == "/":
            yield ("tmpfs", index), f'"{folder}" is not a folder inside the container'
    for index, sentence in enumerate(image.exceptions):
        if not sentence.strip().endswith("."):
            yield ("exceptions", index), "must be a sentence that ends"


def _sourced(sources: tuple[str, ...]) -> Problems:
    if not sources:
        yield ("sources",), "there must be at least one source"


def _variables(environment: dict[str, str]) -> Problems:
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            yield ("environment", name), "a variable is capital letters, digits and underscores"
