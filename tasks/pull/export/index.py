"""The index of an export: which models it holds, pinned as the host pinned them that wrote it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tasks.contracts import OllamaTag, Shape, WeightFile, Weights
from tasks.errors import CatalogueError, UsageError
from tasks.pull.ollama.names import is_digest, parse_name
from tasks.pull.resolve.lock import LockedTag, LockedWeights, LockFile
from tasks.pull.store import link_path

FILE_NAME = "index.json"
VERSION = 1
LARGEST_BYTES = 64 << 20
LARGEST_FILE_BYTES = 1 << 50

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", re.ASCII)


class Pinned(Shape, frozen=True):
    """One model: the files of a repository, or a tag of Ollama.

    `key` is "model:variant". `manifest` is where the tag's manifest lies below the export, "" without a tag.
    """

    key: str
    weights: Weights | None = None
    ollama: OllamaTag | None = None
    manifest: str = ""


class Index(Shape, frozen=True):
    """What an export holds, in the order of the keys."""

    version: int = VERSION
    items: tuple[Pinned, ...] = ()

    @property
    def lock(self) -> LockFile:
        """The same as pins, for the host that is provisioned from it."""
        weights = {one.key: LockedWeights(weights=one.weights) for one in self.items if one.weights}
        tags = [one.ollama for one in self.items if one.ollama]
        ollama = {tag.tag: LockedTag(digest=tag.digest or "", size_bytes=tag.size_bytes) for tag in tags}
        return LockFile(weights=weights, ollama=ollama)


class _Versioned(msgspec.Struct):
    version: int


_VERSIONED, _INDEX = msgspec.json.Decoder(_Versioned), msgspec.json.Decoder(Index)
"""Made before threads begin: two that use a shape for the first time at once can crash msgspec."""


def read_index(target: Path) -> Index:
    """Read the index of an export, and check everything in it that becomes a path or a sum.

    Raises:
        UsageError: there is none, or it is not what an export writes.
    """
    path = target / FILE_NAME
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise _bad(path, f"is longer than {LARGEST_BYTES} bytes")
        raw = path.read_bytes()
        version = _VERSIONED.decode(raw).version
        if version != VERSION:
            raise _bad(path, f"is of version {version}, and this program reads version {VERSION}")
        index = _INDEX.decode(raw)
    except FileNotFoundError:
        raise UsageError(
            f"{target} is no export: it has no {FILE_NAME}",
            "nothing was copied",
            "name the folder that `pmoves export` wrote, and see that its disk is mounted",
        ) from None
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad(path, f"is damaged ({error})") from None
    for item in index.items:
        if fault := _fault(item):
            raise _bad(path, f"is damaged ({item.key!r} {fault})")
    if len({item.key for item in index.items}) != len(index.items):
        raise _bad(path, "is damaged (it names a model twice)")
    return index


def merged(under: Index, over: Sequence[Pinned]) -> Index:
    """Return all items of an index and of a new export; where both have a key, the new one."""
    items = {item.key: item for item in (*under.items, *over)}
    return Index(items=tuple(items[key] for key in sorted(items)))


def encoded(index: Index) -> bytes:
    """Return an index as it is written."""
    return msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"


def manifest_name(tag: OllamaTag) -> str:
    """Return where the manifest of a tag lies below an export.

    Raises:
        CatalogueError: the tag has a name that Ollama would refuse.
    """
    return parse_name(tag.tag).manifest_path(Path()).as_posix()


def _bad(path: Path, fault: str) -> UsageError:
    return UsageError(
        f"the index {path} {fault}", "nothing was copied", "write the export anew, or name another folder"
    )


def _fault(item: Pinned) -> str:
    """Say what is wrong with an item, in words that follow its key; "" for nothing."""
    if (item.weights is None) == (item.ollama is None):
        return "has not just one of weights and tag"
    try:
        if item.weights is not None:
            faults = (_file_fault(item.weights, file) for file in item.weights.files)
            return next(filter(None, faults), "" if item.weights.files else "has no files")
        return _tag_fault(item)
    except CatalogueError as error:
        return f"is not pinned rightly: {error.what}"


def _file_fault(weights: Weights, file: WeightFile) -> str:
    link_path(Path("/"), weights, file)
    if not _DIGEST.fullmatch(file.digest):
        return f"pins {file.path!r} by something that is no digest"
    return "" if 0 <= file.size_bytes <= LARGEST_FILE_BYTES else f"gives {file.path!r} no size"


def _tag_fault(item: Pinned) -> str:
    tag = item.ollama
    assert tag is not None  # noqa: S101  # the caller looked
    if not is_digest(tag.digest):
        return "pins its tag by something that is no digest"
    return "" if item.manifest == manifest_name(tag) else "names another manifest than that of its tag"
