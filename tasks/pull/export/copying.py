"""One file of an export: hashed while it is copied, synced, and moved to its name when it is right."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, FileIO
from pathlib import Path
from threading import Event

from tasks.effects.files import sync_folder, try_lock
from tasks.errors import BusyError, DigestMismatchError, StateFolderError, StoppedError
from tasks.pull.export.disk import too_large
from tasks.pull.fetch.item import Hash, new_hash
from tasks.pull.store import short

PIECE_BYTES = 1 << 20
SYNC_BYTES = 64 << 20
"""Synced so often, that progress is true and that stopping takes seconds on a slow disk."""
LOCK, WORK = ".pmoves-export.lock", ".pmoves-export"
GONE_ON = "what was copied whole stays there"

_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes to copy. `digest` is "sha256:..." or "git:..."; `name` is how a person knows them."""

    name: str
    digest: str
    size_bytes: int
    source: Path

    @property
    def file_name(self) -> str:
        """How it is called in an export: "sha256-...", "git-..."."""
        return self.digest.replace(":", "-")


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Yield an empty folder below `folder`, on its file system; it is gone however the block ends.

    Raises:
        BusyError: another export or import holds it.
    """
    with try_lock(folder / LOCK) as held:
        if not held:
            raise BusyError(
                f"another export or import writes to {folder}", "nothing was written", "wait until it ends"
            )
        work = folder / WORK
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def is_there(path: Path, blob: Blob, stop: Event) -> bool:
    """Whether `path` holds these bytes already; reads them.

    Raises:
        StoppedError: `stop` was set.
    """
    try:
        if not path.is_file() or path.stat().st_size != blob.size_bytes:
            return False
        return digest_of(path, blob.digest, blob.size_bytes, stop) == blob.digest.partition(":")[2]
    except OSError:
        return False  # what cannot be read back is written again


def digest_of(path: Path, digest: str, size_bytes: int, stop: Event) -> str:
    """Return the hex digits of a file's digest, of the kind that `digest` is.

    Raises:
        OSError: it cannot be read.
        StoppedError: `stop` was set.
    """
    found = new_hash(digest, size_bytes)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            _go_on(stop)
            found.update(piece)
    return found.hexdigest()


def copy(blob: Blob, path: Path, work: Path, *, stop: Event, tell: Callable[[int], None]) -> None:
    """Copy a blob to `path`, where it appears whole and right or not at all.

    Args:
        blob: What to copy.
        path: Where it is to be.
        work: A folder on the same file system, for what is not whole.
        stop: Ends it within a piece of 1 MiB.
        tell: Given how many bytes of the blob are copied.

    Raises:
        DigestMismatchError: the source changed meanwhile.
        StateFolderError: the source cannot be read.
        RefusedError: the disk holds no file of that size.
        StoppedError: `stop` was set.
        OSError: the disk says no.
    """
    temporary = work / blob.file_name
    found = new_hash(blob.digest, blob.size_bytes)
    try:
        with _source(blob) as source, temporary.open("wb") as target:
            count = _pour(blob, source, target, found, stop=stop, tell=tell)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise too_large(path.parent.parent, blob.name, blob.size_bytes) from None
        raise
    if count != blob.size_bytes or found.hexdigest() != blob.digest.partition(":")[2]:
        raise DigestMismatchError(
            f"{blob.name} came as {count} bytes with {short(found.hexdigest())} instead of"
            f" {blob.size_bytes} with {short(blob.digest.partition(':')[2])}",
            GONE_ON,
            f"look at {blob.source} (`pmoves pull` fetches anew what is damaged), then run it again",
        )
    move(temporary, path)


def place(data: bytes, path: Path, work: Path) -> None:
    """Write a short file whole, in one step.

    Raises:
        OSError: the disk says no.
    """
    temporary = work / path.name
    with temporary.open("wb") as target:
        target.write(data)
        _sync(target)
    move(temporary, path)


def move(temporary: Path, path: Path) -> None:
    """Give a synced file its name, and make that survive a power loss where the file system can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(path)
    try:
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _pour(
    blob: Blob,
    source: FileIO,
    target: BufferedIOBase,
    found: Hash,
    *,
    stop: Event,
    tell: Callable[[int], None],
) -> int:
    buffer, count, synced = memoryview(bytearray(PIECE_BYTES)), 0, 0
    while (size := _read(blob, source, buffer)) and count <= blob.size_bytes:
        _go_on(stop)
        found.update(buffer[:size])
        target.write(buffer[:size])
        count += size
        if count - synced >= SYNC_BYTES:
            _sync(target)
            synced = count
        tell(count)
    _sync(target)
    return count


def _sync(target: BufferedIOBase) -> None:
    target.flush()
    os.fsync(target.fileno())


@contextmanager
def _source(blob: Blob) -> Iterator[FileIO]:
    try:
        file = blob.source.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(blob, error) from error
    with file:
        yield file


def _read(blob: Blob, source: FileIO, buffer: memoryview) -> int:
    try:
        return source.readinto(buffer) or 0
    except OSError as error:
        raise _unreadable(blob, error) from error


def _unreadable(blob: Blob, error: OSError) -> StateFolderError:
    return StateFolderError(
        f"{blob.source} ({blob.name}) cannot be read ({error.strerror or error})",
        GONE_ON,
        "look at that disk and at the rights on the file, then run it again",
    )


def _go_on(stop: Event) -> None:
    if stop.is_set():
        raise StoppedError("stopped while copying weights", GONE_ON, "run it again to go on")
