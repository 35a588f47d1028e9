"""How requests of a port ended, counted by the hour and by a word in the answer. Nothing waits for it.

The word stands in the answer's body between a text that the table names (`mark`) and the next quotation mark.
It is looked for in the parts as they pass, and no part is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from starlette.types import Message, Send

HOURS = 25
LONGEST_WORD = 200
MOST_KEYS = 4096
"""Chosen. What is counted comes from the configs of one host, which have a few dozen words."""


class Tally(msgspec.Struct, frozen=True):
    """How many requests ended so. `hour` is UTC ("2026-11-25T17"); `word` is "" where an answer had none."""

    hour: str
    backend: str
    word: str
    status: int
    requests: int


class Tallies:
    """What one port counted in the last hours."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._counts: Counter[tuple[str, str, str, int]] = Counter()
        self._hour = ""

    def add(self, backend: str, word: str, status: int) -> None:
        """Count one request that ended."""
        hour = _hour(self._clock())
        if hour != self._hour:
            self._hour = hour
            oldest = _hour(self._clock() - HOURS * 3600)
            self._counts = Counter({key: value for key, value in self._counts.items() if key[0] > oldest})
        key = (hour, backend, word, status)
        if key in self._counts or len(self._counts) < MOST_KEYS:
            self._counts[key] += 1

    def all(self) -> tuple[Tally, ...]:
        """Return what was counted."""
        return tuple(Tally(*key, requests) for key, requests in sorted(self._counts.items()))


class Watched:
    """An answer on its way to the client. `done` counts it."""

    def __init__(self, send: Send, mark: str) -> None:
        self._send = send
        self._mark = mark.encode()
        self._tail = b""
        self.word = ""
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """Look at a message, and hand it on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not self.word:
            self._look(message.get("body", b""))
        await self._send(message)

    def _look(self, part: bytes) -> None:
        text = self._tail + part
        at = text.find(self._mark)
        if at < 0:
            self._tail = text[-len(self._mark) :]
            return
        word, quoted, _ = text[at + len(self._mark) :].partition(b'"')
        if quoted:
            self.word = word[:LONGEST_WORD].decode(errors="replace")
        self._tail = text[at : at + len(self._mark) + LONGEST_WORD]


def _hour(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H}"
