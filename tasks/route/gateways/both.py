"""Gateways of two kinds side by side: new ones are of one kind, those of the other are found and ended too.

A host changes its kind where an engine comes or goes. The gateway in use is then of the other kind until the
next rollout has switched to a new one.
"""

from __future__ import annotations

from tasks.errors import RouteError
from tasks.route.gateways.contract import Gateways, Generation, Instance


class BothGateways:
    """Gateways of the kind `new`, beside those of the kind `old` that are still there."""

    def __init__(self, new: Gateways, old: Gateways) -> None:
        self._new = new
        self._old = old

    @property
    def kind(self) -> str:
        """The kind of those that are started."""
        return self._new.kind

    def prepare(self) -> None:
        """Get what is missing to start one.

        Raises:
            ServeError: it cannot be had.
        """
        self._new.prepare()

    def instances(self) -> tuple[Instance, ...]:
        """Return every gateway of both kinds; of two with one generation, the new kind's."""
        mine = self._new.instances()
        names = {one.generation for one in mine}
        return (*mine, *(one for one in self._others() if one.generation not in names))

    def start(self, generation: Generation, *, deadline_s: float) -> Instance:
        """Start a gateway of the new kind, and end one of that generation of the other kind behind it.

        Raises:
            RouteError: see `Gateways`.
        """
        made = self._new.start(generation, deadline_s=deadline_s)
        if any(one.generation == generation.name for one in self._others()):
            self._old.stop(generation.name)
        return made

    def stop(self, generation: str) -> None:
        """End a gateway, of whichever kind."""
        self._new.stop(generation)
        if any(one.generation == generation for one in self._others()):
            self._old.stop(generation)

    def log_tail(self, generation: str) -> str:
        """Return the last lines of a gateway, of the kind that it has."""
        other = any(one.generation == generation for one in self._others())
        there = any(one.generation == generation for one in self._new.instances())
        return (self._old if other and not there else self._new).log_tail(generation)

    def _others(self) -> tuple[Instance, ...]:
        """Return those of the other kind; an engine that is away has none that run."""
        try:
            return self._old.instances()
        except RouteError:
            return ()
