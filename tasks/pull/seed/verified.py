"""The store as its neighbours may see it: the files whose receipts hold.

A receipt holds where the file looks as it did when it was verified (`tasks/pull/receipts.py`). That of a
small file counts until the machine starts again; after that it is not given before somebody looked at it
again, as `pmoves pull` does. Nothing is written here.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.contracts import WeightFile
from tasks.errors import CatalogueError
from tasks.pull import store
from tasks.pull.receipts import Receipt, Receipts
from tasks.pull.seed.listing import Listed
from tasks.pull.seed.looks import Look, look, look_of, open_file
from tasks.pull.seed.refusal import no_entry, no_repo, no_revision
from tasks.pull.seed.wire import is_plain

_REVISION = re.compile(r"[0-9a-f]{40}", re.ASCII)
_LONGEST_REF_BYTES = 64


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified file that is open, and how it is called. Whoever has it closes `file`."""

    file: io.FileIO
    listed: Listed


class Shelf:
    """The verified files of one store. Threads may share it."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._receipts: dict[str, tuple[Look, Receipts]] = {}

    def revision(self, repo: str, name: str) -> str:
        """Return the revision (40 hex digits) that `name` means.

        Raises:
            Refusal: there is no such repository or revision here.
        """
        folder = self._folder(repo)
        found = name if _REVISION.fullmatch(name) else _ref(folder / "refs", name)
        if not found or not (folder / "snapshots" / found).is_dir():
            raise no_revision()
        return found

    def files(self, repo: str, revision: str) -> tuple[Listed, ...]:
        """Return the verified files of a revision, in the order of their paths.

        Raises:
            Refusal: there is none.
        """
        snapshot = self._folder(repo) / "snapshots" / revision
        links = sorted(_files(str(snapshot)))
        paths = [os.path.relpath(link, snapshot) for link in links]
        found = [self._listed(repo, revision, path) for path in paths if _is_text(path)]
        if not any(found):
            raise no_revision()
        return tuple(one for one in found if one is not None)

    def open(self, repo: str, revision: str, path: str) -> Opened:
        """Open a verified file.

        Raises:
            Refusal: there is none of that name, or it is not what was verified.
        """
        with suppress(OSError, RuntimeError, ValueError):  # what the file system says of an odd path
            if is_plain(path) and (opened := self._open(repo, revision, path)):
                return opened
        raise no_entry(revision)

    def _folder(self, repo: str) -> Path:
        try:
            folder = store.repo_folder(self._cache, repo)
        except CatalogueError:
            raise no_repo() from None
        if not (folder / "snapshots").is_dir():
            raise no_repo()
        return folder

    def _listed(self, repo: str, revision: str, path: str) -> Listed | None:
        with suppress(OSError, RuntimeError, ValueError):
            if opened := self._open(repo, revision, path):
                opened.file.close()
                return opened.listed
        return None

    def _open(self, repo: str, revision: str, path: str) -> Opened | None:
        folder = self._folder(repo)
        real = (folder / "snapshots" / revision / path).resolve(strict=True)
        receipt = self._noted(repo, folder).of(real)
        if receipt is None or not self._is_inside(folder, real):
            return None
        listed = _named(path, real, receipt)
        file = open_file(real)
        # What is open now may be another file than the one that was looked at.
        if look(os.fstat(file.fileno())) != look_of(receipt):
            file.close()
            return None
        return Opened(file, listed)

    def _is_inside(self, folder: Path, real: Path) -> bool:
        """Whether a link ended where one may: with the files of its repository, or in the shared store."""
        root = folder.resolve()
        homes = (root / "blobs", root / "snapshots", self._cache.resolve() / "blobs")
        return any(real.is_relative_to(home) for home in homes)

    def _noted(self, repo: str, folder: Path) -> Receipts:
        """Return the receipts of a repository; they are read again when somebody wrote them."""
        seen = look((folder / ".pmoves/receipts.json").stat())
        with self._lock:
            if repo not in self._receipts or self._receipts[repo][0] != seen:
                self._receipts[repo] = (seen, store.receipts(self._cache, repo))
            return self._receipts[repo][1]


def _ref(refs: Path, name: str) -> str:
    """Return what a branch or a tag means here, or ""."""
    with suppress(OSError, RuntimeError, ValueError):
        path = (refs / name).resolve(strict=True)
        if is_plain(name) and path.is_relative_to(refs.resolve()):
            with open_file(path) as file:
                said = file.read(_LONGEST_REF_BYTES).decode(errors="replace").strip()
            return said if _REVISION.fullmatch(said) else ""
    return ""


def _files(folder: str) -> Iterator[str]:
    """Yield the paths of all files and links to files; links to folders are not followed."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif stat.S_ISREG(_mode(entry.path)):
                yield entry.path


def _mode(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_mode  # noqa: PTH116  # a Path for each of many files costs more than its stat
    return 0


def _is_text(path: str) -> bool:
    """Whether a name can be said in JSON."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return is_plain(path)


@lru_cache(maxsize=1 << 16)
def _named(path: str, real: Path, receipt: Receipt) -> Listed:
    """Name a file as the Hub does: a large one by its sha256, all others as git does (reads those)."""
    kind, _, digest = receipt.digest.partition(":")
    if kind != "sha256":
        return Listed(path, receipt.size, git_sha1=digest)
    pin = WeightFile(path=path, size_bytes=receipt.size, sha256=digest)
    etag = digest if real.name == digest else store.etag(real, pin)
    return Listed(path, receipt.size, **{"sha256" if etag == digest else "git_sha1": etag})
