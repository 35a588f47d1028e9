"""A directory that may hold the same bytes: an export, a USB disk, another Hugging Face cache, plain files.

    <folder>/blobs/sha256-<64 hex>                          what `pmoves export` writes
    <folder>/models--org--name/snapshots/<revision>/...     a Hugging Face cache; also below <folder>/hub
    <folder>/.../<file name>                                a plain file, taken where size and digest fit

Bytes are copied and hashed on the way; nothing in the folder is changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.contracts import WeightFile, Weights
from tasks.errors import DigestMismatchError
from tasks.pull.claim import refused, stopped, unavailable
from tasks.pull.fetch.item import new_hash
from tasks.pull.sources.job import Job
from tasks.pull.store import UNSYNCED_BYTES, link_path

COPY_BYTES = 1 << 20
DEEPEST = 3
"""Plain files are looked for this many folders deep; an external disk may hold a million files."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One directory."""

    path: Path

    @property
    def NAME(self) -> str:  # noqa: N802  # as the protocol of sources has it
        """How it is called in reasons."""
        return str(self.path)

    def room_bytes(self, _weights: Weights, files: tuple[WeightFile, ...]) -> int:
        """Return the size of the files: each is copied to the store's disk and moved."""
        return sum(file.size_bytes for file in files)

    def fetch(self, job: Job) -> int:
        """Copy what is there, deliver it, and say what is not. See `Source.fetch`."""
        if not self.path.is_dir():
            raise unavailable(f"there is no folder {self.path}")
        copied, absent = 0, []
        names = _plain_files(self.path)
        for number, file in enumerate(job.files):
            if self._give(job, file, copied, names, job.folder / f"{number}.part"):
                copied += file.size_bytes
            else:
                absent.append(file.path)
        if absent:
            raise refused(f"it does not hold {', '.join(absent)}", "add a source that does")
        return 0

    def _give(
        self, job: Job, file: WeightFile, copied: int, names: dict[str, list[Path]], staged: Path
    ) -> bool:
        """Deliver the first candidate with the right bytes; a wrong one is told and left behind."""
        for path in self._candidates(job.weights, file, names):
            digest = _copy(job, file, path, staged, copied)
            try:
                job.deliver(file, staged, digest=digest)
            except DigestMismatchError as error:
                job.tell(f"{path}: {error.what}")
                continue
            return True
        return False

    def _candidates(self, weights: Weights, file: WeightFile, names: dict[str, list[Path]]) -> Iterator[Path]:
        kind, _, digest = file.digest.partition(":")
        wanted = [self.path / "blobs" / f"{kind}-{digest}"]
        wanted += [link_path(cache, weights, file) for cache in (self.path, self.path / "hub")]
        wanted += names.get(PurePosixPath(file.path).name, [])
        seen: set[Path] = set()
        for path in wanted:
            if path not in seen and path.is_file() and path.stat().st_size == file.size_bytes:
                seen.add(path)
                yield path


def _plain_files(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    depth = len(folder.parts)
    for at, folders, files in os.walk(folder):
        here = Path(at)
        if len(here.parts) - depth >= DEEPEST:
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith((".", "models--"))]
        for name in files:
            found.setdefault(name, []).append(here / name)
    return found


def _copy(job: Job, file: WeightFile, path: Path, staged: Path, before: int) -> str:
    """Copy a file to `staged` and return its digest; what is large is synced."""
    digest, done = new_hash(file.digest, file.size_bytes), 0
    with path.open("rb") as source, staged.open("wb") as target:
        while piece := source.read(COPY_BYTES):
            if job.context.stop.is_set():
                raise stopped(job.model)
            digest.update(piece)
            target.write(piece)
            done += len(piece)
            job.tell(f"copying from {path.parent}", done_bytes=before + done, total_bytes=job.size_bytes)
        if file.size_bytes > UNSYNCED_BYTES:
            target.flush()
            os.fdatasync(target.fileno())
    return digest.hexdigest()
