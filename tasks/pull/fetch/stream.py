"""The front of a file on its way from the connection that writes it to its digest, past the disk.

Blocks are handed over once they are marked, for from then on their bytes on disk do not change any more: what
is hashed is what is there. Whatever does not arrive in order is read back from the disk.
"""

from __future__ import annotations

import threading
from collections import deque

MOST_BYTES = 16 << 20
"""A connection that is faster than the digest waits when this much is on its way."""
POLL_S = 0.05
NOWHERE = -1


class Stream:
    """Bytes in order, from one thread to another."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._bytes = 0
        self._next = 0
        self._restarts = 0
        self._closed = False

    def offer(self, offset: int, pieces: list[memoryview], restarts: int = 0) -> None:
        """Hand over marked bytes, if they are the next ones; waits while too much is on its way.

        `restarts` is how often the file was begun anew when they were marked: what was marked before the
        last time is not on disk any more.
        """
        with self._changed:
            while self._bytes > MOST_BYTES and offset == self._next and not self._closed:
                self._changed.wait(POLL_S)
            if offset == self._next and restarts == self._restarts and not self._closed:
                self._pieces.extend(pieces)
                size = sum(map(len, pieces))
                self._bytes += size
                self._next += size
                self._changed.notify_all()

    def take(self, timeout_s: float) -> memoryview | None:
        """Return the next bytes; None when there are none for `timeout_s`."""
        with self._changed:
            if not self._pieces and not self._closed:
                self._changed.wait(timeout_s)
            if not self._pieces:
                return None
            piece = self._pieces.popleft()
            self._bytes -= len(piece)
            self._changed.notify_all()
            return piece

    def leave(self) -> bool:
        """Take nothing more, because the next bytes are read from the disk; False where some are here."""
        with self._changed:
            if self._pieces:
                return False
            self._next = NOWHERE
            return True

    def restart(self, restarts: int) -> None:
        """Forget all, because the file is begun anew; until it is rejoined nothing is taken."""
        with self._changed:
            self._pieces.clear()
            self._bytes, self._next, self._restarts = 0, NOWHERE, restarts
            self._changed.notify_all()

    def rejoin(self, offset: int) -> None:
        """Take bytes again from `offset` on."""
        with self._changed:
            self._pieces.clear()
            self._bytes = 0
            self._next = offset
            self._changed.notify_all()

    def close(self) -> None:
        """Take nothing more, and let everybody go."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._bytes = 0
            self._changed.notify_all()
