"""Let Ollama fetch one model, and ask again when it breaks off, until it has it or nothing moves any more.

Ollama stops fetching as soon as its client is gone, and goes on where it was when asked again. So this
program stays, tells a stall from a slow line by what is counted, and asks again with growing pauses.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from time import monotonic

from tasks.contracts import Event
from tasks.errors import SourceUnavailableError
from tasks.pull.claim import stopped
from tasks.pull.ollama.api import Api
from tasks.pull.ollama.faults import INTACT
from tasks.pull.ollama.registry import Manifest, Origin
from tasks.pull.ollama.stream import Progress, PullStream
from tasks.pull.sources import PullContext

TELL_S = 0.25
STALL_TOLD_S = 20.0
SLOWEST_HASH_BYTES_PER_S = 50e6
"""What the slowest disk reads: Ollama says nothing while it hashes what it fetched."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a pull is asked for again before it fails. Every byte of progress starts the count again.

    `lost` is for broken connections, `waited` for stalls and for what Ollama itself gave up: both took their
    time already. The pauses double from `first_s` to `most_s`, each with a random half more or less.
    """

    lost: int = 8
    waited: int = 3
    first_s: float = 0.5
    most_s: float = 15.0

    def pause_s(self, tried: int) -> float:
        """Return how long to wait after the try with this number, from 1."""
        jitter = random.uniform(0.5, 1.5)  # noqa: S311  # spreads tries out; nothing secret
        return min(self.most_s, self.first_s * 2.0 ** min(tried - 1, 32)) * jitter


class Watch:
    """Follows one answer: tells how far it is, at most four times a second, and finds stalls."""

    def __init__(self, subject: str, model: str, ctx: PullContext) -> None:
        self._subject = subject
        self._model = model
        self._ctx = ctx
        self._told = self._moved = float("-inf")
        self._stall_told_s = 0.0
        self.waited = False
        """Whether the last answer ended with a stall, or with what Ollama reported after tries of its own."""

    def tell(self, message: str, *, done_bytes: int = 0, total_bytes: int = 0) -> None:
        """Send an event."""
        self._ctx.sink(Event("pull", self._model, message, done_bytes, total_bytes))

    def often(self, message: str, *, done_bytes: int, total_bytes: int) -> None:
        """Send an event, unless the last of this kind was a moment ago."""
        if (now := monotonic()) - self._told >= TELL_S:
            self._told = now
            self.tell(message, done_bytes=done_bytes, total_bytes=total_bytes)

    def follow(
        self, lines: Iterator[bytes | None], stream: PullStream, *, hashed_bytes: int = 0
    ) -> Iterator[Progress]:
        """Feed `lines` to `stream` until it has ended; yield how far it is after each.

        Args:
            lines: The answer.
            stream: What counts it.
            hashed_bytes: What Ollama may read or copy at any step without a word.

        Raises:
            SourceUnavailableError: nothing moved for too long, or the answer broke off.
            ProvisionError: what Ollama reported.
        """
        self._moved, self._stall_told_s, self.waited = monotonic(), 0.0, False
        progress = Progress("", 0, 0, moved=False)
        for line in lines:
            if line is not None:
                progress = self._fed(stream, line)
                yield progress
                if progress.ended:
                    return
            self._check(progress, hashed_bytes)
        stream.end()

    def _fed(self, stream: PullStream, line: bytes) -> Progress:
        try:
            progress = stream.feed(line)
        except SourceUnavailableError:
            self.waited = True
            raise
        if progress.moved:
            self._moved, self._stall_told_s = monotonic(), 0.0
        if not self._stall_told_s:
            self.often(progress.status, done_bytes=progress.done_bytes, total_bytes=progress.total_bytes)
        return progress

    def _check(self, progress: Progress, hashed_bytes: int) -> None:
        quiet_s, limit_s = monotonic() - self._moved, self._ctx.quiet_s
        silent_bytes = progress.total_bytes if progress.verifying else hashed_bytes
        limit_s += silent_bytes / SLOWEST_HASH_BYTES_PER_S
        if not silent_bytes and quiet_s >= self._stall_told_s + min(STALL_TOLD_S, limit_s):
            self._stall_told_s = quiet_s
            said = f"stalled: no byte for {quiet_s:.0f} s"
            self.tell(said, done_bytes=progress.done_bytes, total_bytes=progress.total_bytes)
        if quiet_s > limit_s:
            self.waited = True
            raise SourceUnavailableError(
                f"{self._subject} stalled: no byte for {limit_s:g} s",
                INTACT,
                "check the network of the Ollama server, then run it again to go on",
            )


class Transfer:
    """One model that Ollama fetches. `fetched_bytes` counts over all tries, as Ollama tells it."""

    def __init__(
        self, api: Api, manifest: Manifest, where: Origin, watch: Watch, ctx: PullContext, retry: Retry
    ) -> None:
        self._api = api
        self._manifest = manifest
        self._where = where
        self._watch = watch
        self._ctx = ctx
        self._retry = retry
        self._lost = self._waited = 0
        self._best = 0
        self._have: Mapping[str, int] = {}
        self.fetched_bytes = 0

    def run(self, before: Mapping[str, int]) -> None:
        """Fetch the model; `before` says how many bytes of each blob Ollama has, where that is known.

        Raises:
            SourceUnavailableError: it did not get further in several tries.
            ProvisionError: what Ollama reported.
            StoppedError: the context's stop event was set; Ollama has stopped too, and keeps what it has.
        """
        self._have, self._best = before, sum(before.values())
        while True:
            best = self._best
            try:
                self._try()
            except SourceUnavailableError as error:
                self._count(error, further=self._best > best)
                self._pause(error)
            else:
                return

    def _try(self) -> None:
        stream = PullStream(str(self._manifest.name), self._manifest.sizes, self._have)
        asked = self._api.pull(str(self._where.remote), insecure=self._where.insecure)
        try:
            with closing(asked) as lines:
                for progress in self._watch.follow(lines, stream):
                    self._best = max(self._best, progress.done_bytes)
        finally:
            self.fetched_bytes += stream.fetched_bytes
            self._have = stream.have

    def _count(self, error: SourceUnavailableError, *, further: bool) -> None:
        """Count one more try, and give up after too many without progress."""
        if further:
            self._lost = self._waited = 0
        self._waited += self._watch.waited
        self._lost += not self._watch.waited
        if self._waited >= self._retry.waited or self._lost >= self._retry.lost:
            raise error

    def _pause(self, error: SourceUnavailableError) -> None:
        pause_s = self._retry.pause_s(self._lost + self._waited)
        self._watch.tell(f"{error.what}, so it is asked again in {pause_s:.1f} s")
        if self._ctx.stop.wait(pause_s):
            raise stopped(str(self._manifest.name))
