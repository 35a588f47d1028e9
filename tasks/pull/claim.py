"""One pull's claim on a repository of the store: its lock, its staging folder, its room on disk."""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

from tasks.effects.files import try_lock
from tasks.errors import (
    NoRoomError,
    SourceRefusedError,
    SourceUnavailableError,
    StateFolderError,
    StoppedError,
)
from tasks.pull.store import INTACT, repo_folder
from tasks.wording import gib

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
POLL_S = 0.2
STAGING_PREFIX = ".pmoves-"


@contextmanager
def exclusive(cache: Path, repo: str, *, stop: Event, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the repository for the block; waits for another provisioner, and calls `on_wait` once.

    Raises:
        StoppedError: `stop` was set while waiting.
    """
    path = cache / ".locks" / repo_folder(cache, repo).name / "pull.lock"
    waiting = False
    while True:
        with try_lock(path) as held:
            if held:
                yield
                return
        if not waiting:
            on_wait()
            waiting = True
        if stop.wait(POLL_S):
            raise stopped(repo)


@contextmanager
def staging(cache: Path, repo: str) -> Iterator[Path]:
    """Yield an empty folder on the store's file system; it is removed however the block ends.

    Only the holder of `exclusive` may call this: whatever other staging folder there is then
    belongs to a pull that was killed, and is removed. No process id is asked, so none can lie.
    """
    repository = repo_folder(cache, repo)
    for leftover in repository.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)  # a child that is just dying may be removing it too
    folder = repository / f"{STAGING_PREFIX}{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # an empty repository is what a pull that got nothing leaves
            repository.rmdir()


def require_room(cache: Path, needed_bytes: int) -> None:
    """Raise NoRoomError unless the store's file system has `needed_bytes` free."""
    if free_bytes(cache) < needed_bytes:
        raise no_room(cache, needed_bytes)


def free_bytes(path: Path) -> int:
    """Return what a plain user may still write below `path`, which need not exist yet."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def no_room(cache: Path, needed_bytes: int) -> NoRoomError:
    """Return the error of a store that is too full."""
    what = f"the weight store {cache} needs {gib(needed_bytes)} and has {gib(free_bytes(cache))} free"
    return NoRoomError(what, INTACT, "make room there, or point the store to a larger disk")


def unavailable(what: str) -> SourceUnavailableError:
    """Return the error of a source that may answer later."""
    return SourceUnavailableError(what, INTACT, "check the network, then run it again")


def refused(what: str, then: str = "check the pin in the catalogue") -> SourceRefusedError:
    """Return the error of a source that will not give the files."""
    return SourceRefusedError(what, INTACT, then)


def stopped(subject: str) -> StoppedError:
    """Return the error of a pull that was asked to stop."""
    return StoppedError(f"stopped while pulling {subject}", INTACT, "run it again to go on")


@contextmanager
def store_errors(cache: Path, needed_bytes: int) -> Iterator[None]:
    """Turn what the file system says into an error that a person understands.

    Raises:
        NoRoomError: the disk or the quota is full.
        StateFolderError: the store cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise no_room(cache, needed_bytes) from error
        where = error.filename or cache
        raise StateFolderError(
            f"the weight store {cache} cannot be used: {error.strerror or error} ({where})",
            INTACT,
            "give this user write permission there, or point the store elsewhere",
        ) from error
