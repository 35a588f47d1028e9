"""Which blocks of a file are there, and which range to ask for next. Pure.

A file is a row of blocks of `BLOCK_BYTES`; the last one may be shorter. A range is a run of blocks,
written as `(first, end)` with `end` behind the last. Ranges are handed out from the front, long at first
and shorter towards the end, so that the connections finish together and a digest that follows the
front reads what was just written.
"""

from __future__ import annotations

from collections.abc import Iterator

BLOCK_BYTES = 1 << 18
LONGEST_BLOCKS = 512
"""128 MiB: what one request asks for at most, where there is one connection."""
SHORT_BLOCKS = 64
"""16 MiB: with many connections each asks for no more, so that the front of the file keeps up."""
SHORTEST_BLOCKS = 32
"""8 MiB: less is not worth a request, unless it is all there is."""

ABSENT, WRITTEN, SYNCED = 0, 1, 2

Run = tuple[int, int]


def count(size_bytes: int) -> int:
    """Return how many blocks a file has."""
    return -(-size_bytes // BLOCK_BYTES)


def span(run: Run, size_bytes: int) -> tuple[int, int]:
    """Return the first byte of a run and the byte behind its last."""
    return run[0] * BLOCK_BYTES, min(run[1] * BLOCK_BYTES, size_bytes)


def held_bytes(states: bytes | bytearray, size_bytes: int) -> int:
    """Return how many bytes are there."""
    there = len(states) - states.count(ABSENT)
    short_last = bool(states) and states[-1] != ABSENT
    return there * BLOCK_BYTES - (count(size_bytes) * BLOCK_BYTES - size_bytes if short_last else 0)


def absent_runs(states: bytes | bytearray) -> Iterator[Run]:
    """Yield the runs of blocks that are not there, in order."""
    first = states.find(ABSENT)
    while first >= 0:
        end = first
        while end < len(states) and states[end] == ABSENT:
            end += 1
        yield first, end
        first = states.find(ABSENT, end)


class Queue:
    """The runs that nobody fetches yet."""

    def __init__(self, states: bytes | bytearray) -> None:
        self._runs = list(absent_runs(states))

    @property
    def blocks(self) -> int:
        """How many blocks wait."""
        return sum(end - first for first, end in self._runs)

    def take(self, shares: int) -> Run | None:
        """Take the next run, long enough that `shares` connections have about as much to do each."""
        if not self._runs:
            return None
        longest = max(SHORT_BLOCKS, LONGEST_BLOCKS // max(1, shares))
        wanted = min(longest, max(SHORTEST_BLOCKS, self.blocks // max(1, 2 * shares)))
        first, end = self._runs.pop(0)
        cut = min(end, first + wanted)
        if cut < end:
            self._runs.insert(0, (cut, end))
        return first, cut

    def give_back(self, run: Run) -> None:
        """Put back what was not fetched of a run."""
        if run[0] < run[1]:
            self._runs = sorted([*self._runs, run])

    def clear(self) -> None:
        """Forget all runs."""
        self._runs = []
