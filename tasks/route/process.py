"""The gateway as a supervised process: what it serves now, and how it is brought to serve another config."""

from __future__ import annotations

import contextlib
import threading
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import Event, ProcessSpec, ProcessState, Sink, silent
from tasks.effects.http import OK, Http, HttpError
from tasks.effects.network import listener
from tasks.effects.processes import Supervisor, spec_hash
from tasks.errors import PortTakenError, RouteError, ServeError, StoppedError
from tasks.route.validate import INTACT, validate

NAME = "gateway"
POLL_S = 0.05
ASK_AGAIN_S = 2.0
STATUS_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class RouteContext:
    """What routing needs from outside. `folder` holds the configs, `port` is the gateway's for good.

    `check` and `taken` are here so that tests need no process and no socket.
    """

    supervisor: Supervisor
    http: Http
    python: str
    folder: Path
    port: int
    deadline_s: float = 30.0
    stop: threading.Event | None = None
    sink: Sink = silent
    check: Callable[[Path], None] = validate
    taken: Callable[[int], bool] = listener

    @property
    def root_url(self) -> str:
        """The gateway's own address."""
        return f"http://127.0.0.1:{self.port}"

    def say(self, message: str) -> None:
        """Tell who watches."""
        self.sink(Event("route", NAME, message))


@dataclass(frozen=True, slots=True)
class Serving:
    """What the gateway does at one moment. `config_hash` is "" when it does not answer."""

    state: ProcessState | None
    config_hash: str = ""
    attempt: int = 0
    failed_hash: str = ""
    error: str = ""

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self.state is not None and self.state.running

    def runs_as(self, spec: ProcessSpec) -> bool:
        """Whether there is a process that was started as `spec` says."""
        return self.runs and self.state is not None and self.state.spec_hash == spec_hash(spec)

    def refuses(self, config_hash: str, since: Serving) -> bool:
        """Whether it read that config after `since`, and could not load it."""
        same = self.state and since.state and self.state.pid == since.state.pid
        return self.failed_hash == config_hash and self.attempt > (since.attempt if same else 0)


def process_spec(config: Path, port: int, python: str) -> ProcessSpec:
    """Return the gateway process. It is killed later than it cuts off its last requests."""
    return ProcessSpec(
        name=NAME,
        command=(python, "-m", "tasks.route.gateway", "--config", str(config), "--port", str(port)),
        environment=(("RUST_LOG", ""), ("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1")),
        stop_timeout_s=30,
    )


def look(ctx: RouteContext) -> Serving:
    """Ask the supervisor and `/status`. Whoever answers with another pid is not our gateway."""
    state = ctx.supervisor.states().get(NAME)
    if state is None or not state.running:
        return Serving(state)
    try:
        reply = ctx.http.get(f"{ctx.root_url}/status", timeout_s=STATUS_TIMEOUT_S)
        status = reply.json() if reply.status == OK else None
    except HttpError:
        return Serving(state)
    if not isinstance(status, dict) or status.get("pid") != state.pid:
        return Serving(state)
    last = status.get("last_reload") or {}
    failed = "" if last.get("ok", True) else last["config_hash"]
    return Serving(state, status["config_hash"], last.get("attempt", 0), failed, last.get("error", ""))


def refuse_taken_port(serving: Serving, spec: ProcessSpec, ctx: RouteContext) -> None:
    """Refuse before anything is written when a stranger has the port.

    Raises:
        PortTakenError: somebody listens there who is not our gateway.
    """
    ours = serving.runs_as(spec) or serving.config_hash
    if not ours and ctx.taken(ctx.port):
        raise PortTakenError(
            f"port {ctx.port} on 127.0.0.1, where the gateway is to listen, is taken by another program",
            "that program and the gateway's config are untouched",
            f"free it (`ss -ltnp 'sport = :{ctx.port}'` shows who holds it) or choose another port",
        )


def bring_to(config_hash: str, spec: ProcessSpec, ctx: RouteContext) -> ProcessState:
    """Make the gateway serve the config that lies in its folder; return once it does.

    Raises:
        RouteError: it does not start, does not load the config, or does not do so in time.
        StoppedError: the run was asked to stop.
    """
    before = look(ctx)
    if before.config_hash and before.runs_as(spec):
        if before.config_hash != config_hash:
            _hang_up(ctx)
    else:
        _start(spec, ctx)
    return _wait(config_hash, before, ctx)


def _start(spec: ProcessSpec, ctx: RouteContext) -> None:
    try:
        ctx.supervisor.start(spec)
    except ServeError as error:
        raise RouteError(f"the gateway does not start: {error.what}", INTACT, error.then) from error


def _hang_up(ctx: RouteContext) -> None:
    """Ask the gateway to read its config. When it ended just now, it reads it as it comes back."""
    with contextlib.suppress(OSError, ServeError, xmlrpc.client.Error):
        ctx.supervisor.signal(NAME, "HUP")


def _wait(config_hash: str, before: Serving, ctx: RouteContext) -> ProcessState:
    now = time.monotonic()
    deadline, ask_again = now + ctx.deadline_s, now + ASK_AGAIN_S
    while True:
        serving = look(ctx)
        if serving.state and serving.config_hash == config_hash:
            return serving.state
        _refuse_hopeless(config_hash, serving, before, ctx)
        now = time.monotonic()
        if now > deadline:
            found = serving.config_hash[:8] or "nothing"
            within = f"within {ctx.deadline_s:g} s (it serves {found})"
            what = f"the gateway did not take config {config_hash[:8]} {within}"
            raise RouteError(what, INTACT, f"read {_log(serving)}")
        if serving.config_hash and now > ask_again:
            # A gateway that began to load the old file just before the new one was written.
            _hang_up(ctx)
            ask_again = now + ASK_AGAIN_S
        time.sleep(POLL_S)


def _refuse_hopeless(config_hash: str, serving: Serving, before: Serving, ctx: RouteContext) -> None:
    if ctx.stop is not None and ctx.stop.is_set():
        raise StoppedError("stopped while the gateway took its config", INTACT, "start the run again")
    if serving.refuses(config_hash, before):
        raise RouteError(f"the gateway rejects the config: {serving.error}", INTACT, f"read {_log(serving)}")
    if serving.state is None or serving.state.state == "fatal":
        tail = ctx.supervisor.log_tail(NAME)
        what = f"the gateway keeps ending while it starts (last output: {tail})"
        raise RouteError(what, INTACT, f"read {_log(serving)}")


def _log(serving: Serving) -> str:
    return serving.state.log if serving.state else "the supervisor's log"
