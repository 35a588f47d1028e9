"""How far the downloads of a run are: each and all together, from the same events. Pure but for its clock.

The terminal, the log of a run and its Prefect artifact show what stands here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.contracts import Event
from tasks.wording import gib

WINDOW_S = 10.0
"""A rate is that of the last ten seconds: long enough to stand still, short enough to be true."""
QUIET_MESSAGES = ("fetching", "copying", "pulling")
ALL = "all downloads"


@dataclass(frozen=True, slots=True)
class Row:
    """One download, or all of them. `left_s` is None where it cannot be told; `note` names a stall."""

    subject: str
    done_bytes: int
    total_bytes: int
    bytes_per_s: float
    left_s: float | None
    note: str = ""

    def __str__(self) -> str:
        """Write it as one line: "3.1 of 9.0 GiB, 41.2 MiB/s, 2 min 20 s left"."""
        rate = f", {gib(int(self.bytes_per_s))}/s" if self.bytes_per_s else ""
        left = "" if self.left_s is None else f", {span(self.left_s)} left"
        return f"{gib(self.done_bytes)} of {gib(self.total_bytes)}{rate}{left}" + (
            f", {self.note}" if self.note else ""
        )

    @property
    def percent(self) -> float:
        """How much of it is there, from 0 to 100."""
        return 100.0 * self.done_bytes / self.total_bytes if self.total_bytes else 0.0


@dataclass
class _Download:
    """One download as its events told it."""

    done_bytes: int = 0
    total_bytes: int = 0
    note: str = ""
    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def rate(self, now: float) -> float:
        while len(self.seen) > 1 and now - self.seen[0][0] > WINDOW_S:
            self.seen.popleft()
        at, done = self.seen[0] if self.seen else (now, self.done_bytes)
        return max(0.0, (self.done_bytes - done) / (now - at)) if now - at > 0.5 else 0.0  # noqa: PLR2004  # s


class Tally:
    """Counts events that carry bytes. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._all: dict[str, _Download] = {}

    def take(self, event: Event) -> None:
        """Count one event; those without bytes are passed over."""
        if not event.total_bytes:
            return
        with self._lock:
            one = self._all.setdefault(event.subject, _Download())
            one.done_bytes = min(event.done_bytes, event.total_bytes)
            one.total_bytes = event.total_bytes
            one.note = "" if event.message.startswith(QUIET_MESSAGES) else event.message
            one.seen.append((self._clock(), one.done_bytes))

    def row(self, subject: str) -> Row:
        """Return one download.

        Raises:
            KeyError: it was not heard of.
        """
        with self._lock:
            return self._row(subject, self._all[subject])

    def rows(self) -> tuple[Row, ...]:
        """Return every download, in the order in which they began."""
        with self._lock:
            return tuple(self._row(subject, one) for subject, one in self._all.items())

    def total(self) -> Row:
        """Return all downloads together."""
        rows = self.rows()
        done, total = sum(row.done_bytes for row in rows), sum(row.total_bytes for row in rows)
        rate = sum(row.bytes_per_s for row in rows if row.done_bytes < row.total_bytes)
        left = (total - done) / rate if rate else None
        stalled = [row for row in rows if row.note and row.done_bytes < row.total_bytes]
        note = stalled[0].note if stalled and not rate else ""
        return Row(ALL, done, total, rate, left if done < total else None, note)

    def _row(self, subject: str, one: _Download) -> Row:
        rate = one.rate(self._clock()) if one.done_bytes < one.total_bytes else 0.0
        left = (one.total_bytes - one.done_bytes) / rate if rate else None
        return Row(subject, one.done_bytes, one.total_bytes, rate, left, one.note)


def span(seconds: float) -> str:
    """Write a time as people say it: "45 s", "2 min 20 s", "3 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:  # noqa: PLR2004  # a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004  # an hour
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
