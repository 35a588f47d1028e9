"""What a source is, and what it is given."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopEvent
from typing import Protocol

from tasks.contracts import Event, Reach, Sink, WeightFile, Weights, silent
from tasks.errors import SourceRefusedError, SourceUnavailableError
from tasks.pull.child import Pairs, Patience
from tasks.pull.store import INTACT


@dataclass(frozen=True, slots=True)
class PullContext:
    """The outside world of a pull.

    `hub` is what detection saw of the hub; when it did not answer, the hub is not asked again.
    `environment` is added to the environment of the programs that fetch (pip, the hub client).
    """

    endpoint: str = "https://huggingface.co"
    token: str | None = field(default=None, repr=False)
    hub: Reach | None = None
    environment: Pairs = field(default=(), repr=False)
    sink: Sink = silent
    stop: StopEvent = field(default_factory=StopEvent)
    quiet_s: float = 120.0
    limit_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Job:
    """The files that one source is asked for.

    `folder` is empty, lies on the store's file system and goes away after the job. `deliver` takes
    a file that lies there whole, under any name, and verifies and installs it at once, so that a
    long pull that breaks off keeps the files it has.
    """

    model: str
    weights: Weights
    files: tuple[WeightFile, ...]
    folder: Path
    deliver: Callable[[WeightFile, Path], None]
    context: PullContext

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of the files that are asked for."""
        return sum(file.size_bytes for file in self.files)

    @property
    def patience(self) -> Patience:
        """How long to wait for a program that fetches."""
        return Patience(self.model, self.context.stop, self.context.quiet_s, self.context.limit_s)

    def tell(self, message: str, *, done_bytes: int = 0, total_bytes: int = 0) -> None:
        """Send an event about this job."""
        self.context.sink(Event("pull", self.model, message, done_bytes, total_bytes))


class Source(Protocol):
    """A place that weights come from. Every source is as good as another: the digest decides.

    A module satisfies this. Adding a source is one module and one entry in `SOURCES`.
    """

    NAME: str

    def room_bytes(self, weights: Weights, files: tuple[WeightFile, ...]) -> int:
        """Return the most disk that fetching `files` takes at any moment, the files included."""

    def fetch(self, job: Job) -> int:
        """Fetch the files of `job`, deliver each, and return the bytes that crossed the network.

        Raises:
            SourceUnavailableError: it does not answer or broke off; another try may help.
            SourceRefusedError: it cannot or will not give the files.
            DigestMismatchError: it gave other bytes than the pinned ones.
            StoppedError: the context's stop event was set; nothing of the source still runs.
        """


def disk_full() -> OSError:
    """Return what the file system said to a child; the pull makes its sentence once staging is gone."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def unavailable(what: str) -> SourceUnavailableError:
    """Return the error of a source that may answer later."""
    return SourceUnavailableError(what, INTACT, "check the network, then run it again")


def refused(what: str, then: str = "check the pin in the catalogue") -> SourceRefusedError:
    """Return the error of a source that will not give the files."""
    return SourceRefusedError(what, INTACT, then)
