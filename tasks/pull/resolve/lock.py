"""Pins that were resolved before: what ships, and what this host used. The next host gets the same bytes.

    profiles/weights.lock.json     what ships; `pmoves lock --update --shipped` writes it
    <state>/weights.lock.json      this host's: written when something unpinned is resolved, or moved

A pin of the catalogue stands in its YAML file. `pmoves lock --update` moves it for this host: the lock then
keeps what it was moved from, and counts only as long as the catalogue still says that.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from tasks.contracts import OllamaTag, PlannedModel, Shape, Weights
from tasks.effects.files import write_atomic
from tasks.errors import UsageError

VERSION = 1
FILE_NAME = "weights.lock.json"


class LockedWeights(Shape, frozen=True):
    """The files of one variant. `over` is the revision of the catalogue that they replace, or ""."""

    weights: Weights
    over: str = ""


class LockedTag(Shape, frozen=True):
    """A tag of the Ollama library at one digest. `over` is the digest of the catalogue it replaces, or ""."""

    digest: str
    size_bytes: int
    over: str = ""


class LockFile(Shape, frozen=True):
    """A lock file. `weights` stand by "model:variant", `ollama` by tag."""

    version: int = VERSION
    weights: Mapping[str, LockedWeights] = {}
    ollama: Mapping[str, LockedTag] = {}


@dataclass(frozen=True, slots=True)
class Moved:
    """A pin that was made or moved: `before` is "" for a new one; both are revisions or digests."""

    name: str
    before: str
    after: str
    size_before_bytes: int
    size_after_bytes: int


def key(planned: PlannedModel) -> str:
    """Return how the variant of a planned model stands in a lock."""
    return f"{planned.model}:{planned.quantisation}"


def read_lock(path: Path) -> LockFile:
    """Read a lock file; one that is not there is empty.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=LockFile)
    except FileNotFoundError:
        return LockFile()
    except (OSError, msgspec.DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"the lock file {path} cannot be read ({why})",
            "nothing was downloaded",
            "restore it from version control or a backup, or remove it to resolve its pins anew",
        ) from None


class Pins:
    """All pins that count on this host. Threads may share it."""

    def __init__(self, shipped: Path, host: Path) -> None:
        """Read both lock files.

        Raises:
            UsageError: one of them cannot be read.
        """
        self._path = host
        self._lock = threading.Lock()
        self._shipped = read_lock(shipped)
        own = read_lock(host)
        self._weights = dict(own.weights)
        self._ollama = dict(own.ollama)
        self._new = LockFile()
        self._came = LockFile()

    def weights(self, planned: PlannedModel) -> Weights | None:
        """Return the pinned files of a planned model, or None where nothing pins them."""
        if came := self._came.weights.get(key(planned)):
            return came.weights
        ours, theirs = self._weights.get(key(planned)), self._shipped.weights.get(key(planned))
        catalogue = planned.weights
        if catalogue is not None:
            moved = ours is not None and ours.over == catalogue.revision
            return ours.weights if ours is not None and moved else catalogue
        if planned.repo is not None:
            for locked in (ours, theirs):
                if locked is not None and locked.weights.repo == planned.repo.repo:
                    return locked.weights
        return None

    def tag(self, tag: OllamaTag) -> OllamaTag:
        """Return an Ollama tag with the digest that counts, if there is one."""
        if came := self._came.ollama.get(tag.tag):
            return _at(tag, came)
        ours, theirs = self._ollama.get(tag.tag), self._shipped.ollama.get(tag.tag)
        moved = ours is not None and ours.over == (tag.digest or "")
        locked = ours if moved else None if tag.digest else (ours or theirs)
        return tag if locked is None else _at(tag, locked)

    def pinned(self, planned: PlannedModel) -> PlannedModel:
        """Return a planned model with what is pinned of it."""
        if planned.ollama is not None and planned.weights is None and planned.repo is None:
            return replace(planned, ollama=self.tag(planned.ollama))
        found = self.weights(planned)
        return planned if found is None else replace(planned, weights=found, repo=None)

    def all_weights(self) -> set[Weights]:
        """Return every set of files that a lock file pins."""
        return {one.weights for one in (*self._shipped.weights.values(), *self._weights.values())}

    def by(self, planned: PlannedModel) -> str:
        """Say what pins a planned model: "catalogue", "this host", "lock", or "" for nothing."""
        now = self.pinned(planned)
        asked, pin = (planned.ollama, now.ollama) if now.weights is None else (planned.weights, now.weights)
        if pin is None or (isinstance(pin, OllamaTag) and pin.digest is None):
            return ""
        if pin == asked:
            return "catalogue"
        ours = self._ollama if isinstance(pin, OllamaTag) else self._weights
        name = pin.tag if isinstance(pin, OllamaTag) else key(planned)
        return "this host" if name in ours else "lock"

    def keep_weights(self, planned: PlannedModel, weights: Weights, *, over: str = "") -> None:
        """Pin the files of a planned model for this host."""
        with self._lock:
            self._add(LockFile(weights={key(planned): LockedWeights(weights=weights, over=over)}))

    def keep_tag(self, tag: OllamaTag, digest: str, size_bytes: int, *, over: str = "") -> None:
        """Pin an Ollama tag for this host."""
        with self._lock:
            one = LockedTag(digest=digest, size_bytes=size_bytes, over=over)
            self._add(LockFile(ollama={tag.tag: one}))

    def adopt(self, other: LockFile) -> None:
        """Take the pins that came with an export: they alone count now, for no other bytes are at hand."""
        self._came = other

    def settle(self, asked: PlannedModel) -> None:
        """Pin for this host what an export brought of a model, also where the catalogue says otherwise."""
        came = self._came.weights.get(key(asked))
        if came is not None and came.weights != asked.weights:
            self.keep_weights(asked, came.weights, over=asked.weights.revision if asked.weights else "")
        tag = self._came.ollama.get(asked.ollama.tag) if asked.ollama is not None and came is None else None
        if tag is not None and asked.ollama is not None and tag.digest != asked.ollama.digest:
            self.keep_tag(asked.ollama, tag.digest, tag.size_bytes, over=asked.ollama.digest or "")

    def save(self) -> None:
        """Write what is new to this host's lock file; what another process pinned meanwhile stays.

        Raises:
            OSError: the state folder cannot be written.
            UsageError: the file was damaged meanwhile.
        """
        with self._lock:
            if self._new.weights or self._new.ollama:
                write_lock(self._path, merged(read_lock(self._path), self._new))
                self._new = LockFile()

    def _add(self, new: LockFile) -> None:
        self._new = merged(self._new, new)
        self._weights |= new.weights
        self._ollama |= new.ollama


def _at(tag: OllamaTag, locked: LockedTag) -> OllamaTag:
    return msgspec.structs.replace(
        tag, digest=locked.digest, size_bytes=locked.size_bytes, unpinned=None, size_basis=None
    )


def merged(under: LockFile, over: LockFile) -> LockFile:
    """Return all pins of two locks; where both have one, that of `over`."""
    return LockFile(weights={**under.weights, **over.weights}, ollama={**under.ollama, **over.ollama})


def write_lock(path: Path, lock: LockFile) -> None:
    """Write a lock file, sorted, so that version control shows what moved.

    Raises:
        OSError: it cannot be written.
    """
    plain = _without_empty(msgspec.to_builtins(lock))
    text = msgspec.json.encode(
        {
            "version": VERSION,
            "weights": dict(sorted(plain.get("weights", {}).items())),
            "ollama": dict(sorted(plain.get("ollama", {}).items())),
        }
    )
    write_atomic(path, msgspec.json.format(text, indent=2).decode() + "\n")


def _without_empty(plain: Any) -> Any:  # noqa: ANN401  # JSON
    """Drop fields that say nothing."""
    if isinstance(plain, dict):
        return {name: _without_empty(one) for name, one in plain.items() if one not in ("", None)}
    return [_without_empty(one) for one in plain] if isinstance(plain, list) else plain
