"""Which proxy owns the gateway's port: HAProxy as a process, HAProxy in a container, or the front.

Each has a folder of its own, and at most one of them runs. When another kind is chosen than the one that
runs, the old one gives the port up right before the new one takes it: a pause of a moment, and of the time
that its last requests need (25 s at most).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tasks.contracts import Sink, ToolImage, silent
from tasks.effects.containers.engine import Engine
from tasks.effects.processes import Supervisor
from tasks.errors import ProvisionError, RefusedError
from tasks.route.proxy.contract import Count, Door, Proxy, Target
from tasks.route.proxy.front import FrontProxy, refuse_door
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_container import ContainerStarter
from tasks.route.proxy.haproxy_starter import ProcessStarter

Mode = Literal["auto", "haproxy", "front"]
Say = Callable[[str], None]


def _silent(_text: str) -> None:
    """Say nothing."""


def _nothing() -> None:
    """Refuse nothing."""


@dataclass(frozen=True, slots=True)
class Moving:
    """A proxy that takes the place of others, which may run from an earlier time.

    Args:
        chosen: The one that is to own the port.
        others: Those of other kinds, which are asked whether they run.
        say: Hears of a pause.
        refuse: Raises what is known before to be in the way, so that nothing is stopped for it.
    """

    chosen: Proxy
    others: tuple[Proxy, ...]
    say: Say = _silent
    refuse: Callable[[], None] = _nothing

    @property
    def kind(self) -> str:
        """The name of the chosen one's kind."""
        return self.chosen.kind

    def active(self) -> Target | None:
        """Ask the one that runs, and the chosen one where none does."""
        return self._now.active()

    def runs(self) -> bool:
        """Whether one of them runs: clients do not care which."""
        return self._now.runs()

    def point(self, target: Target) -> None:
        """Point the chosen one. Another one that runs is stopped before, and is back where that fails."""
        self.refuse()
        now = self._now
        if now is self.chosen:
            self.chosen.point(target)
            return
        before = now.active()
        self.say(f"the gateway's port moves from {now.kind} to {self.chosen.kind}, with a short pause")
        now.stop()
        try:
            self.chosen.point(target)
        except ProvisionError:
            if before is not None:
                now.point(before)
            raise

    def drained(self, target: Target, timeout_s: float) -> bool:
        """Ask the one that runs."""
        return self._now.drained(target, timeout_s)

    def counts(self) -> tuple[Count, ...]:
        """Ask the one that runs."""
        return self._now.counts()

    def stop(self) -> None:
        """Stop all of them."""
        for one in (self.chosen, *self.others):
            one.stop()

    @property
    def _now(self) -> Proxy:
        return next((one for one in (self.chosen, *self.others) if one.runs()), self.chosen)


@dataclass(frozen=True, slots=True)
class InContainer:
    """What a HAProxy in a container is made of; see `ContainerStarter`."""

    engine: Engine
    image: ToolImage
    pins: Path
    stop_pull: threading.Event | None = None
    sink: Sink = silent


def choose(  # noqa: PLR0913  # what a host has
    door: Door,
    folder: Path,
    supervisor: Supervisor,
    python: str,
    *,
    haproxy: Path | None,
    container: InContainer | None = None,
    mode: Mode = "auto",
    say: Say = _silent,
) -> Proxy:
    """Return the proxy of this host: a HAProxy of the system, else one in a container, else the front.

    Args:
        door: How clients come in.
        folder: Where proxies keep their files.
        supervisor: What keeps processes up.
        python: The program that runs the front.
        haproxy: The HAProxy of the system (`haproxy_starter.found`), None for none.
        container: What a HAProxy in a container is made of, None where none can be had.
        mode: "auto", or the kind that is asked for.
        say: Hears of a pause when the kind changes.

    Raises:
        RefusedError: the kind that is asked for cannot be had.
    """
    here = folder / "haproxy"
    kinds: list[Proxy] = []
    if haproxy is not None:
        kinds.append(HaProxy(door, here, ProcessStarter(here, supervisor, haproxy)))
    if container is not None:
        there = folder / "haproxy-container"
        starter = ContainerStarter(
            there, container.engine, container.image, container.pins, container.stop_pull, container.sink
        )
        kinds.append(HaProxy(door, there, starter))
    front = FrontProxy(door, folder, supervisor, python)
    kinds.append(front)
    chosen = next((one for one in kinds if mode in {"auto", one.kind}), None)
    if chosen is None:
        raise RefusedError(
            "HAProxy is to keep the gateway's port, and this host has none, nor a container engine for it",
            "the routes in use are unchanged",
            "install it (`apt install haproxy`), or let PMOVES_PROXY be auto",
        )
    refuse = partial(refuse_door, door) if chosen is front else _nothing
    return Moving(chosen, tuple(one for one in kinds if one is not chosen), say, refuse)
