"""What an earlier rollout left → a settled gateway: done before every rollout, and callable alone.

    look ─ decide ─┬→ ask the unproven one that got the switch ─ decide again
                   └→ start what is to serve, where it does not run ─ point ─ settle ─ retire the others

What the proxy points to and is proven stays. Nothing is ended before what replaces it answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.errors import RouteError, ServeError
from tasks.route import journal as journals
from tasks.route.config.render import key_names
from tasks.route.context import Order, RouteContext
from tasks.route.gateways.contract import Instance
from tasks.route.generations import Proven, Store, generations
from tasks.route.journal import DOING, Journal
from tasks.route.merge.services_file import ServicesFile
from tasks.route.migrate import adopt
from tasks.route.probe import smoke
from tasks.route.proxy.contract import Target
from tasks.route.retire import retire, running


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is. Generations by name; `proven` newest first, and only those whose config is still here.

    `smoked` says what asking the unproven green gave, where it was asked; `broken` do not start.
    """

    journal: Journal | None
    proven: tuple[str, ...]
    active: Target | None
    proxy_runs: bool
    ports: tuple[tuple[str, int], ...]
    there: tuple[str, ...]
    smoked: bool | None = None
    broken: frozenset[str] = frozenset()

    def runs(self, name: str) -> bool:
        """Whether a gateway of that generation runs."""
        return name in dict(self.ports)


@dataclass(frozen=True, slots=True)
class Repair:
    """What is to be done: `serve` answers ("" for none), once it was asked or started; `stop` are to end."""

    serve: str
    smoke: bool = False
    start: bool = False
    point: bool = False
    stop: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What serves now, and what had to be done, in sentences."""

    serving: Instance | None
    did: tuple[str, ...]


def decide(seen: Seen) -> Repair:
    """Compare what there is with what a settled gateway is like."""
    active = seen.active.name if seen.active else ""
    green = seen.journal.green if seen.journal else ""
    if active and active == green and active not in seen.proven and seen.runs(active):
        if seen.smoked is None:
            return Repair(active, smoke=True)
        if seen.smoked:
            return _serve(active, "it answers rightly", seen)
    if active in seen.proven and active not in seen.broken:
        return _serve(active, "the proxy points to it", seen)
    for name in seen.proven:
        if name not in seen.broken:
            return _serve(name, "it is the last that was in use", seen)
    if active and active != green and seen.runs(active):
        return _serve(active, "the proxy points to it", seen)
    return Repair("", stop=seen.there, reason="no config was in use before")


def _serve(name: str, reason: str, seen: Seen) -> Repair:
    starts = not seen.runs(name)
    right = seen.active is not None and seen.active.name == name and seen.proxy_runs and not starts
    right = right and seen.active is not None and seen.active.port == dict(seen.ports)[name]
    others = tuple(one for one in seen.there if one != name)
    return Repair(name, start=starts, point=not right, stop=others, reason=reason)


def repair(ctx: RouteContext, order: Order | None = None) -> Repaired:
    """Settle what an earlier rollout left, and bring back what is to answer.

    Args:
        ctx: What routing needs from outside.
        order: What is to be served next; it knows which keys a config names that is started again.

    Raises:
        PortTakenError: somebody else has the public port.
        RouteError: the proxy does not follow.
    """
    did = list(adopt(ctx))
    journal = journals.read(ctx.folder)
    if journal is not None:
        did.append(f"the rollout of {journal.begun or 'an unknown time'} ended {DOING[journal.step]}")
    seen = _look(journal, ctx)
    todo = decide(seen)
    if todo.smoke and journal is not None:
        seen = replace(seen, smoked=_smoked(todo.serve, journal, ctx))
        todo = decide(seen)
        verdict = "answers rightly and stays" if seen.smoked else "does not answer rightly"
        did.append(f"its config {journal.green} {verdict}")
    while todo.start:
        started = _started(todo.serve, ctx, order)
        did.append(f"the gateway of {todo.serve} did not run{' and was started' if started else ' or start'}")
        if started:
            break
        seen = replace(seen, broken=seen.broken | {todo.serve})
        todo = decide(seen)
    serving = running(ctx).get(todo.serve)
    did += _lead_to(serving, todo, seen, ctx)
    _settle(todo, seen, ctx)
    for one in did:
        ctx.say(one)
    return Repaired(serving, tuple(did))


def _look(journal: Journal | None, ctx: RouteContext) -> Seen:
    instances = ctx.gateways.instances()
    return Seen(
        journal=journal,
        proven=tuple(name for name, _ in generations(ctx.folder)),
        active=ctx.proxy.active(),
        proxy_runs=ctx.proxy.runs(),
        ports=tuple((one.generation, one.port) for one in instances if one.running),
        there=tuple(one.generation for one in instances),
    )


def _smoked(name: str, journal: Journal, ctx: RouteContext) -> bool:
    instance = running(ctx).get(name)
    if instance is None:
        return False
    try:
        smoke(journal.asks, instance.base_url, ctx.http, between=ctx.refuse_stopped)
    except RouteError:
        return False
    return True


def _started(name: str, ctx: RouteContext, order: Order | None) -> bool:
    store = Store(ctx.folder)
    try:
        if not store.keys(name).exists():
            names = key_names(order.routes, order.routing) if order else {}
            store.give_keys(name, ctx.environment(store.text(name) or "", names))
        ctx.gateways.prepare()
        ctx.gateways.start(store.generation(name), deadline_s=ctx.start_s)
    except (RouteError, ServeError):
        return False
    return True


def _lead_to(serving: Instance | None, todo: Repair, seen: Seen, ctx: RouteContext) -> list[str]:
    """Point the proxy, also where it says that it leads there already.

    A crash may have come between its files and itself, and its door may be another one than before.
    """
    if serving is None:
        return []
    ctx.proxy.point(Target(serving.generation, serving.port))
    if not (todo.point or todo.start):
        return []
    was = "led elsewhere" if seen.proxy_runs else "did not run"
    return [f"the proxy {was} and leads to {serving.generation} again ({todo.reason})"]


def _settle(todo: Repair, seen: Seen, ctx: RouteContext) -> None:
    """Note what is in use, end the gateways of all else, and remove what no rollout needs any more."""
    store, journal = Store(ctx.folder), seen.journal
    if journal is not None:
        _note(todo.serve, journal, ctx)
    others = [one for one in ctx.gateways.instances() if one.generation in todo.stop]
    left = {one.generation for one in others if not retire(one, ctx)}
    if journal is not None and seen.smoked is False and journal.green not in left:
        store.reject(journal.green)
    store.tidy({todo.serve, *left} - {""}, ctx.keep)
    if journal is not None and not left:
        journals.settle(ctx.folder)


def _note(serve: str, journal: Journal, ctx: RouteContext) -> None:
    """Write down what is in use, and give the services the addresses that go with it."""
    store = Store(ctx.folder)
    known = {one.name: one for one in store.proven()}
    one = known.get(serve)
    if one is None and serve and serve == journal.green:
        one = Proven(serve, journal.environment)
    services = ServicesFile(ctx.env_file)
    try:
        services.put(services.merged(one.environment if one else ()))
    except RouteError as error:
        ctx.say(f"the services' addresses stay as they are: {error.what}")
    services.tidy()
    if one is not None:
        store.prove(one)
