"""One file while it is fetched: its part on disk, where its bytes are, and the digest that follows them."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from tasks.pull.fetch.blocks import ABSENT, BLOCK_BYTES, Queue, Run, span
from tasks.pull.fetch.partial import Partial
from tasks.pull.fetch.stream import Stream

SMALL_BYTES = 4 * BLOCK_BYTES
"""Up to here a file is held in memory and written once; the network is slower than starting it anew."""
HASH_BYTES = 4 << 20
FOLLOW_POLL_S = 0.01
JOIN_S = 2.0


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: memoryview | bytes, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest so far."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch: `digest` is "sha256:<64 hex>" or "git:<40 hex>" (the name of its git blob)."""

    path: str
    url: str
    size_bytes: int
    digest: str
    part: Path


def new_hash(digest: str, size_bytes: int) -> Hash:
    """Return the hash that ends in the hex digits of `digest` for the right bytes."""
    if digest.startswith("git:"):
        # git names blobs so; the hub pins small files by nothing else.
        return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    return hashlib.sha256()


@dataclass(eq=False)
class Share:
    """What one connection does: the blocks `at` to `end` of an item; another may take its tail.

    Shares never overlap, and a block that counts as there is in none of them. `lock` keeps it so: who
    shortens or cuts a share holds it, and so does its connection while it writes. So nothing is written
    late, over bytes that another connection brought or that the digest has read.
    """

    item: Item
    at: int
    end: int
    started: float = 0.0
    got_bytes: int = 0
    moved: bool = False
    cut: bool = False
    seen: tuple[float, int] = (0.0, 0)
    """When it last had got enough to count as moving, and how much that was."""
    hang_up: Callable[[], None] = lambda: None
    """Ends the connection under whoever waits for it."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    fresh: deque[memoryview] = field(default_factory=deque)
    """What was written of blocks that are not marked yet, from the first byte of block `at` on."""

    @property
    def left(self) -> int:
        """How many blocks are still to come."""
        return self.end - self.at

    @property
    def rate(self) -> float:
        """How many bytes a second it gave so far."""
        age_s = time.monotonic() - self.started
        return self.got_bytes / age_s if age_s > 0 else 0.0

    @property
    def behind(self) -> int:
        """The byte behind its last."""
        return min(self.end * BLOCK_BYTES, self.item.wanted.size_bytes)

    def write(self, data: bytes, offset: int) -> int:
        """Write what is still this share's to write, and return how many bytes that were."""
        partial = self.item.partial
        assert partial is not None  # noqa: S101  # only files that are not small come in ranges
        with self.lock:
            if self.cut:
                return 0
            mine = memoryview(data)[: max(0, self.behind - offset)]
            partial.write(mine, offset)
            self.fresh.append(mine)
            return len(mine)

    def hand_over(self, run: Run, restarts: int) -> None:
        """Give the bytes of blocks that were marked, after so many restarts, to the digest of the file."""
        first, behind = span(run, self.item.wanted.size_bytes)
        missing, pieces = behind - first, list[memoryview]()
        while missing > 0 and self.fresh:
            piece = self.fresh.popleft()
            pieces.append(piece[:missing])
            if len(piece) > missing:
                self.fresh.appendleft(piece[missing:])
            missing -= len(pieces[-1])
        if missing == 0:
            self.item.stream.offer(first, pieces, restarts)

    def keep(self, data: bytes) -> None:
        """Write a small file down, unless it is not this share's any more."""
        with self.lock:
            if not self.cut:
                self.item.keep_small(data)
                self.at = self.end

    def shorten(self, end: int) -> tuple[int, int]:
        """Give up the blocks from `end` on, and return them."""
        with self.lock:
            given, self.end = (end, self.end), end
        return given

    def give_up(self) -> None:
        """Write nothing more."""
        with self.lock:
            self.cut = True


class Item:
    """A file while it is fetched. Its queue and its counters belong to the crew's lock."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.small = wanted.size_bytes <= SMALL_BYTES
        self.started = False
        self.whole = Event()
        self.got_digest = ""
        self.error: BaseException | None = None
        self.location = ""
        self.etag = ""
        self.restarts = 0
        self.ranges = True
        self.failures = 0
        self.failed_at = 0.0
        self.hung_up = 0
        self.ready_at = 0.0
        self.busy = 0
        self.partial: Partial | None = None
        self.inherited = False
        self.stream = Stream()
        self._queue: Queue | None = None
        self._gone = Event()
        self._follower: threading.Thread | None = None

    @property
    def held_bytes(self) -> int:
        """How many bytes of it are on disk."""
        if self.small:
            return self.wanted.size_bytes if self.whole.is_set() else 0
        return self.partial.held_bytes if self.partial else 0

    @property
    def queue(self) -> Queue:
        """What nobody fetches yet; opens the part file when it is asked for first."""
        if self._queue is None:
            if self.small:
                self._queue = Queue(bytes(1))
            else:
                wanted = self.wanted
                self.partial = Partial(wanted.part, size_bytes=wanted.size_bytes, digest=wanted.digest)
                self.inherited = self.partial.held_bytes > 0
                self._queue = Queue(self.partial.states)
                name = f"digest of {wanted.path}"
                self._follower = threading.Thread(
                    target=self._follow, args=(self.partial,), name=name, daemon=True
                )
                self._follower.start()
        return self._queue

    @property
    def rightly(self) -> bool:
        """Whether the bytes have the digest that they should have."""
        return self.got_digest == self.wanted.digest.partition(":")[2]

    def marked(self, run: Run) -> None:
        """Note that the blocks of a run are on disk."""
        assert self.partial is not None  # noqa: S101  # only files that are not small are marked
        self.partial.mark(run)

    def keep_small(self, data: bytes) -> None:
        """Write a small file down, with its digest."""
        digest = new_hash(self.wanted.digest, self.wanted.size_bytes)
        digest.update(data)
        self.wanted.part.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.wanted.part.write_bytes(data)
        except OSError:
            self.wanted.part.unlink(missing_ok=True)
            raise
        self.got_digest = digest.hexdigest()
        self.whole.set()

    def restart(self) -> None:
        """Forget the bytes that came, because the source has others now."""
        assert self.partial is not None  # noqa: S101  # only files that are not small restart
        self.partial.reset()
        self._queue = Queue(self.partial.states)
        self.restarts += 1
        self.stream.restart(self.restarts)
        self.etag = self.location = ""

    def close(self) -> None:
        """Let go of the part file; what is there stays."""
        self._gone.set()
        self.stream.close()
        if self.partial is not None:
            self.partial.close()
        if self._follower is not None:
            self._follower.join(JOIN_S)

    def _follow(self, partial: Partial) -> None:
        """Read the front of the file as it grows; so the digest is there soon after the last byte."""
        try:
            if self._digest(partial):
                partial.sync()
                self.whole.set()
        except BaseException as error:  # noqa: BLE001  # a thread's error belongs to whoever waits for it
            if not self._gone.is_set():  # else it is only that the part was closed
                self.error = error
                self.whole.set()

    def _digest(self, partial: Partial) -> bool:
        buffer = memoryview(bytearray(HASH_BYTES))
        digest, at, front, restarts = self._fresh_hash(), 0, 0, self.restarts
        while at < partial.size_bytes and not self._gone.is_set():
            if restarts != self.restarts:
                digest, at, front, restarts = self._fresh_hash(), 0, 0, self.restarts
                self.stream.rejoin(0)
            if piece := self.stream.take(0 if self._readable(partial, front) > at else FOLLOW_POLL_S):
                digest.update(piece)
                at += len(piece)
                continue
            absent = partial.states.find(ABSENT, front)
            front = len(partial.states) if absent < 0 else absent
            ready = min(front * BLOCK_BYTES, partial.size_bytes)
            if at < ready and self.stream.leave():
                at = self._read_back(partial, buffer[: ready - at], at, digest)
                self.stream.rejoin(at)
        self.got_digest = digest.hexdigest()
        return not self._gone.is_set()

    @staticmethod
    def _readable(partial: Partial, front: int) -> int:
        """Return how far the file was seen to be there."""
        return min(front * BLOCK_BYTES, partial.size_bytes)

    @staticmethod
    def _read_back(partial: Partial, buffer: memoryview, at: int, digest: Hash) -> int:
        read = partial.read_into(buffer, at)
        if not read:
            raise OSError(errno.EIO, "the part file was cut short by another program", partial.path)
        digest.update(buffer[:read])
        return at + read

    def _fresh_hash(self) -> Hash:
        return new_hash(self.wanted.digest, self.wanted.size_bytes)
