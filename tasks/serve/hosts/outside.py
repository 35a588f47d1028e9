"""Servers that already run on the host and are not ours: they are asked, and never started or stopped."""

from __future__ import annotations

import time

from tasks.contracts import Change, PlannedModel, ProcessState, PulledModel
from tasks.effects.http import OK, HttpError
from tasks.errors import ServeError
from tasks.serve.context import Running, ServeContext
from tasks.serve.ready import deadline_s
from tasks.serve.runtimes import OUTSIDE, Outside

INTACT = "nothing was started, and that server is as it was"
ANSWER_S = 10.0


def takes(planned: PlannedModel) -> bool:
    """Tell whether the plan has the model on a server that is not ours."""
    return bool(planned.external)


def speaks(planned: PlannedModel) -> Outside:
    """Return the runtime of a model."""
    return next(one for one in OUTSIDE if one.name == planned.runtime)


def bring_up(pulled: PulledModel, ctx: ServeContext) -> Running:
    """Ask the server whether it answers."""
    planned = pulled.planned
    root = planned.external.rstrip("/").removesuffix("/v1")
    url = root + speaks(planned).health_path
    try:
        reply = ctx.http.get(url, timeout_s=ANSWER_S)
    except HttpError as error:
        raise _silent(planned, url, str(error)) from None
    if reply.status != OK:
        raise _silent(planned, url, reply.shown())
    name = planned.server or f"external-{planned.role}"
    change = Change(f"server {root}", "keep", "it already runs, and is not ours")
    ctx.say(planned.model, f"{change.kind}: {change.reason}")
    return Running(name, root, change, ProcessState(name, True, "running", 0, 0.0, "", ""))  # noqa: FBT003


def load(running: Running, pulled: PulledModel, ctx: ServeContext) -> float:
    """Let the server load the model, where its kind can be told to."""
    begun = time.monotonic()
    size = pulled.planned.memory_bytes
    try:
        speaks(pulled.planned).load(running.root_url, pulled, ctx.http, timeout_s=deadline_s(ctx, size))
    except HttpError as error:
        raise ServeError(
            f"{running.root_url} does not load {pulled.planned.model} ({error})",
            INTACT,
            "ask whoever runs that server, or plan without it",
        ) from None
    return time.monotonic() - begun


def _silent(planned: PlannedModel, url: str, said: str) -> ServeError:
    return ServeError(
        f"{url}, which is to serve {planned.role} and is not ours, does not answer ({said})",
        INTACT,
        "start it again, or take it out of PMOVES_EXTERNAL and PMOVES_OLLAMA",
    )
