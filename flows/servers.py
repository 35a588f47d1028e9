"""What serving needs from outside, gathered: the engine, the front, and where everything lies.

<state>/front/             the table and the socket of the front
<state>/images.lock.json   digests of images that this host resolved
<state>/hubs/<server>/     a small cache that speaches is shown
<state>/logs/<run>/        last words of servers that died
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flows import weights
from flows.settings import LOOPBACK, Settings
from tasks.contracts import Event, HostFacts, Plan, Sink, Unknown
from tasks.detect.accelerators import accelerators
from tasks.detect.host import memory
from tasks.detect.root import Root
from tasks.effects.containers.engine import Engine, owner_of
from tasks.effects.front.control import Front
from tasks.effects.http import Http
from tasks.effects.processes import Supervisor
from tasks.effects.supervisord import Supervisord
from tasks.errors import WrongHostError
from tasks.serve.context import Containers, ServeContext
from tasks.serve.ledger import Ledger
from tasks.serve.wanted import Places

MODEL = "model-"
"""What the names of processes that serve models begin with."""

GATEWAY = ("gateway", "proxy")
"""What the names of the programs begin with that are a rollout's to start and to end."""

PORT = re.compile(r"--port (\d+)\b")


def process_ports(programs: Mapping[str, str]) -> dict[str, int]:
    """Return the ports of the processes that serve models, from what the supervisor is told of them."""
    found = {name: PORT.search(text) for name, text in programs.items() if name.startswith(MODEL)}
    return {name: int(match[1]) for name, match in found.items() if match is not None}


def gateway_programs(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return the programs of proxy and gateways, which a host that had routes keeps as a rollout left them.

    A rollout goes back by itself, and the proxy may lead to a gateway that was not there before. On a host
    that had none, they go like all else that a failed run started.
    """
    had = any(name.startswith(GATEWAY) for name in before or ())
    return tuple(name for name in {**(before or {}), **(now or {})} if had and name.startswith(GATEWAY))


def process_ender(supervisor: Supervisord) -> Callable[[int], None]:
    """Return what ends the process of an earlier plan on a port, right before a container answers there."""

    def end(port: int) -> None:
        for name, own in process_ports(supervisor.snapshot() or {}).items():
            if own == port:
                supervisor.stop(name)

    return end


def front(settings: Settings, supervisor: Supervisor) -> Front:
    """Return what keeps the stable ports of this host's servers."""
    return Front(settings.state / "front", supervisor, sys.executable)


def engine(settings: Settings) -> Engine:
    """Return the container engine of this host; it is not asked yet."""
    from tasks.effects.containers.docker import Docker  # noqa: PLC0415  # not every host has an engine

    return Docker(settings.engine, owner_of(settings.host, settings.state))


def containers(
    settings: Settings, facts: HostFacts, plan: Plan, *, supervisor: Supervisor, run: str, sink: Sink
) -> Containers | None:
    """Return what a run needs for containers; None on a host without an engine."""
    if not facts.container_engine.answers:
        return None
    _refuse_distant(settings, plan)
    asked, kept = engine(settings), front(settings, supervisor)
    ledger = Ledger(asked, kept, lambda server, text: sink(Event("serve", server, text)))
    return Containers(
        engine=asked,
        front=kept,
        ledger=ledger,
        facts=facts,
        servers={one.name: one for one in plan.servers if one.image is not None},
        models=plan.models,
        places=Places(settings.store, weights.ollama_folder(settings), settings.state),
        pins=settings.state / "images.lock.json",
        logs=settings.state / "logs" / run,
        devices=lambda: accelerators(Root(Path("/"))),
        available_bytes=_available,
    )


def near(settings: Settings) -> bool:
    """Tell whether the container engine is on this machine, by its address."""
    address = urlsplit(settings.engine)
    return address.scheme in {"unix", "npipe"} or address.hostname in LOOPBACK


def _refuse_distant(settings: Settings, plan: Plan) -> None:
    """Refuse an engine on another machine: folders and ports of this one are not there.

    Raises:
        WrongHostError: the plan has containers, and the engine is not on this host.
    """
    if not near(settings) and any(one.image is not None for one in plan.servers):
        raise WrongHostError(
            f"DOCKER_HOST is {settings.engine}, an engine on another machine, which has neither the"
            " weights nor the ports of this one",
            "nothing was downloaded or started",
            "run this on that machine, or leave DOCKER_HOST out to use the engine here",
        )


def _available() -> int | Unknown:
    return memory(Root(Path("/"))).available_bytes


def context(
    settings: Settings,
    supervisor: Supervisord,
    http: Http,
    *,
    containers: Containers | None,
    stop: threading.Event,
    sink: Sink,
) -> ServeContext:
    """Return what a run's servers need."""
    return ServeContext(
        supervisor,
        http,
        sys.executable,
        stop=stop,
        sink=sink,
        containers=containers,
        front=front(settings, supervisor),
        end_process=process_ender(supervisor),
    )
