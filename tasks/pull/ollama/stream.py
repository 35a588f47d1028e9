"""What Ollama says while it pulls, line by line -> how far it is. Pure.

    {"status":"pulling manifest"}
    {"status":"pulling a1355e63702d","digest":"sha256:<64>","total":314572800,"completed":10747904}
    {"status":"verifying sha256 digest"}
    {"status":"writing manifest"}
    {"status":"success"}                  or, at any place, {"error":"..."}; then the answer ends

Layers come one after another, the config last. A layer that was there already has one line with
`completed` equal to `total`, which is then its size on disk; one that arrives within a tick has none, and
the last line of any other is short of its total. So a layer is complete when a later one is named, and a
model when `success` is said. Both counts are left out when they are 0. While a transfer stands still the
lines go on with the same count, so silence is no sign of a stall, and no silence none of progress.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tasks.errors import SourceUnavailableError
from tasks.pull.ollama.faults import INTACT, explain

SUCCESS = "success"
AFTER_THE_LAST_LAYER = frozenset({"verifying sha256 digest", "writing manifest", SUCCESS})
LONGEST_LINE_BYTES = 1 << 20
MOST_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is. `moved` says whether this line brought it further than any before it."""

    status: str
    done_bytes: int
    total_bytes: int
    moved: bool
    verifying: bool = False
    ended: bool = False


class PullStream:
    """The answer to one pull request of `tag`, fed line by line.

    `sizes` are the manifest's layers in its order, by digest (64 hex digits); `before` is what Ollama has
    of each already, where that is known. `fetched_bytes` counts what was fetched since, as Ollama tells it.
    """

    def __init__(self, tag: str, sizes: Mapping[str, int], before: Mapping[str, int] | None = None) -> None:
        self._tag = tag
        self._sizes = dict(sizes)
        self._order = {digest: place for place, digest in enumerate(self._sizes)}
        self._known = set(before or {})
        self._have = {digest: min((before or {}).get(digest, 0), size) for digest, size in sizes.items()}
        self._other: dict[str, int] = {}
        self._named: set[tuple[str, str]] = set()
        self._best = -1
        self._status = ""
        self._ended = False
        self.fetched_bytes = 0

    @property
    def have(self) -> Mapping[str, int]:
        """How many bytes Ollama has of each layer, as far as that is known."""
        return {digest: count for digest, count in self._have.items() if digest in self._known}

    def feed(self, line: bytes) -> Progress:
        """Take one line in; one that is no JSON object changes nothing.

        Raises:
            ProvisionError: the line is an error; the class says whether another try may help.
        """
        said = _object(line)
        if not self._ended and isinstance(error := said.get("error"), str) and error:
            raise explain(error, self._tag)
        if self._ended or not isinstance(status := said.get("status"), str):
            return self._progress(moved=False)
        self._status = status
        digest = _text(said, "digest").removeprefix("sha256:")
        if digest in self._sizes:
            self._layer(digest, _count(said, "completed"), _count(said, "total"))
        elif digest and len(self._other) < MOST_STEPS:
            self._other[digest] = _count(said, "completed")
        elif status in AFTER_THE_LAST_LAYER:
            self._complete(len(self._sizes))
        self._ended = status == SUCCESS
        return self._progress(moved=self._is_new(status, digest))

    def end(self) -> None:
        """Take in that the answer has ended.

        Raises:
            SourceUnavailableError: it ended without success.
        """
        if not self._ended:
            where = f' at "{self._status}"' if self._status else ""
            raise SourceUnavailableError(
                f"Ollama broke off the pull of {self._tag}{where}", INTACT, "run it again to go on"
            )

    def _layer(self, digest: str, completed: int, total: int) -> None:
        self._complete(self._order[digest])
        size = self._sizes[digest]
        now = size if completed == total > 0 else min(completed, size)
        # The first line of a layer that nothing was known of: complete means that it was there before.
        if now < size or digest in self._known:
            self.fetched_bytes += max(0, now - self._have[digest])
        self._have[digest] = now
        self._known.add(digest)

    def _complete(self, place: int) -> None:
        """Count the layers before this place as complete."""
        for digest, at in self._order.items():
            if at < place:
                self.fetched_bytes += self._sizes[digest] - self._have[digest]
                self._have[digest] = self._sizes[digest]
                self._known.add(digest)

    def _is_new(self, status: str, digest: str) -> bool:
        step = (status, digest)
        new = step not in self._named and len(self._named) < MOST_STEPS
        if new:
            self._named.add(step)
        counted = sum(self._have.values()) + sum(self._other.values())
        further = counted > self._best
        self._best = max(self._best, counted)
        return new or further

    def _progress(self, *, moved: bool) -> Progress:
        total_bytes = sum(self._sizes.values())
        return Progress(
            status=self._status,
            done_bytes=min(total_bytes, sum(self._have.values()) + sum(self._other.values())),
            total_bytes=total_bytes,
            moved=moved,
            verifying=self._status in AFTER_THE_LAST_LAYER,
            ended=self._ended,
        )


class Lines:
    """Pieces of an answer -> its lines. One that is longer than any sane line is dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._too_long = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the lines that `piece` completes."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            if not self._too_long:
                yield line
            self._too_long = False
        if len(self._rest) > LONGEST_LINE_BYTES:
            self._rest, self._too_long = b"", True

    def end(self) -> Iterator[bytes]:
        """Yield what stands after the last line end."""
        if self._rest and not self._too_long:
            yield self._rest
        self._rest = b""


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""


def _count(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
