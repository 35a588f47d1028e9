"""A file that is not whole yet, on disk: its bytes, and a journal of which of them are there.

    <folder>/<digest>.part       the bytes, sparse
    <folder>/<digest>.journal    one line of JSON, padded to HEADER_BYTES, then one byte a block:
                                 0 absent, 1 written, 2 written and synced

The journal is written after the bytes. A process that is killed loses nothing of what it wrote, for the
pages belong to the kernel; after a power loss (another boot id) only synced blocks count.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from tasks.pull.fetch.blocks import ABSENT, BLOCK_BYTES, SYNCED, WRITTEN, Run, count, held_bytes

HEADER_BYTES = 4096
_AS_SYNCED = bytes([ABSENT, SYNCED, SYNCED]).ljust(256, b"\0")
_MERGED = bytes([ABSENT, WRITTEN, SYNCED, SYNCED]).ljust(256, b"\0")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what changes with every start of the machine; "" where there is no such thing."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def journal_of(part: Path) -> Path:
    """Return where the journal of a part file lies."""
    return part.with_suffix(".journal")


def discard(part: Path) -> None:
    """Remove a part file and its journal."""
    for path in (journal_of(part), part):
        path.unlink(missing_ok=True)


class Partial:
    """An open part file. Threads may share it; one process at a time (the store's lock sees to that)."""

    def __init__(self, part: Path, *, size_bytes: int, digest: str) -> None:
        """Open `part`, or make it anew where it does not belong to these bytes.

        Raises:
            OSError: the file system says no.
        """
        self.path = part
        self.size_bytes = size_bytes
        self._head = {"version": 1, "size_bytes": size_bytes, "digest": digest, "block_bytes": BLOCK_BYTES}
        self._lock = threading.Lock()
        part.parent.mkdir(parents=True, exist_ok=True)
        known = _read(part, self._head)
        self.states = bytearray(count(size_bytes)) if known is None else known
        if known is None:
            discard(part)
        self._data = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(self._data, size_bytes)
            self._journal = os.open(journal_of(part), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            os.close(self._data)
            raise
        self._open = True
        self._resets = 0
        self._write_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def held_bytes(self) -> int:
        """How many bytes are there."""
        return held_bytes(self.states, self.size_bytes)

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes; they count only once `mark` says so."""
        while data:
            written = os.pwrite(self._data, data, offset)
            data, offset = data[written:], offset + written

    def mark(self, run: Run) -> None:
        """Note that the blocks of a run are there."""
        row = bytes([WRITTEN]) * (run[1] - run[0])
        with self._lock:
            if self._open:
                os.pwrite(self._journal, row, HEADER_BYTES + run[0])
                self.states[run[0] : run[1]] = row

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read bytes back, and return how many."""
        return os.preadv(self._data, [buffer], offset)

    def sync(self) -> None:
        """Make what is written so far survive a power loss.

        Takes as long as the disk does, and holds up neither writers nor `close` meanwhile.
        """
        with self._lock:
            if not self._open:
                return
            # A copy of the descriptor: the number may be another file's once this one is closed.
            seen, resets, data = bytes(self.states), self._resets, os.dup(self._data)
        try:
            os.fdatasync(data)
        finally:
            os.close(data)
        with self._lock:
            if self._open and resets == self._resets:
                self.states[:] = _raised(self.states, seen)
                os.pwrite(self._journal, self.states, HEADER_BYTES)

    def reset(self) -> None:
        """Forget all bytes."""
        with self._lock:
            self._resets += 1
            self.states[:] = bytes(len(self.states))
            if self._open:
                os.pwrite(self._journal, self.states, HEADER_BYTES)

    def close(self) -> None:
        """Close both files; what is there stays for the next process."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._data)
                os.close(self._journal)

    def _write_all(self) -> None:
        head = json.dumps({**self._head, "boot_id": boot_id()}).encode().ljust(HEADER_BYTES - 1) + b"\n"
        try:
            # The head last: with a new boot id, it vouches for what is only written.
            os.pwrite(self._journal, self.states, HEADER_BYTES)
            os.pwrite(self._journal, head, 0)
            os.ftruncate(self._journal, HEADER_BYTES + len(self.states))
        except OSError:
            self.close()
            raise


def peek_bytes(part: Path) -> int:
    """Return how many bytes a part file holds by its journal, without opening it for writing."""
    found = _load(part)
    return 0 if found is None else held_bytes(found[1], int(str(found[0]["size_bytes"])))


def _read(part: Path, head: dict[str, object]) -> bytearray | None:
    """Return the states that the journal of `part` keeps, or None where it is not about these bytes."""
    found = _load(part)
    if found is None or any(found[0].get(key) != value for key, value in head.items()):
        return None
    return found[1]


def _load(part: Path) -> tuple[dict[str, object], bytearray] | None:
    """Return the head of a journal and the states that count; None where it does not fit its part file."""
    with suppress(OSError, ValueError, RecursionError):
        raw = journal_of(part).read_bytes()
        head, states = json.loads(raw[:HEADER_BYTES]), bytearray(raw[HEADER_BYTES:])
        size_bytes = head.get("size_bytes") if isinstance(head, dict) else None
        if type(size_bytes) is not int or part.stat().st_size != size_bytes:
            return None
        if len(states) != count(size_bytes) or not set(states) <= {ABSENT, WRITTEN, SYNCED}:
            return None
        if head.get("boot_id") != boot_id():
            states = states.replace(bytes([WRITTEN]), bytes([ABSENT]))
        return head, states
    return None


def _raised(states: bytearray, synced: bytes) -> bytes:
    """Return `states`, with those synced that were there in `synced`."""
    both = int.from_bytes(states, "little") | int.from_bytes(synced.translate(_AS_SYNCED), "little")
    return both.to_bytes(len(states), "little").translate(_MERGED)
