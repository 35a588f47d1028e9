"""PulledModel -> ModelServer: start what is missing, keep what runs as wanted, wait until it answers."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from tasks.contracts import Change, Event, ModelServer, ProcessSpec, PulledModel, Sink, silent
from tasks.effects.http import Http, HttpError
from tasks.effects.network import listener
from tasks.effects.processes import Supervisor, spec_hash
from tasks.errors import PortTakenError, ServeError, StoppedError
from tasks.serve.changes import decide
from tasks.serve.runtimes import RUNTIMES, Runtime

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class ServeContext:
    """What starting a server needs from outside."""

    supervisor: Supervisor
    http: Http
    python: str
    deadline_s: float = 120.0
    patience_s: float = 20.0
    stop: threading.Event | None = None
    sink: Sink = silent


def serve(pulled: PulledModel, ctx: ServeContext) -> ModelServer:
    """Bring up the server of one model, or keep it, and wait until its health path answers 200.

    Raises:
        PortTakenError: somebody else listens on the planned port.
        ServeError: it does not start, does not stay up or does not answer in time.
        StoppedError: the run was asked to stop.
    """
    begun = time.monotonic()
    runtime = _runtime(pulled)
    spec = runtime.process(pulled, ctx.python)
    actual = ctx.supervisor.states().get(spec.name)
    replaced = pulled.change.kind == "replace"
    change = decide(spec.name, spec_hash(spec), actual, weights_replaced=replaced)
    ctx.sink(Event("serve", pulled.planned.model, f"{change.kind}: {change.reason}"))
    if change.kind == "keep" and not _ready_soon(pulled, runtime, spec.name, ctx):
        change = Change(change.resource, "replace", "it runs but its health path does not answer 200")
        ctx.sink(Event("serve", pulled.planned.model, f"{change.kind}: {change.reason}"))
    if change.kind != "keep":
        _start(spec, change, pulled, ctx)
        _wait_until_ready(pulled, runtime, spec.name, ctx)
    process = ctx.supervisor.states()[spec.name]
    return ModelServer(
        planned=pulled.planned,
        name=spec.name,
        base_url=runtime.base_url(pulled.planned),
        process=process,
        change=change,
        seconds=time.monotonic() - begun,
    )


def _runtime(pulled: PulledModel) -> Runtime:
    return next(runtime for runtime in RUNTIMES if runtime.name == pulled.planned.runtime)


def _ready_soon(pulled: PulledModel, runtime: Runtime, name: str, ctx: ServeContext) -> bool:
    """Whether a process that runs answers; one that was just restarted gets a moment to load."""
    try:
        _wait_until_ready(pulled, runtime, name, replace(ctx, deadline_s=ctx.patience_s))
    except ServeError:
        return False
    return True


def _start(spec: ProcessSpec, change: Change, pulled: PulledModel, ctx: ServeContext) -> None:
    if change.kind == "replace":
        ctx.supervisor.stop(spec.name)
    port = pulled.planned.port
    if listener(port):
        raise PortTakenError(
            f"port {port} on 127.0.0.1, where {pulled.planned.model} is to answer, is taken by another"
            " program",
            "that program and what ran before are untouched",
            f"free it (`ss -ltnp 'sport = :{port}'` shows who holds it) or set PMOVES_MODEL_PORT",
        )
    ctx.supervisor.start(spec)


def _wait_until_ready(pulled: PulledModel, runtime: Runtime, name: str, ctx: ServeContext) -> None:
    """Poll the health path until it answers 200; a process that gave up ends the wait at once."""
    url = runtime.base_url(pulled.planned).removesuffix("/v1") + runtime.health_path
    deadline = time.monotonic() + ctx.deadline_s
    last = "no answer"
    while time.monotonic() < deadline:
        if ctx.stop is not None and ctx.stop.is_set():
            raise StoppedError(
                f"stopped while {pulled.planned.model} was starting",
                "what ran before still runs",
                "start the run again",
            )
        try:
            reply = ctx.http.get(url, timeout_s=2.0)
        except HttpError as error:
            last = str(error)
        else:
            if reply.status == 200:  # noqa: PLR2004  # HTTP OK
                return
            last = f"HTTP {reply.status}"
        _refuse_dead(name, pulled, ctx)
        time.sleep(POLL_S)
    raise _failure(pulled, f"did not answer {url} within {ctx.deadline_s:g} s (last: {last})", name, ctx)


def _refuse_dead(name: str, pulled: PulledModel, ctx: ServeContext) -> None:
    state = ctx.supervisor.states().get(name)
    if state is None or state.state == "fatal":
        raise _failure(pulled, "keeps ending while it starts", name, ctx)


def _failure(pulled: PulledModel, what: str, name: str, ctx: ServeContext) -> ServeError:
    state = ctx.supervisor.states().get(name)
    log = state.log if state else "the supervisor's log"
    return ServeError(
        f"the server of {pulled.planned.model} {what} (last output: {ctx.supervisor.log_tail(name)})",
        "its weights stay on the disk and the routes that were in use stay in use",
        f"read {log}, then run `pmoves provision` again",
    )
