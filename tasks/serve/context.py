"""What starting servers needs from outside, and what one run remembers of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import (
    Accelerator,
    Change,
    ContainerState,
    Event,
    HostFacts,
    PlannedModel,
    PlannedServer,
    ProcessState,
    ServerLog,
    Sink,
    Unknown,
    silent,
)
from tasks.effects.containers.engine import Engine
from tasks.effects.containers.info import EngineInfo
from tasks.effects.front.control import StablePorts
from tasks.effects.http import Http
from tasks.effects.processes import Supervisor
from tasks.errors import ProvisionError, StoppedError
from tasks.serve.ledger import Ledger
from tasks.serve.wanted import Places

GATEWAY = "gateway"
"""What the server labels of the gateway's own containers begin with. They are the route stage's to end."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs and answers its health path; its models may still have to be loaded.

    `root_url` is its own address, without the front. `container` is None for what is no container of ours.
    """

    name: str
    root_url: str
    change: Change
    process: ProcessState
    image: str = ""
    container: ContainerState | None = None


def _nobody_ends(_port: int) -> None:
    pass


def _nobody_looked() -> Unknown:
    return Unknown("nobody looked")


class Containers:
    """The containers of one host, for one run: the engine, the plan, and what was found and done so far.

    It is no dataclass: Prefect walks through the fields of those that tasks are given, while others change
    these.

    Args:
        engine: The engine.
        front: Who has the stable ports.
        ledger: What is done is noted there.
        facts: What was seen of the host.
        servers: The servers of the plan that are containers, by name.
        models: All models of the plan.
        places: Where weights lie.
        pins: The file that keeps the digests of images.
        logs: The folder for the last words of servers.
        devices: Looks at the cards again: free memory decides whether a server is swapped side by side.
        available_bytes: The same for main memory.

    Attributes:
        running: Servers that were brought up, by name.
        claimed: What servers will take of devices and do not hold yet, by server.
        failed: Servers that did not come up: their other models do not try again.
        ports: Those that were given to containers in this run.
        died: Why servers died.
        lock: Held for moments.
        making_room: Held while containers are stopped for others, which takes long.
    """

    def __init__(  # noqa: PLR0913  # the outside world of a run
        self,
        *,
        engine: Engine,
        front: StablePorts,
        ledger: Ledger,
        facts: HostFacts,
        servers: Mapping[str, PlannedServer],
        models: tuple[PlannedModel, ...],
        places: Places,
        pins: Path,
        logs: Path,
        devices: Callable[[], tuple[Accelerator, ...] | Unknown] = _nobody_looked,
        available_bytes: Callable[[], int | Unknown] = _nobody_looked,
    ) -> None:
        self.engine = engine
        self.front = front
        self.ledger = ledger
        self.facts = facts
        self.servers = servers
        self.models = models
        self.places = places
        self.pins = pins
        self.logs = logs
        self.devices = devices
        self.available_bytes = available_bytes
        self.running: dict[str, Running] = {}
        self.claimed: dict[str, dict[str, int]] = {}
        self.failed: dict[str, ProvisionError] = {}
        self.ports: set[int] = set()
        self.died: list[ServerLog] = []
        self.lock = threading.RLock()
        self.making_room = threading.RLock()
        self._listed: dict[str, ContainerState] | None = None
        self._info: EngineInfo | None = None
        self._locks: dict[str, threading.RLock] = {}

    def listed(self) -> dict[str, ContainerState]:
        """Return our model servers by container name, as one look at the beginning of the run found them."""
        with self.lock:
            if self._listed is None:
                found = self.engine.containers()
                self._listed = {one.name: one for one in found if not one.server.startswith(GATEWAY)}
            return self._listed

    def forget(self) -> None:
        """Look again the next time: what was found is not so any more."""
        with self.lock:
            self._listed = None

    def info(self) -> EngineInfo:
        """Return what the engine says of itself; it is asked once."""
        with self.lock:
            if self._info is None:
                self._info = self.engine.info()
            return self._info

    def members(self, server: str) -> tuple[PlannedModel, ...]:
        """Return the models of a server, in the order of the plan."""
        return tuple(one for one in self.models if one.server == server)

    def lock_of(self, server: str) -> threading.RLock:
        """Return the lock that whoever brings up a server holds."""
        with self.lock:
            return self._locks.setdefault(server, threading.RLock())


@dataclass(frozen=True, slots=True)
class ServeContext:
    """What starting a server needs from outside. Without `containers`, only processes are started.

    `deadline_s` is the time to load that every server has, whatever its size; `patience_s` what one that
    runs already may take to answer; `quiet_s` how long one that loads may do nothing at all. `front` has the
    stable ports, also where no engine answers; `end_process` ends the process of an earlier plan on a port.
    """

    supervisor: Supervisor
    http: Http
    python: str
    deadline_s: float = 120.0
    patience_s: float = 20.0
    quiet_s: float = 90.0
    stop: threading.Event | None = None
    sink: Sink = silent
    containers: Containers | None = None
    front: StablePorts | None = None
    end_process: Callable[[int], None] = _nobody_ends

    def say(self, subject: str, message: str) -> None:
        """Tell who watches."""
        self.sink(Event("serve", subject, message))

    def refuse_stop(self, subject: str) -> None:
        """Raise when the run was asked to stop.

        Raises:
            StoppedError: it was.
        """
        if self.stop is not None and self.stop.is_set():
            raise StoppedError(
                f"stopped while {subject} was starting", "what ran before still runs", "start the run again"
            )
