"""A real host for the route stage; and, as a program, one rollout that is killed at a step.

python -m tests.lab.rollout_once STATE PORT KIND STEP AFTER_S SERVER...

STEP is one of the journal's; the process kills itself that many seconds after it is written down, and goes on
meanwhile. SERVER is the address of a model server (see `order`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts import PlannedRoute, RouteTier
from tasks.effects.http import Httpx
from tasks.effects.supervisord import Supervisord
from tasks.route import journal as journals
from tasks.route.context import Order, RouteContext
from tasks.route.gateways.process import WheelGateways
from tasks.route.journal import Journal
from tasks.route.proxy.choose import choose
from tasks.route.proxy.contract import Door
from tasks.route.proxy.haproxy_starter import found
from tasks.route.rollout import roll_out
from tests.lab.verified import verified_server


@dataclass(frozen=True)
class Host:
    """A state folder with a supervisor, and the port of its gateway. `kind` is "haproxy" or "front"."""

    state: Path
    port: int
    kind: str

    @property
    def chat(self) -> str:
        """Where clients chat."""
        return f"http://127.0.0.1:{self.port}/openai/v1/chat/completions"

    @property
    def folder(self) -> Path:
        """Where the gateway's configs are."""
        return self.state / "gateway"

    def context(self, supervisor: Supervisord, http: Httpx, **changes: Any) -> RouteContext:  # noqa: ANN401
        """Return what a rollout needs."""
        door = Door(self.port)
        proxy = choose(
            door,
            self.folder / "proxy",
            supervisor,
            sys.executable,
            haproxy=found() if self.kind == "haproxy" else None,
        )
        gateways = WheelGateways(supervisor, http, sys.executable, finish_s=5)
        values = {"env_file": self.state / "pmoves.env", "watch_s": 0.5, "drain_s": 20.0, **changes}
        return RouteContext(proxy, gateways, http, self.folder, door, **values)

    @contextlib.contextmanager
    def up(self, **changes: Any) -> Iterator[RouteContext]:  # noqa: ANN401
        """Give what a rollout needs, and end all that it started."""
        supervisor, http = Supervisord(self.state), Httpx()
        context = self.context(supervisor, http, **changes)
        try:
            yield context
        finally:
            context.proxy.stop()
            http.close()
            supervisor.shutdown()


def order(*servers: str) -> Order:
    """Return what serves the first server as the function `chat`, and an embedding model on each."""
    verified = [verified_server("talker", base_url=servers[0], role="llm")]
    verified += [verified_server(f"m{number}", base_url=one) for number, one in enumerate(servers)]
    tiers = (RouteTier("local", "local", "talker"),)
    route = PlannedRoute("chat", "chat", "llm", "talks", tiers, max_tokens=2048)
    return Order(tuple(verified), (route,))


def main(arguments: Sequence[str]) -> None:
    """Roll out, and be killed."""
    state, port, kind, step, after_s, *servers = arguments
    host, write = Host(Path(state), int(port), kind), journals.write

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def written(folder: Path, journal: Journal) -> None:
        write(folder, journal)
        if journal.step == step:
            if not float(after_s):
                kill()
            threading.Timer(float(after_s), kill).start()

    journals.write = written
    roll_out(order(*servers), host.context(Supervisord(host.state), Httpx()))
    threading.Event().wait(10)


if __name__ == "__main__":
    main(sys.argv[1:])
