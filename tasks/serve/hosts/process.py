"""Servers that are processes of this program, kept up by the supervisor."""

from __future__ import annotations

from tasks.contracts import Change, PlannedModel, ProcessSpec, PulledModel
from tasks.effects.network import listener
from tasks.effects.processes import spec_hash
from tasks.errors import PortTakenError, ServeError
from tasks.serve.changes import decide
from tasks.serve.context import Running, ServeContext
from tasks.serve.ready import INTACT, Watched, wait_until_ready
from tasks.serve.runtimes import PROCESSES, Process


def takes(planned: PlannedModel) -> bool:
    """Tell whether the runtime is one of this program's own."""
    return any(planned.runtime == one.name for one in PROCESSES)


def speaks(planned: PlannedModel) -> Process:
    """Return the runtime of a model."""
    return next(one for one in PROCESSES if one.name == planned.runtime)


def bring_up(pulled: PulledModel, ctx: ServeContext) -> Running:
    """Start the process of a model, or keep it, and wait until it answers."""
    spec = speaks(pulled.planned).process(pulled, ctx.python)
    actual = ctx.supervisor.states().get(spec.name)
    replaced = pulled.change.kind == "replace"
    change = decide(spec.name, spec_hash(spec), actual, weights_replaced=replaced)
    ctx.say(pulled.planned.model, f"{change.kind}: {change.reason}")
    if change.kind == "keep" and not _ready_soon(pulled, spec.name, ctx):
        change = Change(change.resource, "replace", "it runs but its health path does not answer 200")
        ctx.say(pulled.planned.model, f"{change.kind}: {change.reason}")
    if change.kind != "keep":
        _start(spec, change, pulled, ctx)
        wait_until_ready(_watched(pulled, spec.name, ctx), ctx)
    state = ctx.supervisor.states()[spec.name]
    return Running(spec.name, _root(pulled.planned), change, state)


def load(_running: Running, _pulled: PulledModel, _ctx: ServeContext) -> float:
    """Do nothing: such a process answers once it has loaded its model."""
    return 0.0


def _root(planned: PlannedModel) -> str:
    return f"http://127.0.0.1:{planned.port}"


def _ready_soon(pulled: PulledModel, name: str, ctx: ServeContext) -> bool:
    """Whether a process that runs answers; one that was just restarted gets a moment to load."""
    try:
        wait_until_ready(_watched(pulled, name, ctx), ctx, within_s=ctx.patience_s)
    except ServeError:
        return False
    return True


def _start(spec: ProcessSpec, change: Change, pulled: PulledModel, ctx: ServeContext) -> None:
    if change.kind == "replace":
        ctx.supervisor.stop(spec.name)
    port = pulled.planned.port
    _take_from_front(port, ctx)
    if listener(port):
        raise PortTakenError(
            f"port {port} on 127.0.0.1, where {pulled.planned.model} is to answer, is taken by another"
            " program",
            "that program and what ran before are untouched",
            f"free it (`ss -ltnp 'sport = :{port}'` shows who holds it) or set PMOVES_MODEL_PORT",
        )
    ctx.supervisor.start(spec)


def _take_from_front(port: int, ctx: ServeContext) -> None:
    """Let the front give up a port that a container of an earlier plan had."""
    if ctx.front is not None:
        for server in [name for name, one in ctx.front.backends().items() if one.port == port]:
            ctx.front.drop(server)


def _watched(pulled: PulledModel, name: str, ctx: ServeContext) -> Watched:
    planned = pulled.planned
    state = ctx.supervisor.states().get(name)
    log = state.log if state else "the supervisor's log"

    def dead() -> ServeError | None:
        now = ctx.supervisor.states().get(name)
        if now is not None and now.state != "fatal":
            return None
        tail = ctx.supervisor.log_tail(name)
        return ServeError(
            f"the server of {planned.model} keeps ending while it starts (last output: {tail})",
            INTACT,
            f"read {log}, then run `pmoves provision` again",
        )

    url = f"{_root(planned)}{speaks(planned).health_path}"
    return Watched(planned.model, url, planned.weights.size_bytes if planned.weights else 0, dead, log=log)
