"""VerifiedServer → Route: a new config gets beside the one in use, is asked, and only then gets the requests.

    repair ─ compose ─ same as in use? ─yes→ ask it ───────────────────────────────→ keep
                            └─no→ write → check → start green → ask green → switch → watch → end blue
                                    └───────┴──────────┴────────────┴─────────┴─ fails: as it was, rejected/

Green is the new gateway, blue the one in use, which is there to go back to
until its last request has ended. What lies where is drawn in `generations`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import Answer, Change, Route
from tasks.errors import PortTakenError, RouteError
from tasks.route.compose import Wanted, compose
from tasks.route.config.render import client_names
from tasks.route.context import INTACT, NAME, Order, RouteContext
from tasks.route.door import changes, kept_of, note
from tasks.route.gateways.contract import Instance
from tasks.route.generations import Proven, Store, active_config, digest
from tasks.route.merge.services_file import ServicesFile
from tasks.route.probe import SilentGatewayError, SilentServerError, smoke
from tasks.route.repair import Repaired, repair
from tasks.route.replace import Replacement
from tasks.route.undo import Before

TRIES = 3
BETWEEN_TRIES_S = 2.0
"""A gateway that supervisord restarts is up again in about that time."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a rollout ended."""

    serving: Instance
    answers: tuple[Answer, ...]
    change: Change
    watched: str = ""


def roll_out(order: Order, ctx: RouteContext) -> Route:
    """Make the gateway serve what was ordered; change nothing when it does already.

    Raises:
        PortTakenError: somebody else listens on the gateway's port.
        ServeError: what a gateway needs cannot be had.
        RouteError: a config is not valid, does not start or does not answer; the one before is in use.
        StoppedError: the run was asked to stop; the config of before is in use.
    """
    try:
        return _rolled_out(order, ctx)
    except OSError as error:
        then = "correct that and start the run again"
        raise RouteError(f"the rollout cannot go on: {error}", INTACT, then) from error


def _rolled_out(order: Order, ctx: RouteContext) -> Route:
    begun = ctx.clock()
    ctx.refuse_stopped()
    repaired = repair(ctx, order)
    serving = repaired.serving
    before = Store(ctx.folder).text(serving.generation) if serving else active_config(ctx.folder)
    before = before or ""
    wanted = compose(order, before, ctx)
    change = decide(wanted, before, repaired, ctx)
    ctx.say(f"{change.kind}: {change.reason}")
    now = kept_of(ctx.door, ctx.proxy.kind)
    doors = changes(ctx.folder, now)
    for said in doors:
        ctx.say(said)
    done = _kept(wanted, change, repaired, ctx) or _replaced(wanted, change, serving, ctx)
    note(ctx.folder, now)
    return Route(
        base_url=ctx.base_url,
        models=client_names(wanted.routes, order.verified),
        config=wanted.text,
        config_hash=wanted.config_hash,
        process=done.serving.process,
        answers=done.answers,
        change=_with_doors(done.change, doors),
        seconds=ctx.clock() - begun,
        functions=wanted.routes,
        container=done.serving.container,
        generation=done.serving.generation,
        proxy=ctx.proxy.kind,
        diff=wanted.diff,
        watched=done.watched,
        environment=wanted.environment,
        left_out=tuple(dict.fromkeys(one for route in wanted.routes for one in route.left_out)),
    )


def _with_doors(change: Change, doors: tuple[str, ...]) -> Change:
    """Return a change that says how clients come in otherwise than before."""
    if not doors:
        return change
    if change.kind == "keep":
        return Change(NAME, "replace", "; ".join(doors))
    return Change(NAME, change.kind, "; ".join((change.reason, *doors)))


def decide(wanted: Wanted, before: str, repaired: Repaired, ctx: RouteContext) -> Change:
    """Compare what is wanted with what serves; return what to do, and why."""
    store, new, serving = Store(ctx.folder), wanted.config_hash[:8], repaired.serving
    if serving is None:
        was = f"no gateway serves sha256 {digest(before)[:8]}" if before else "there is no gateway"
        return Change(NAME, "create", f"{was}; one is to serve config sha256 {new}")
    text = store.text(serving.generation)
    if text != wanted.text:
        reason = f"the config changes from sha256 {digest(text or '')[:8]} to {new}"
        return Change(NAME, "replace", reason)
    if bool(serving.container) != (ctx.gateways.kind == "container"):
        reason = f"the gateway is to be of the kind {ctx.gateways.kind}; the config stays sha256 {new}"
        return Change(NAME, "replace", reason)
    if not wanted.same_keys(store.keys(serving.generation)):
        return Change(NAME, "replace", f"the keys of providers changed; the config stays sha256 {new}")
    if not store.same_files(serving.generation, wanted.copy_files):
        return Change(NAME, "replace", f"a file that config sha256 {new} names changed")
    return Change(NAME, "keep", f"config sha256 {new} is in use and unchanged")


def _kept(wanted: Wanted, change: Change, repaired: Repaired, ctx: RouteContext) -> Done | None:
    """Ask what serves already; return None where another gateway is to take its place.

    Raises:
        SilentServerError: a model server does not answer, which no other gateway would change.
    """
    serving = repaired.serving
    if change.kind != "keep" or serving is None:
        return None
    try:
        answers = _asked(wanted, serving, ctx)
    except SilentServerError:
        raise
    except RouteError as error:
        ctx.say(f"{error.what}; another gateway is started with the same config")
        return None
    services, one = ServicesFile(ctx.env_file), Proven(serving.generation, wanted.environment)
    services.put(services.merged(wanted.environment))
    if Store(ctx.folder).proven()[:1] != (one,):
        Store(ctx.folder).prove(one)
    if repaired.did:
        change = Change(NAME, "replace", "; ".join(repaired.did))
    return Done(serving, answers, change)


def _asked(wanted: Wanted, serving: Instance, ctx: RouteContext) -> tuple[Answer, ...]:
    """Ask what serves, and again where it does not answer: it may be coming back from a crash."""
    for _ in range(TRIES - 1):
        try:
            return smoke(wanted.asks, serving.base_url, ctx.http, between=ctx.refuse_stopped)
        except SilentGatewayError:
            ctx.sleep(BETWEEN_TRIES_S)
    return smoke(wanted.asks, serving.base_url, ctx.http, between=ctx.refuse_stopped)


def _replaced(wanted: Wanted, change: Change, blue: Instance | None, ctx: RouteContext) -> Done:
    if not ctx.proxy.runs() and not (ctx.old and ctx.old.runs()) and ctx.taken(ctx.door.port):
        raise PortTakenError(
            f"port {ctx.door.port} on 127.0.0.1, where the gateway is to listen, is taken by another program",
            "that program and the gateway's config are untouched",
            f"free it (`ss -ltnp 'sport = :{ctx.door.port}'` shows who holds it) or choose another port",
        )
    if change.kind == "keep":
        reason = f"the gateway of config sha256 {wanted.config_hash[:8]} answered wrongly and was replaced"
        change = Change(NAME, "replace", reason)
    name = Store(ctx.folder).name_for(wanted.text)
    replacement = Replacement(wanted, name, Before.of(blue, ctx), ctx)
    serving, answers = replacement.run()
    return Done(serving, answers, change, replacement.watched)
