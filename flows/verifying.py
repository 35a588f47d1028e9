"""What verifying a server needs from outside, gathered."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from flows.measured import earlier
from flows.planning import shelf
from flows.settings import Settings
from tasks.contracts import Plan, PlannedModel, RunRecord
from tasks.detect.accelerators import accelerators
from tasks.detect.root import Root
from tasks.effects.activity import activity
from tasks.effects.containers import EngineError
from tasks.effects.http import Http
from tasks.serve.context import Containers, ServeContext
from tasks.verify.check import VerifyContext

LOG_LINES = 2000


def context(
    settings: Settings,
    plan: Plan,
    model: PlannedModel,
    *,
    records: Sequence[RunRecord],
    serving: ServeContext,
    http: Http,
) -> VerifyContext:
    """Return what verifying one model needs; what its container is, is known by the time it is asked."""
    looks = _Looks(serving.containers, model.server)
    profile = shelf(settings).profiles.get(plan.profile)
    return VerifyContext(
        http,
        stop=serving.stop,
        sink=serving.sink,
        progress=(lambda: float(activity(looks.pids()))) if looks.contained else None,
        devices=lambda: accelerators(Root(Path("/"))),
        pids=looks.pids,
        log=looks.log,
        earlier=earlier(records, model),
        misplaced=profile.limits.misplaced if profile else "refuse",
        probes=settings.profiles / "probes",
    )


class _Looks:
    """Looks at the container of one server."""

    def __init__(self, containers: Containers | None, server: str) -> None:
        self._containers = containers
        self._server = server

    @property
    def contained(self) -> bool:
        """Whether it is a container: only of such the processes are known."""
        return self._containers is not None and self._server in self._containers.servers

    def pids(self) -> tuple[int, ...]:
        """Return its processes; none where it is no container, or the engine does not tell."""
        found = self._id()
        if found is None:
            return ()
        with contextlib.suppress(EngineError):
            return found[0].engine.pids(found[1])
        return ()

    def log(self) -> str:
        """Return what it printed."""
        found = self._id()
        if found is None:
            return ""
        with contextlib.suppress(EngineError):
            return found[0].engine.logs(found[1], lines=LOG_LINES)
        return ""

    def _id(self) -> tuple[Containers, str] | None:
        running = self._containers.running.get(self._server) if self._containers else None
        if self._containers is None or running is None or running.container is None:
            return None
        return self._containers, running.container.id
