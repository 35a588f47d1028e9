"""profiles/*.yaml -> Catalogue. An error names file, line and field.

    profiles/
      models/<category>.yaml    one key, `models`: a list of `Model`
      hardware/<profile>.yaml   one `Profile`; its name is the file's name

The shapes are in contracts.py. Here stands what a shape cannot say: digests are there and look like
digests, names are unique and exist, no path leads out of its folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tasks.contracts import Catalogue, Model, OllamaTag, Profile, Shape, UnpinnedRepo, Weights, Wish
from tasks.errors import CatalogueError
from tasks.marked_yaml import Document, Steps, refusal
from tasks.shapes import S, decode, meant, nearest

__all__ = ["DEFAULT", "load", "nearest", "profile_names"]

DEFAULT = Path(__file__).resolve().parent.parent / "profiles"

Problems = Iterator[tuple[Steps, str]]

_NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")

_NO_DIGEST = "a catalogue entry without a digest"
_BAD_NAME = "a name is lower-case letters, digits and dots, joined by single hyphens"
_BAD_SIZE = "must be more than 0"


class _ModelFile(Shape, frozen=True):
    """A file below profiles/models."""

    models: tuple[Model, ...]


def load(folder: Path = DEFAULT) -> Catalogue:
    """Read every model and profile below `folder`.

    Raises:
        CatalogueError: a file is wrong; the first problem is named by file, line and field.
    """
    models = _models(folder)
    return Catalogue(models=models, profiles=_profiles(folder, models))


def profile_names(folder: Path = DEFAULT) -> tuple[str, ...]:
    """Return the names of all profiles, without reading them."""
    return tuple(path.stem for path in _files(folder, "hardware"))


def _models(folder: Path) -> dict[str, Model]:
    found: dict[str, tuple[Model, str]] = {}
    for path in _files(folder, "models"):
        content, document = _read(path, _ModelFile, folder=folder)
        for index, model in enumerate(content.models):
            place: Steps = ("models", index)
            _refuse(document, place, _model_problems(model))
            if model.name in found:
                problem = f'"{model.name}" is already the name of a model in {found[model.name][1]}'
                raise document.error((*place, "name"), problem)
            found[model.name] = (model, f"{document.name}:{document.line((*place, 'name'))}")
    return {name: found[name][0] for name in sorted(found)}


def _profiles(folder: Path, models: dict[str, Model]) -> dict[str, Profile]:
    profiles = {}
    for path in _files(folder, "hardware"):
        profile, document = _read(path, Profile, folder=folder)
        _refuse(document, (), _profile_problems(profile, path.stem, models))
        profiles[profile.name] = profile
    return profiles


def _files(folder: Path, kind: str) -> list[Path]:
    """Return the YAML files of one kind in the order of their names."""
    try:
        entries = sorted(path for path in (folder / kind).iterdir() if not path.name.startswith("."))
    except OSError as error:
        what = f"{folder / kind}: the catalogue's folder cannot be read ({error.strerror})"
        raise CatalogueError(what, "nothing was changed", "restore the folder") from None
    for path in entries:
        if path.suffix == ".yml":
            raise refusal(_shown(path, folder), "a catalogue file ends in .yaml")
    return [path for path in entries if path.suffix == ".yaml"]


def _read(path: Path, shape: type[S], *, folder: Path) -> tuple[S, Document]:
    name = _shown(path, folder)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise refusal(name, f"the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise refusal(name, f"byte {error.start} is not UTF-8 text") from None
    return decode(text, shape, name=name)


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder.parent))


def _refuse(document: Document, place: Steps, problems: Problems) -> None:
    """Raise the first problem, if there is one."""
    for steps, problem in problems:
        raise document.error((*place, *steps), problem)


def _model_problems(model: Model) -> Problems:
    if not _NAME.fullmatch(model.name):
        yield ("name",), _BAD_NAME
    if not model.runtimes:
        yield ("runtimes",), "there must be at least one runtime"
    if model.memory.value_bytes <= 0:
        yield ("memory", "value_bytes"), _BAD_SIZE
    for field in ("dimensions", "max_tokens"):
        if (number := getattr(model, field)) is not None and number <= 0:
            yield (field,), _BAD_SIZE
    if model.role == "embeddings" and model.dimensions is None:
        yield ("name",), "a model for embeddings needs the field dimensions"
    yield from _origin_problems(model)


def _origin_problems(model: Model) -> Problems:
    """Yield what is wrong with where the model's bytes come from."""
    if not (model.weights or model.ollama or model.unpinned_repo):
        yield ("name",), "the model needs the field weights, ollama or unpinned_repo"
    if model.weights:
        yield from _below(("weights",), _weights_problems(model.weights))
    if model.ollama:
        yield from _below(("ollama",), _ollama_problems(model.ollama))
    if model.unpinned_repo:
        yield from _below(("unpinned_repo",), _unpinned_problems(model.unpinned_repo))


def _weights_problems(weights: Weights) -> Problems:
    yield from _repo_problems(weights.repo, weights.revision)
    if not weights.files:
        yield ("files",), "there must be at least one file"
    seen = set()
    for index, file in enumerate(weights.files):
        yield from _below(("files", index), _file_problems(file.path, file.size_bytes, file.sha256))
        if file.path in seen:
            yield ("files", index, "path"), f'"{file.path}" is listed twice'
        seen.add(file.path)
    if wheel := weights.wheel:
        problems = _file_problems(wheel.prefix, wheel.size_bytes, wheel.sha256, path="prefix")
        yield from _below(("wheel",), problems)
        if len(PurePosixPath(wheel.filename).parts) != 1 or not wheel.filename.endswith(".whl"):
            yield ("wheel", "filename"), "must be the plain name of a .whl file"


def _file_problems(inside: str, size_bytes: int, sha256: str, *, path: str = "path") -> Problems:
    if _leads_out(inside):
        yield (path,), f'"{inside}" leads out of the folder'
    if size_bytes <= 0:
        yield ("size_bytes",), _BAD_SIZE
    if not _SHA256.fullmatch(sha256):
        yield ("sha256",), "a sha256 is 64 lower-case hex digits" if sha256 else _NO_DIGEST


def _repo_problems(repo: str, revision: str | None) -> Problems:
    if not _REPO.fullmatch(repo):
        yield ("repo",), "a repo is written owner/name"
    if revision is not None and not _REVISION.fullmatch(revision):
        yield ("revision",), "a revision is 40 lower-case hex digits, not a branch or a tag"


def _ollama_problems(ollama: OllamaTag) -> Problems:
    if ollama.size_bytes <= 0:
        yield ("size_bytes",), _BAD_SIZE
    if not (ollama.digest or ollama.unpinned):
        yield ("tag",), f"{_NO_DIGEST}, and without the field unpinned that says why"
    if ollama.digest and ollama.unpinned:
        yield ("unpinned",), "there is a digest, so there is nothing to excuse"
    if ollama.digest and not _SHA256.fullmatch(ollama.digest):
        yield ("digest",), "a digest is 64 lower-case hex digits"


def _unpinned_problems(unpinned: UnpinnedRepo) -> Problems:
    yield from _repo_problems(unpinned.repo, unpinned.revision)
    if unpinned.size_bytes <= 0:
        yield ("size_bytes",), _BAD_SIZE
    if not unpinned.unpinned:
        yield ("unpinned",), f"{_NO_DIGEST}, and without a reason for it"


def _profile_problems(profile: Profile, stem: str, models: dict[str, Model]) -> Problems:
    if profile.name != stem:
        yield ("name",), f'must be "{stem}", as the file is called'
    if not _NAME.fullmatch(profile.name):
        yield ("name",), _BAD_NAME
    for field in ("min_cards", "min_card_memory_bytes", "min_memory_bytes"):
        if getattr(profile.match, field) < 0:
            yield ("match", field), "must not be less than 0"
    seen = set()
    for index, wish in enumerate(profile.bundle):
        if wish.role in seen:
            yield ("bundle", index, "role"), f'the role "{wish.role}" is already in the bundle'
        seen.add(wish.role)
        yield from _below(("bundle", index), _wish_problems(wish, models))


def _wish_problems(wish: Wish, models: dict[str, Model]) -> Problems:
    if not wish.models and not wish.reason:
        yield ("role",), "a wish without models needs the field reason"
    for index, name in enumerate(wish.models):
        if name not in models:
            yield ("models", index), f'there is no model "{name}"{meant(name, models)}'
        elif models[name].role != wish.role:
            role = models[name].role
            yield ("models", index), f'"{name}" is a model for the role {role}, not for {wish.role}'


def _below(place: Steps, problems: Problems) -> Problems:
    """Say where `problems` are, seen from one level up."""
    for steps, problem in problems:
        yield (*place, *steps), problem


def _leads_out(path: str) -> bool:
    """Say whether a path inside a repository or wheel would leave the folder it is unpacked to."""
    parts = PurePosixPath(path).parts
    return not parts or parts[0] == "/" or ".." in parts or "\\" in path or "\0" in path
