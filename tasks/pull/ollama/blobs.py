"""What lies in Ollama's folder, and whether it is what the manifest names.

Ollama hashes a blob once, when it arrives. A blob that was damaged or cut later is served as it is, and
pulling again says "success" without a byte fetched; so where the folder can be read, it is hashed here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import orjson

from tasks.effects.files import CHUNK_BYTES
from tasks.errors import SourceRefusedError
from tasks.pull.claim import stopped
from tasks.pull.ollama.names import Name, blob_path, short
from tasks.pull.ollama.registry import Layer, Manifest, parse_manifest

STAT_BLOCK_BYTES = 512
LARGEST_PART_FILE_BYTES = 4096

Trusted = Callable[[Path, str], bool]
"""Whether a file is known to have a digest, so that it need not be hashed again."""


def trust_none(_path: Path, _digest: str) -> bool:
    """Trust no file: hash each."""
    return False


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is absent or is not what its name says. `fault` says in what, in one clause."""

    digest: str
    path: Path
    fault: str
    absent: bool

    def __str__(self) -> str:
        """Say it for a person."""
        return f"blob {short(self.digest)} {self.fault}"


def is_readable(models: Path | None, name: Name) -> bool:
    """Whether `models` can be read here and is the folder that holds `name`."""
    if models is None or not os.access(models / "blobs", os.R_OK | os.X_OK):
        return False
    return os.access(name.manifest_path(models), os.R_OK)


def stored_manifest(models: Path, name: Name, digest: str) -> Manifest | None:
    """Return the manifest that Ollama keeps of `name`, or None when it is not the one with this digest."""
    with suppress(OSError, SourceRefusedError):
        stored = parse_manifest(name, name.manifest_path(models).read_bytes())
        return stored if stored.digest == digest else None
    return None


def damages(
    models: Path, manifest: Manifest, *, stop: Event, trusted: Trusted = trust_none
) -> tuple[Damage, ...]:
    """Return the blobs of a manifest that are absent, of a wrong size or of a wrong sha256.

    Reads every byte that is not trusted (about 1.5 GB/s), and stops within a piece of 1 MiB.

    Raises:
        OSError: a blob cannot be read.
        StoppedError: `stop` was set.
    """
    return tuple(_damages(models, manifest, stop, trusted))


def _damages(models: Path, manifest: Manifest, stop: Event, trusted: Trusted) -> Iterator[Damage]:
    for layer in {layer.digest: layer for layer in manifest.layers}.values():
        path = blob_path(models, layer.digest)
        size_bytes = _size(path)
        if size_bytes is None:
            yield Damage(layer.digest, path, "is missing", absent=True)
        elif size_bytes != layer.size_bytes:
            fault = f"has {size_bytes} bytes instead of {layer.size_bytes}"
            yield Damage(layer.digest, path, fault, absent=False)
        elif not trusted(path, layer.digest):
            found = _sha256(path, stop, str(manifest.name))
            if found != layer.digest:
                yield Damage(layer.digest, path, f"has the sha256 {short(found)}", absent=False)


def remove(damaged: tuple[Damage, ...]) -> tuple[Damage, ...]:
    """Delete damaged blobs, so that Ollama fetches them again; return those that cannot be deleted here."""
    left = []
    for damage in damaged:
        try:
            damage.path.unlink(missing_ok=True)
        except OSError:
            left.append(damage)
    return tuple(left)


def missing_bytes(models: Path, manifest: Manifest) -> int:
    """Return the room in bytes that fetching what is missing of a manifest still takes on the disk.

    A partial blob is sparse and shows its full size, so its allocated blocks are what counts.
    """
    return sum(
        _missing(models, layer) for layer in {layer.digest: layer for layer in manifest.layers}.values()
    )


def _missing(models: Path, layer: Layer) -> int:
    path = blob_path(models, layer.digest)
    if _size(path) == layer.size_bytes:
        return 0
    there = sum(_allocated(place) for place in (path, _partial(path)))
    return max(0, layer.size_bytes - there)


def fetched_bytes(models: Path, manifest: Manifest) -> dict[str, int]:
    """Return how many bytes of each blob Ollama will not fetch again, by digest."""
    return {layer.digest: _fetched(models, layer) for layer in manifest.layers}


def _fetched(models: Path, layer: Layer) -> int:
    path = blob_path(models, layer.digest)
    if _size(path) is not None:
        return layer.size_bytes
    parts = path.parent.glob(f"{_partial(path).name}-*")
    return min(layer.size_bytes, sum(_completed(part) for part in parts))


def _completed(part: Path) -> int:
    try:
        with part.open("rb") as stream:
            said: Any = orjson.loads(stream.read(LARGEST_PART_FILE_BYTES))
    except (OSError, orjson.JSONDecodeError):
        return 0
    count = said.get("Completed") if isinstance(said, dict) else 0
    return count if isinstance(count, int) and count > 0 else 0


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}-partial")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * STAT_BLOCK_BYTES
    except FileNotFoundError:
        return 0


def _sha256(path: Path, stop: Event, subject: str) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(CHUNK_BYTES):
            if stop.is_set():
                raise stopped(subject)
            digest.update(piece)
    return digest.hexdigest()
