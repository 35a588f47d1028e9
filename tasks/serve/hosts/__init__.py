"""Where servers live: a process of this program, a container, or somewhere that is not ours.

Adding a kind is a file here and its entry in `HOSTS`.
"""

from __future__ import annotations

from typing import Protocol

from tasks.contracts import PlannedModel, PulledModel
from tasks.serve.context import Running, ServeContext
from tasks.serve.hosts import container, outside, process
from tasks.serve.runtimes import Speaks

__all__ = ["HOSTS", "Host", "host_of"]


class Host(Protocol):
    """A kind of place for servers."""

    def takes(self, planned: PlannedModel) -> bool:
        """Tell whether a model is served in such a place."""

    def speaks(self, planned: PlannedModel) -> Speaks:
        """Return the runtime of a model."""

    def bring_up(self, pulled: PulledModel, ctx: ServeContext) -> Running:
        """Bring up the server of a model, or keep it, and wait until it answers.

        Raises:
            ServeError: it does not start, does not stay up or does not answer in time.
            StoppedError: the run was asked to stop.
        """

    def load(self, running: Running, pulled: PulledModel, ctx: ServeContext) -> float:
        """Bring the model into memory; return the seconds that it took.

        Raises:
            ServeError: the server does not.
        """


HOSTS: tuple[Host, ...] = (outside, process, container)
"""The first that takes a model has it."""


def host_of(planned: PlannedModel) -> Host:
    """Return where a model is served."""
    return next(host for host in HOSTS if host.takes(planned))
