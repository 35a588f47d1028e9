"""Files that are known by how they look: size, times and inode, as receipts keep them.

A file that was hashed by this process is remembered like that, and is not read again before it is changed.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import time
from pathlib import Path

from tasks.effects.files import CHUNK_BYTES
from tasks.pull.fetch.item import new_hash
from tasks.pull.receipts import RACY_NS, Receipt

Look = tuple[int, int, int, int]


def look(seen: os.stat_result) -> Look:
    """Return size in bytes, times in ns and inode."""
    return (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def look_of(receipt: Receipt) -> Look:
    """Return how a file looked when it was verified."""
    return (receipt.size, receipt.mtime_ns, receipt.ctime_ns, receipt.inode)


def open_file(path: Path) -> io.FileIO:
    """Open a regular file that is no link.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe that somebody put there would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = io.FileIO(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise FileNotFoundError(path)
    return file


class Known:
    """What this process hashed. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: dict[tuple[str, int, Look], str] = {}

    def digest(self, file: io.FileIO, kind: str) -> str:
        """Return the digest that an open file was seen to have, if it looks as it did then; else ""."""
        with self._lock:
            return self._digests.get(_key(file, kind), "")

    def prove(self, file: io.FileIO, digest: str) -> bool:
        """Hash an open file (1.5 GB/s here) unless its digest is known, and tell whether it is this one.

        Args:
            file: It may be read elsewhere at the same time.
            digest: "sha256:<64 hex>" or "git:<40 hex>".
        """
        kind, _, wanted = digest.partition(":")
        if known := self.digest(file, kind):
            return known == wanted
        seen = os.fstat(file.fileno())
        # A write within the same tick of the kernel's clock would not change how the file looks.
        time.sleep(min(max(0, seen.st_ctime_ns + RACY_NS - time.time_ns()), RACY_NS) / 1e9)
        key = _key(file, kind)
        found = _digest(file, digest, seen.st_size)
        if key != _key(file, kind):
            return False
        with self._lock:
            self._digests[key] = found
        return found == wanted


def _key(file: io.FileIO, kind: str) -> tuple[str, int, Look]:
    seen = os.fstat(file.fileno())
    return kind, seen.st_dev, look(seen)


def _digest(file: io.FileIO, digest: str, size_bytes: int) -> str:
    found, at = new_hash(digest, size_bytes), 0
    while piece := os.pread(file.fileno(), CHUNK_BYTES, at):
        found.update(piece)
        at += len(piece)
    return found.hexdigest()
