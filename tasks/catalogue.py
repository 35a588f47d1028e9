"""profiles/ -> Catalogue. An error names file, line and field.

    profiles/
      models/<category>.yaml    one key, `models`: a list of `Model`
      hardware/<profile>.yaml   one `Profile`; its name is the file's name
      services/<service>.yaml   one `Service`; the same
      devices.yaml              one key, `devices`: a list of `DeviceFact`
      images.yaml               `images`: a list of `Image`; `jetpacks`: a list of `JetPack`
      routing.yaml              one `Routing`: clouds, and the images of the gateway

The shapes are in contracts.py; catalogue_rules.py and catalogue_*_rules.py have what a shape cannot say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tasks.contracts import Catalogue
from tasks.effects.files import write_atomic
from tasks.errors import CatalogueError

__all__ = ["DEFAULT", "load", "load_cached", "profile_names"]

DEFAULT = Path(__file__).resolve().parent.parent / "profiles"

_FOLDERS = ("models", "hardware", "services")
_SINGLE = ("devices", "images", "routing")
_CODE = (
    "catalogue.py",
    "catalogue_files.py",
    "catalogue_image_rules.py",
    "catalogue_model_rules.py",
    "catalogue_routing_rules.py",
    "catalogue_rules.py",
    "contracts.py",
    "marked_yaml.py",
    "shapes.py",
)
"""What reads the files. It stands for the program's version, which takes 30 ms to ask for."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the catalogue as it was read. `name` is how a person knows it."""

    name: str
    stem: str
    content: bytes


def load(folder: Path = DEFAULT) -> Catalogue:
    """Read every model, profile, service, device, image and cloud below `folder`.

    Raises:
        CatalogueError: a file is wrong; the first problem is named by file, line and field.
    """
    from tasks.catalogue_files import built  # noqa: PLC0415  # YAML, which a kept catalogue does not need

    return built(_read(folder))


def load_cached(folder: Path, cache: Path) -> Catalogue:
    """Return what `load` returns, and keep it in the file `cache` until a profile file or the code changes.

    A cache that cannot be read or written, or is damaged, is passed over.

    Raises:
        CatalogueError: as `load` does.
    """
    files = _read(folder)
    key = _key(files)
    kept = _kept(cache, key)
    if kept is None:
        from tasks.catalogue_files import built  # noqa: PLC0415  # the same

        kept = built(files)
        _keep(cache, key, kept)
    return kept


def profile_names(folder: Path = DEFAULT) -> tuple[str, ...]:
    """Return the names of all profiles, without reading them."""
    return tuple(path.stem for path in _paths(folder, "hardware"))


def _read(folder: Path) -> dict[str, list[File]]:
    """Read all files once, so that what is hashed is what is parsed."""
    paths = {kind: _paths(folder, kind) for kind in _FOLDERS}
    paths |= {kind: [folder / f"{kind}.yaml"] for kind in _SINGLE}
    return {kind: [_file(path, folder) for path in paths[kind]] for kind in paths}


def _paths(folder: Path, kind: str) -> list[Path]:
    """Return the YAML files of one kind in the order of their names."""
    try:
        found = [path for path in (folder / kind).iterdir() if not path.name.startswith(".")]
    except OSError as error:
        what = f"{folder / kind}: the catalogue's folder cannot be read ({error.strerror})"
        raise CatalogueError(
            what, "nothing was changed", "restore the folder, or let PMOVES_PROFILES name another"
        ) from None
    entries = sorted(found, key=lambda path: path.stem)
    for path in entries:
        if path.suffix == ".yml":
            raise _refusal(_shown(path, folder), "a catalogue file ends in .yaml")
    return [path for path in entries if path.suffix == ".yaml"]


def _file(path: Path, folder: Path) -> File:
    name = _shown(path, folder)
    try:
        return File(name, path.stem, path.read_bytes())
    except OSError as error:
        raise _refusal(name, f"the file cannot be read ({error.strerror})") from None


def _refusal(where: str, problem: str) -> CatalogueError:
    from tasks.marked_yaml import refusal  # noqa: PLC0415  # the same

    return refusal(where, problem)


def _shown(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder.parent))


def _key(files: Mapping[str, list[File]]) -> str:
    """Return a digest of all that decides what the catalogue is: the files, and the code that reads them."""
    parts = [(name, Path(__file__).with_name(name).read_bytes()) for name in _CODE]
    parts += [(file.name, file.content) for kind in files.values() for file in kind]
    digest = hashlib.sha256()
    for name, content in parts:
        digest.update(f"{name!a} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _head(key: str, body: bytes) -> bytes:
    """Return the first line of a cache file: what its body was made from, and the body's own digest."""
    return f"{key} {hashlib.sha256(body).hexdigest()}\n".encode()


def _kept(cache: Path, key: str) -> Catalogue | None:
    """Return the catalogue that `cache` holds for this key; None where it holds none, or not all of it."""
    try:
        head, _, body = cache.read_bytes().partition(b"\n")
        if head + b"\n" == _head(key, body):
            return msgspec.json.decode(body, type=Catalogue)
    except (OSError, msgspec.MsgspecError):
        pass
    return None


def _keep(cache: Path, key: str, catalogue: Catalogue) -> None:
    body = msgspec.json.encode(catalogue)
    with suppress(OSError, UnicodeError):
        write_atomic(cache, (_head(key, body) + body).decode())
