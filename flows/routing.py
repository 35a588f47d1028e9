"""What the route stage needs from outside, gathered: the proxy, gateways, keys, and the order itself.

<state>/gateway/          configs, keys and the proxy's own files (tasks/route/generations.py draws it)
<state>/images.lock.json  digests of images that this host resolved, the gateway's among them
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from flows import servers
from flows.host_run import HostRun
from flows.planning import shelf
from flows.ports import taken
from flows.routing_keys import Secrets, folder, keys, no_secrets
from flows.routing_kinds import (
    IMAGE,
    Watch,
    door,
    gateways,
    no_container,
    only_container,
    proxy,
    refuse_door_of_front,
)
from flows.routing_records import records, refuse_without_engine
from flows.settings import Settings
from tasks.contracts import Change, HostFacts, Plan, Route, VerifiedServer
from tasks.effects.containers import EngineError
from tasks.effects.http import Http
from tasks.effects.network import listener
from tasks.effects.processes import Supervisor
from tasks.route.context import NAME, OldProgram, Order, RouteContext
from tasks.route.merge.managed import parse, read_hand
from tasks.route.proxy.contract import PROGRAM


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a run routes with, in one sentence each why it is that, and what was done for it."""

    ctx: RouteContext
    why: tuple[str, ...]
    changes: tuple[Change, ...] = ()


def refuse_early(
    settings: Settings, facts: HostFacts, plan: Plan, supervisor: Supervisor, back: Route | None = None
) -> None:
    """Refuse what no rollout could use, before byte one.

    Raises:
        PortTakenError: somebody else has the gateway's port.
        RefusedError: the gateway, or its database, is to be a container, and there is no engine for it.
        RouteError: the operator's config cannot be read.
        SettingsError: see `door`.
    """
    refuse_door_of_front(settings, facts)
    if settings.gateway.mode == "container" and (cannot := no_container(settings, facts, IMAGE)):
        raise only_container(cannot)
    refuse_without_engine(settings, facts, plan, back)
    if settings.gateway.toml is not None:
        parse(read_hand(settings.gateway.toml), str(settings.gateway.toml))
    if listener(settings.gateway_port) and not _port_is_ours(settings, facts, supervisor):
        raise taken("gateway", settings.gateway_port, "PMOVES_GATEWAY_PORT")


def _port_is_ours(settings: Settings, facts: HostFacts, supervisor: Supervisor) -> bool:
    """Tell whether what listens there is our proxy, or the gateway of an earlier version."""
    states = supervisor.states()
    if any(name in {PROGRAM, NAME} and one.running for name, one in states.items()):
        return True
    if not facts.container_engine.answers:
        return False
    try:
        return any(one.server == PROGRAM and one.running for one in servers.engine(settings).containers())
    except EngineError:
        return False


def order(
    settings: Settings, plan: Plan, verified: tuple[VerifiedServer, ...], back: Route | None = None
) -> Order:
    """Return what is to be served: what the plan has, or (`back`) the very config of an earlier route."""
    routing = shelf(settings).routing
    if back is None:
        return Order(verified, plan.routes, routing)
    return Order(verified, back.functions or plan.routes, routing, back.config)


def with_keys(
    ctx: RouteContext, settings: Settings, plan: Plan, back: Route | None, *, secrets: Secrets
) -> RouteContext:
    """Return the context with the keys that the operator's config asks for now, not when the run began.

    Raises:
        RouteError, SettingsError: see `keys`.
    """
    return replace(ctx, keys=keys(settings, plan, back, secrets=secrets))


def chosen(  # noqa: PLR0913  # what a run has at hand
    run: HostRun,
    facts: HostFacts,
    plan: Plan,
    http: Http,
    *,
    back: Route | None = None,
    secrets: Secrets = no_secrets,
    stop: threading.Event,
) -> Chosen:
    """Return what a run routes with, until `stop` is set; what was chosen is said.

    Raises:
        ProvisionError: see `door`, `keys`, `gateways`, `proxy` and `records`.
    """
    settings, watch = run.settings, Watch(run.supervisor, stop, run.sink)
    owner, why_proxy = proxy(settings, facts, watch=watch)
    starts, why_gateway = gateways(settings, facts, http, watch=watch)
    for why in (why_gateway, why_proxy):
        run.say("route", "gateway", why)
    kept = records(settings, facts, plan, http, watch=watch, back=back)
    ctx = RouteContext(
        proxy=owner,
        gateways=starts,
        http=http,
        folder=folder(settings),
        door=door(settings),
        hand=settings.gateway.toml,
        keys=keys(settings, plan, back, secrets=secrets),
        env_file=settings.gateway.env_file,
        database=kept.url,
        old=OldProgram(run.supervisor),
        watch_s=settings.gateway.watch_s,
        stop=stop,
        sink=run.sink,
    )
    return Chosen(ctx, (why_gateway, why_proxy), kept.changes)
