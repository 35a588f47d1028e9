"""VerifiedServer → Route: render, validate, put in use, probe; back to the last good config if one fails.

    render ─ same as in use? ─yes→ probe ───────────────────────────────→ keep
                └─no→ candidate → validate → in use → start or SIGHUP → probe → create or replace
                                     └ fails: rejected/      └──── fails: last good one back, rejected/

What each file is for is drawn in `folder`.
"""

from __future__ import annotations

import dataclasses
import time

from tasks.contracts import Answer, Change, ProcessSpec, ProcessState, Route, VerifiedServer
from tasks.errors import ProvisionError, RouteError
from tasks.route.config import model_names, render
from tasks.route.folder import ConfigFolder, digest
from tasks.route.probe import probe
from tasks.route.process import NAME, RouteContext, Serving, bring_to, look, process_spec, refuse_taken_port

POLL_S = 0.05
SETTLE_S = 5.0
RESOURCE = f"process {NAME}"


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """The config that this run renders, and the process that is to serve it."""

    text: str
    config_hash: str
    folder: ConfigFolder
    spec: ProcessSpec


def roll_out(verified: tuple[VerifiedServer, ...], ctx: RouteContext) -> Route:
    """Make the gateway serve every verified server; change nothing when it does already.

    Raises:
        PortTakenError: somebody else listens on the gateway's port.
        RouteError: a config is not valid, is not taken or does not answer; the last good one is in use.
        StoppedError: the run was asked to stop.
    """
    begun = time.monotonic()
    text = render(verified)
    folder = ConfigFolder(ctx.folder)
    wanted = Wanted(text, digest(text), folder, process_spec(folder.in_use, ctx.port, ctx.python))
    serving = _look_twice(wanted, ctx)
    change = decide(wanted, serving)
    ctx.say(f"{change.kind}: {change.reason}")
    if change.kind == "keep" and serving.state is not None:
        process, answers = serving.state, probe(verified, _openai(ctx), ctx.http)
    else:
        refuse_taken_port(serving, wanted.spec, ctx)
        process, answers = _replace(verified, wanted, serving, ctx)
    return Route(
        base_url=_openai(ctx),
        models=model_names(verified),
        config=text,
        config_hash=wanted.config_hash,
        process=process,
        answers=answers,
        change=change,
        seconds=time.monotonic() - begun,
    )


def decide(wanted: Wanted, serving: Serving) -> Change:
    """Compare what is wanted with the folder and the process; return what to do, and why."""
    new, old = wanted.config_hash, wanted.folder.text()
    if not serving.runs:
        was = f"is {serving.state.state}" if serving.state else "does not exist"
        return Change(RESOURCE, "create", f"the process {was}; it is to serve config sha256 {new[:8]}")
    if not serving.runs_as(wanted.spec):
        return Change(RESOURCE, "replace", "the process was started with another command")
    if not wanted.folder.settled():
        return Change(RESOURCE, "replace", "the last roll-out did not finish")
    if old is None or digest(old) != new:
        before = digest(old)[:8] if old else "none"
        return Change(RESOURCE, "replace", f"the config changes from sha256 {before} to {new[:8]}")
    if serving.config_hash != new:
        served = serving.config_hash[:8] or "nothing"
        return Change(RESOURCE, "replace", f"the process serves {served}, on disk is config sha256 {new[:8]}")
    return Change(RESOURCE, "keep", f"config sha256 {new[:8]} is in use and unchanged")


def _look_twice(wanted: Wanted, ctx: RouteContext) -> Serving:
    """Give a gateway that comes back from a crash a moment to answer."""
    deadline = time.monotonic() + min(SETTLE_S, ctx.deadline_s)
    serving = look(ctx)
    while serving.runs_as(wanted.spec) and not serving.config_hash and time.monotonic() < deadline:
        time.sleep(POLL_S)
        serving = look(ctx)
    return serving


def _replace(
    verified: tuple[VerifiedServer, ...], wanted: Wanted, before: Serving, ctx: RouteContext
) -> tuple[ProcessState, tuple[Answer, ...]]:
    folder = wanted.folder
    good = folder.propose(wanted.text)
    try:
        ctx.check(folder.candidate)
    except RouteError as error:
        raise RouteError(error.what, error.intact, f"read {folder.reject()}") from error
    ctx.say(f"config sha256 {wanted.config_hash[:8]} is valid")
    folder.put_in_use(wanted.text)
    try:
        process = bring_to(wanted.config_hash, wanted.spec, ctx)
        answers = probe(verified, _openai(ctx), ctx.http)
    except ProvisionError as error:
        intact = _roll_back(good, wanted, before, ctx)
        then = error.then if good == wanted.text else f"read {folder.reject()}, then {error.then}"
        folder.settle()
        raise type(error)(error.what, intact, then) from error
    folder.settle()
    return process, answers


def _roll_back(good: str | None, wanted: Wanted, before: Serving, ctx: RouteContext) -> str:
    """Go back to the last good config, and to a stopped gateway if it was; return what is intact."""
    ctx.say("going back to the last good config" if good else "stopping the gateway")
    wanted.folder.put_in_use(good)
    if good is None or not before.runs:
        ctx.supervisor.stop(NAME)
        return "the gateway is stopped" + (" and its last good config is back on disk" if good else "")
    name = f"the last good config (sha256 {digest(good)[:8]})"
    try:
        bring_to(digest(good), wanted.spec, dataclasses.replace(ctx, stop=None))
    except ProvisionError as error:
        return f"{name} is back on disk, but the gateway does not serve it ({error.what})"
    return f"{name} is in use"


def _openai(ctx: RouteContext) -> str:
    return f"{ctx.root_url}/openai/v1"
