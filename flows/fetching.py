"""Weights from their sources, for commands that fetch without a run: resolve, hold against disks, pull."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from flows import weights
from flows.settings import Settings
from flows.wants import Wants
from tasks.contracts import Downloads, HostFacts, PlannedModel, PulledModel, Sink
from tasks.errors import StateFolderError, StoppedError
from tasks.pull import origins
from tasks.pull.resolve.lock import Moved, Pins, key
from tasks.pull.resolve.resolve import Resolved, resolve_all, update
from tasks.pull.resolve.verdict import Demand, demands, require

if TYPE_CHECKING:
    from tasks.pull.export import Exported

AT_ONCE = 4
"""Models that are fetched side by side; connections are shared by all."""
T = TypeVar("T")


def exported(models: Sequence[PlannedModel]) -> tuple[Exported, ...]:
    """Return what an export of models holds."""
    from tasks.pull.export import Exported  # noqa: PLC0415  # only one command exports

    return tuple(Exported(key(one), one.weights, None if one.weights else one.ollama) for one in models)


class Fetch:
    """What the commands that ask sources have in common."""

    def __init__(
        self,
        settings: Settings,
        facts: HostFacts,
        wants: Wants,
        names: Sequence[str],
        sink: Sink,
    ) -> None:

        self.settings, self._wants = settings, wants
        self.models = weights.chosen(settings, facts, names)
        self._pins = weights.pins(settings, wants)
        self._places = weights.places(settings)
        self._ctx = weights.context(
            settings, wants, Downloads(), hub=facts.hub, sink=sink, stop=threading.Event()
        )

    def resolved(self, *, keep: bool) -> tuple[Resolved, ...]:
        """Pin every model and hold them against the disks; with `keep`, the pins count from now on."""
        found = interruptible(
            self._ctx.stop, lambda: resolve_all(self.models, self._pins, self._places, self._ctx)
        )
        if keep:
            require(demands(found))
            self._kept(self._pins.save)
        return found

    def demands(self, resolved: Sequence[Resolved]) -> tuple[Demand, ...]:
        """Return what each disk is to take."""
        return demands(resolved)

    def pull(self, resolved: Sequence[Resolved]) -> tuple[PulledModel, ...]:
        """Fetch all, the largest first, and note that they were asked for."""
        order = sorted((one.planned for one in resolved), key=lambda one: -one.download_bytes)
        self._kept(lambda: weights.keep(self.settings, order))
        server = weights.server(self.settings)
        return interruptible(
            self._ctx.stop,
            lambda: at_once(
                self._ctx.stop, order, lambda one: origins.pull(one, self._places, server, self._ctx)
            ),
        )

    def update(self, *, shipped: bool) -> tuple[Moved, ...]:
        """Move the pins."""
        pins = Pins(weights.shipped(self.settings), weights.shipped(self.settings)) if shipped else self._pins
        found = interruptible(
            self._ctx.stop,
            lambda: at_once(
                self._ctx.stop, self.models, lambda one: update(one, pins, self._places, self._ctx)
            ),
        )
        self._kept(pins.save)
        return tuple(one for one in found if one is not None)

    def pinned(self) -> tuple[tuple[PlannedModel, str], ...]:
        """Return every model as it is pinned, and by what."""
        return tuple((self._pins.pinned(one), self._pins.by(one)) for one in self.models)

    def pinned_models(self) -> tuple[PlannedModel, ...]:
        """Return every model as it is pinned."""
        return tuple(model for model, _ in self.pinned())

    def _kept(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise StateFolderError(
                f"{error.filename or self.settings.state} cannot be written ({error.strerror})",
                "no pin was moved and nothing was downloaded",
                "give this user the right to write there, or set PMOVES_STATE to another folder",
            ) from error


def at_once(
    stop: threading.Event, models: Sequence[PlannedModel], work: Callable[[PlannedModel], T]
) -> tuple[T, ...]:
    """Do something for several models side by side; the first failure lets the others finish their own.

    Raises:
        ProvisionError: the first one that a model raised, when all have ended.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(work, one) for one in models]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            return tuple(future.result() for future in futures)
        except KeyboardInterrupt:
            stop.set()
            raise


def interruptible(stop: threading.Event, work: Callable[[], T]) -> T:
    """Let Ctrl-C set `stop`, so that threads end their connections before the command does."""
    try:
        return work()
    except KeyboardInterrupt:
        stop.set()
        raise StoppedError("stopped", "what was fetched stays to go on from", "run it again") from None
