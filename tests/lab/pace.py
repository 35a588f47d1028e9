"""Holds senders back to a rate, each alone or all together."""

from __future__ import annotations

import threading
import time

PIECE_BYTES = 1 << 16
PIECES_PER_S = 20


class Bucket:
    """Gives out a rate in the order in which it is asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at_s = 0.0

    def take(self, count: int, bytes_per_s: float | None) -> float:
        """Book `count` bytes and return the seconds to wait before they may be sent."""
        if not bytes_per_s:
            return 0.0
        with self._lock:
            now_s = time.monotonic()
            start_s = max(self._free_at_s, now_s)
            self._free_at_s = start_s + count / bytes_per_s
            return start_s - now_s


def piece_bytes(*rates: float | None) -> int | None:
    """Return how much to send at a time so that the slowest rate flows; None when nothing holds back."""
    limits = [rate for rate in rates if rate]
    return max(1, min(PIECE_BYTES, int(min(limits) / PIECES_PER_S))) if limits else None
