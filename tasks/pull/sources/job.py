"""What a source is, and what it is given."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopEvent
from typing import Protocol

from tasks.contracts import Event, Reach, Sink, WeightFile, Weights, silent
from tasks.pull.child import Pairs, Patience
from tasks.pull.fetch.line import Line
from tasks.pull.fetch.web import Wires


@dataclass(frozen=True, slots=True)
class Mirror:
    """Another hub with the same files, and the token that it wants, if any."""

    name: str
    endpoint: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PullContext:
    """The outside world of a pull.

    `hub` is what detection saw of the hub; when it did not answer, the hub is not asked again.
    `environment` is added to the environment of the programs that fetch (pip, the hub client).
    `mirrors` are other hubs (a mirror, a neighbour that seeds) and `folders` are directories that may hold
    the same bytes; both are asked first. With `offline`, nothing but the folders is asked. `line` is what
    all pulls of a run share, `wires` how this host reaches others. With `rehash` every byte that is there is
    read again. A stall is given up after `quiet_s`, a program that fetches after `limit_s`.
    """

    endpoint: str = "https://huggingface.co"
    token: str | None = field(default=None, repr=False)
    hub: Reach | None = None
    mirrors: tuple[Mirror, ...] = ()
    folders: tuple[Path, ...] = ()
    offline: bool = False
    environment: Pairs = field(default=(), repr=False)
    line: Line = field(default_factory=Line)
    wires: Wires = field(default_factory=Wires)
    sink: Sink = silent
    stop: StopEvent = field(default_factory=StopEvent)
    rehash: bool = False
    tries: int = 6
    quiet_s: float = 120.0
    limit_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Job:
    """The files that one source is asked for.

    `folder` is empty, lies on the store's file system and goes away after the job; `parts` stays, for
    what is to be gone on with. `deliver` takes a file that lies whole in either, under any name, and verifies
    and installs it at once, so that a long pull that breaks off keeps the files it has. `cache` is the store.
    """

    model: str
    weights: Weights
    files: tuple[WeightFile, ...]
    folder: Path
    parts: Path
    deliver: Deliver
    context: PullContext
    cache: Path = Path()

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


class Deliver(Protocol):
    """What a job's files are handed to."""

    def __call__(self, file: WeightFile, staged: Path, *, digest: str = "") -> None:
        """Install a file; `digest` is its digest where it was computed while the bytes were written.

        Raises:
            DigestMismatchError: the bytes are wrong.
        """


class Source(Protocol):
    """A place that weights come from. Every source is as good as another: the digest decides.

    A module or an object satisfies this. Adding a source is one module and one line in `of`.
    """

    @property
    def NAME(self) -> str:  # noqa: N802  # a module's constant is one way to have it
        """How it is called in reasons."""

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
