"""What all downloads of a run share: connections for each host, bandwidth, quiet hours.

One `Line` a run. It is asked before each piece that is read, so a limit holds over all models together,
and a change of the hour takes effect within a piece.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

CONNECTIONS = 16
"""Per host; what aria2 allows at most."""
PIECE_BYTES = 1 << 18
SMALLEST_PIECE_BYTES = 1 << 14
PIECES_A_SECOND = 8
BURST_S = 0.2
PAUSE_POLL_S = 0.5
WANTS_S = 1.0
"""Whoever asked for a connection in vain within this time still wants one."""


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A time of day with a limit of its own; it may go past midnight. Minutes count from midnight."""

    from_minute: int
    until_minute: int
    limit_bytes_per_s: int

    def holds(self, minute: int) -> bool:
        """Whether `minute` lies in it."""
        if self.from_minute <= self.until_minute:
            return self.from_minute <= minute < self.until_minute
        return minute >= self.from_minute or minute < self.until_minute


def limit_at(minute: int, limit: int | None, quiet: tuple[QuietHours, ...]) -> int | None:
    """Return the bytes a second that are allowed at a minute of the day; None is no limit, 0 is a pause."""
    limits = [limit, *(one.limit_bytes_per_s for one in quiet if one.holds(minute))]
    return min((one for one in limits if one is not None), default=None)


def minute_of_day() -> int:
    """Return the minutes since midnight, local time."""
    now = time.localtime()
    return now.tm_hour * 60 + now.tm_min


class Line:
    """The way out of this host."""

    def __init__(
        self,
        *,
        connections: int = CONNECTIONS,
        limit_bytes_per_s: int | None = None,
        quiet: tuple[QuietHours, ...] = (),
        minute: Callable[[], int] = minute_of_day,
    ) -> None:
        self.connections = connections
        self._limit, self._quiet, self._minute = limit_bytes_per_s, quiet, minute
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._used: Counter[str] = Counter()
        self._of: dict[str, Counter[object]] = {}
        self._paused: dict[str, float] = {}
        self._refused_at: dict[object, float] = {}

    def limit(self) -> int | None:
        """Return the bytes a second that are allowed now."""
        return limit_at(self._minute(), self._limit, self._quiet) if self._quiet else self._limit

    def piece_bytes(self) -> int:
        """Return how much to read at once: less on a slow line, so that it flows evenly."""
        limit = self.limit()
        if limit is None:
            return PIECE_BYTES
        return max(SMALLEST_PIECE_BYTES, min(PIECE_BYTES, limit // PIECES_A_SECOND))

    def take(self, size_bytes: int, stop: Event) -> None:
        """Wait until `size_bytes` may cross; returns early when `stop` is set."""
        while (limit := self.limit()) == 0:
            if stop.wait(PAUSE_POLL_S):
                return
        if limit is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST_S) + size_bytes / limit
            wait_s = self._free_at - now
        if wait_s > 0:
            stop.wait(wait_s)

    @contextmanager
    def user(self, host: str) -> Iterator[object]:
        """Register somebody who fetches from `host` for the block; yields what names it."""
        name = object()
        with self._lock:
            self._of.setdefault(host, Counter())[name] = 0
        try:
            yield name
        finally:
            with self._lock:
                self._used[host] -= self._of[host].pop(name)
                self._refused_at.pop(name, None)

    def open(self, host: str, name: object) -> bool:
        """Take a connection to `host` if there is one to take; whoever has none goes first."""
        with self._lock:
            mine = self._of[host][name]
            if self._used[host] >= self.connections or (mine > 0 and self._wanted(host, name)):
                self._refused_at[name] = time.monotonic()
                return False
            self._refused_at.pop(name, None)
            self._used[host] += 1
            self._of[host][name] += 1
            return True

    def close(self, host: str, name: object) -> None:
        """Give a connection back."""
        with self._lock:
            if self._of.get(host, Counter()).get(name, 0) > 0:
                self._used[host] -= 1
                self._of[host][name] -= 1

    def must_yield(self, host: str, name: object) -> bool:
        """Whether this user holds more than one connection while another wants one and has none."""
        with self._lock:
            full = self._used[host] >= self.connections
            return full and self._of.get(host, Counter())[name] > 1 and self._wanted(host, name)

    def _wanted(self, host: str, name: object) -> bool:
        """Whether another user than `name` has no connection and asked for one just now."""
        lately = time.monotonic() - WANTS_S
        return any(
            used == 0 and self._refused_at.get(user, lately) > lately
            for user, used in self._of.get(host, Counter()).items()
            if user is not name
        )

    def pause(self, host: str, seconds: float) -> None:
        """Ask nothing of `host` for a while, because it said so."""
        with self._lock:
            self._paused[host] = max(self._paused.get(host, 0.0), time.monotonic() + seconds)

    def paused_s(self, host: str) -> float:
        """Return how long `host` must still be left alone."""
        return max(0.0, self._paused.get(host, 0.0) - time.monotonic())
