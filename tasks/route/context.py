"""What a rollout is told: what is to be served (`Order`), and what it needs from outside (`RouteContext`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.contracts import NO_ROUTING, Event, PlannedRoute, Routing, Sink, VerifiedServer, silent
from tasks.effects.http import Http
from tasks.effects.network import listener
from tasks.effects.processes import Supervisor
from tasks.errors import StoppedError
from tasks.route.gateways.contract import Gateways
from tasks.route.lint.gateway import CLICKHOUSE as DATABASE
from tasks.route.merge.env_text import written
from tasks.route.merge.keys import gateway_environment
from tasks.route.proxy.contract import Door, Proxy
from tasks.route.validate import validate

if TYPE_CHECKING:
    from tasks.route.undo import Undo

NAME = "gateway"
"""What the stage works on, in changes and events; and the program that earlier versions ran."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be served.

    With `text`, that whole config is put in use and nothing is rendered: a rollback, which then gives the
    `verified` servers and `routes` of that time.
    """

    verified: tuple[VerifiedServer, ...]
    routes: tuple[PlannedRoute, ...] = ()
    routing: Routing = NO_ROUTING
    text: str | None = None


class OldGateway(Protocol):
    """The gateway of earlier versions, which held the public port itself."""

    def runs(self) -> bool:
        """Whether it is there."""

    def stop(self) -> None:
        """End it; it cannot be started again."""


@dataclass(frozen=True, slots=True)
class OldProgram:
    """The one that supervisord kept."""

    supervisor: Supervisor

    def runs(self) -> bool:
        """Whether the program has a process."""
        state = self.supervisor.states().get(NAME)
        return state is not None and state.running

    def stop(self) -> None:
        """Stop and forget the program."""
        self.supervisor.stop(NAME)


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What routing needs from outside.

    Attributes:
        proxy: What owns the public port.
        gateways: What starts gateways.
        http: What asks them, and the model servers.
        folder: Where configs lie; `generations` draws it.
        door: How clients come in.
        hand: The operator's own tensorzero.toml.
        keys: The values of the environment variables that hold the operator's keys.
        env_file: Where the addresses for the services are written.
        database: The address of the ClickHouse that keeps what the gateway does, with its password.
        old: The gateway of an earlier version, where there may be one.
        watch_s: How long requests are counted after the switch before the gateway of before is ended.
        start_s: How long a gateway may take to start.
        drain_s: How long a gateway that gets no new requests may take for its last ones. The default is the
            gateway's own bound for any request.
        keep: How many configs that were in use stay, the one in use included.
        stop: Set when the run is to end.
        check: What refuses a config that TensorZero does not load.
        taken: Whether somebody listens on a port of 127.0.0.1.
        sleep: What waits, in seconds.
        clock: What tells the seconds that passed.
        undo: What rollouts leave here, for a run that fails after them (see `revert`).
    """

    proxy: Proxy
    gateways: Gateways
    http: Http
    folder: Path
    door: Door
    hand: Path | None = None
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_file: Path | None = None
    database: str | None = field(default=None, repr=False)
    old: OldGateway | None = None
    watch_s: float = 10.0
    start_s: float = 60.0
    drain_s: float = 900.0
    keep: int = 3
    stop: threading.Event | None = None
    sink: Sink = silent
    check: Callable[[Path], None] = validate
    taken: Callable[[int], bool] = listener
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    undo: list[Undo] = field(default_factory=list, repr=False)

    @property
    def base_url(self) -> str:
        """What an OpenAI client on this host takes."""
        scheme = "https" if self.door.certificate else "http"
        return f"{scheme}://{reached_at(self.door.bind)}:{self.door.port}/openai/v1"

    def environment(self, text: str, names: Mapping[str, str]) -> str:
        """Return what a gateway of a config finds in its environment: keys, and the address of the database.

        Raises:
            RouteError: see `gateway_environment`.
        """
        keys = gateway_environment(text, names, self.keys)
        return keys if self.database is None else keys + written(DATABASE, self.database, quoted=True) + "\n"

    def say(self, message: str) -> None:
        """Tell who watches."""
        self.sink(Event("route", NAME, message))

    def refuse_stopped(self) -> None:
        """Raise where the run was asked to stop.

        Raises:
            StoppedError: it was.
        """
        if self.stop is not None and self.stop.is_set():
            raise StoppedError("stopped during the rollout of the gateway", INTACT, "start the run again")


INTACT = "the config in use is unchanged"


def reached_at(bind: str) -> str:
    """Return where this host reaches what is bound to an address, as it stands in a web address."""
    address = ip_address(bind)
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == IPV6 else str(address)


IPV6 = 6
