"""Gateways of the wheel: each a supervised process `python -m tasks.route.wheel`.

All that is known of them is kept by the supervisor: the program's name has the generation, its command the
port. So a run that knows nothing of an earlier one finds every gateway again.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from pathlib import Path
from typing import Protocol

from tasks.contracts import ProcessSpec, ProcessState
from tasks.effects.http import Http
from tasks.effects.processes import Supervisor
from tasks.errors import RouteError, ServeError
from tasks.route.gateways.contract import Generation, Instance
from tasks.route.gateways.ports import free_port
from tasks.route.gateways.waiting import INTACT, Patience, status
from tasks.route.proxy.contract import PROGRAM

PREFIX = "gateway-"
MODULE = "tasks.route.wheel"
FINISH_S = 25
SPARE_S = 5
"""A gateway cuts off its last requests before the supervisor kills it."""
LOGS_KEPT = 10
TRIES = 3
TAKEN = "cannot listen on"
NOTHING_STARTED = "; nothing was started; "


class Processes(Supervisor, Protocol):
    """A supervisor that tells how a process was started."""

    def command(self, name: str) -> tuple[str, ...]:
        """Return the command of a process; nothing when the name is not known."""


class WheelGateways:
    """Gateways that are processes of this host.

    Args:
        supervisor: keeps them running.
        http: asks them for their status.
        python: the interpreter that has the wheel.
        stop: ends the wait for one when it is set.
        finish_s: how long requests may run on when a gateway is stopped. What runs longer, an endless stream
            for one, is cut off: whoever stops a gateway waits first until the proxy has no request there.
    """

    kind = "wheel"

    def __init__(
        self,
        supervisor: Processes,
        http: Http,
        python: str,
        *,
        stop: threading.Event | None = None,
        finish_s: int = FINISH_S,
    ) -> None:
        self._supervisor = supervisor
        self._http = http
        self._python = python
        self._stop = stop
        self._finish_s = finish_s

    def prepare(self) -> None:
        """Do nothing: the wheel came with this program."""

    def instances(self) -> tuple[Instance, ...]:
        """Return every gateway that the supervisor knows."""
        return tuple(
            Instance(name.removeprefix(PREFIX), port_in(self._supervisor.command(name)), state)
            for name, state in self._supervisor.states().items()
            if name.startswith(PREFIX) and name != PROGRAM
        )

    def start(self, generation: Generation, *, deadline_s: float) -> Instance:
        """Start a gateway, in place of one of that very generation; return once it serves its config.

        Raises:
            RouteError: see `Gateways`.
            StoppedError: the run was asked to stop.
        """
        for left in reversed(range(TRIES)):
            try:
                return self._started(generation, deadline_s)
            except RouteError as error:
                # Somebody took the port between the look and the start.
                if TAKEN not in error.what or not left:
                    raise
        raise AssertionError("the last try raises")

    def stop(self, generation: str) -> None:
        """End a gateway; its requests may run on for `finish_s`."""
        known = self._supervisor.states().get(PREFIX + generation)
        self._supervisor.stop(PREFIX + generation)
        if known is not None and known.log.endswith(f"{known.name}.log"):
            self._tidy(Path(known.log).parent)

    def log_tail(self, generation: str) -> str:
        """Return its last lines."""
        return self._supervisor.log_tail(PREFIX + generation)

    def _started(self, generation: Generation, deadline_s: float) -> Instance:
        ports = {one.generation: one.port for one in self.instances()}
        # A proxy may still point there.
        port = ports.get(generation.name) or free_port(ports.values())
        spec = process_spec(generation, port, self._python, finish_s=self._finish_s)
        try:
            state = self._brought_up(spec, port, generation, deadline_s)
        except BaseException:
            self._supervisor.stop(spec.name)
            raise
        return Instance(generation.name, port, state)

    def _brought_up(
        self, spec: ProcessSpec, port: int, generation: Generation, deadline_s: float
    ) -> ProcessState:
        try:
            begun = self._supervisor.start(spec)
        except ServeError as error:
            raise self._died(spec.name, error.then) from error
        up = Patience(deadline_s, self._stop).until(lambda: self._up(generation, port, begun))
        if up is None:
            what = f"the gateway of generation {generation.name} does not serve within {deadline_s:g} s"
            raise RouteError(what, INTACT, f"read {begun.log}")
        return up

    def _up(self, generation: Generation, port: int, begun: ProcessState) -> ProcessState | None:
        """Return the process once it serves that config; None while it may still come to that."""
        now = self._supervisor.states().get(begun.name)
        if now is None or not now.running or now.pid != begun.pid:
            raise self._died(begun.name, f"read {begun.log}")
        told = status(self._http, port)
        if told is None or told.get("pid") != now.pid:
            return None
        found = str(told.get("config_hash"))
        if found != generation.config_hash:
            wanted = generation.config_hash[:8]
            what = f"{generation.config} is not the config that it was: sha256 {found[:8]}, not {wanted}"
            raise RouteError(what, INTACT, "run `pmoves provision` again")
        return now

    def _tidy(self, logs: Path) -> None:
        """Keep the newest logs of gateways that are gone, for reading; each generation has its own."""
        known = self._supervisor.states()
        gone = [one for one in logs.glob(f"{PREFIX}*.log*") if one.name.partition(".log")[0] not in known]
        with contextlib.suppress(OSError):
            for old in sorted(gone, key=lambda one: one.stat().st_mtime)[:-LOGS_KEPT]:
                old.unlink(missing_ok=True)

    def _died(self, name: str, then: str) -> RouteError:
        said, own, _ = self._supervisor.log_tail(name, 1).partition(NOTHING_STARTED)
        tail = self._supervisor.log_tail(name)
        return RouteError(
            said if own else f"the gateway ended while it started (last output: {tail})", INTACT, then
        )


def process_spec(generation: Generation, port: int, python: str, *, finish_s: int = FINISH_S) -> ProcessSpec:
    """Return the process of a generation."""
    return ProcessSpec(
        name=PREFIX + generation.name,
        command=(
            *(python, "-m", MODULE),
            *("--config", str(generation.config)),
            *("--environment", str(generation.environment)),
            *("--port", str(port)),
            *("--finish-s", str(finish_s)),
        ),
        environment=(("RUST_LOG", ""), ("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1")),
        stop_timeout_s=finish_s + SPARE_S,
    )


def port_in(command: tuple[str, ...]) -> int:
    """Return the port that a gateway was started with; 0 where its command has none."""
    after = dict(itertools.pairwise(command)).get("--port", "")
    return int(after) if after.isdecimal() else 0
