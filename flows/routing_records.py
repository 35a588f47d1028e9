"""The database that keeps what the gateway does, for profiles that want one.

<state>/gateway/clickhouse/   its data, its password
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from flows import servers
from flows.planning import shelf
from flows.routing_keys import folder
from flows.routing_kinds import Watch, image_of, no_container
from flows.settings import Settings
from tasks.contracts import Change, HostFacts, Plan, Route
from tasks.effects.containers import EngineError, pins
from tasks.effects.http import Http
from tasks.errors import RefusedError
from tasks.route.merge.managed import parse
from tasks.route.observability import IMAGE, Place, end, ensure

PORT = 28123
"""Chosen: below the ports that Linux gives to clients, and not ClickHouse's own, which another may have."""


@dataclass(frozen=True, slots=True)
class Records:
    """The address for the gateway (None for no database), and what was done."""

    url: str | None = field(default=None, repr=False)
    changes: tuple[Change, ...] = ()


def wanted(settings: Settings, plan: Plan, back: Route | None = None) -> bool:
    """Whether what the gateway does is to be kept: as the config of an earlier run has it, or the profile."""
    if back is not None:
        gateway = parse(back.config).get("gateway", {})
        return bool(gateway.get("observability", {}).get("enabled"))
    profile = shelf(settings).profiles.get(plan.profile)
    return profile is not None and profile.gateway.observability == "clickhouse"


def refuse_without_engine(
    settings: Settings, facts: HostFacts, plan: Plan, back: Route | None = None
) -> None:
    """Refuse what wants a database on a host that cannot have one, before byte one.

    Raises:
        RefusedError: there is no engine for it.
    """
    if wanted(settings, plan, back) and (cannot := no_container(settings, facts, IMAGE)):
        who = f"profile {plan.profile} wants" if back is None else "the config of that run has"
        then = "set `gateway: {observability: none}` in the profile" if back is None else "take another run"
        raise RefusedError(
            f"{who} the gateway's requests kept in ClickHouse, and {cannot}",
            "nothing was downloaded or started",
            f"mend that, or {then}",
        )


def records(
    settings: Settings, facts: HostFacts, plan: Plan, http: Http, *, watch: Watch, back: Route | None = None
) -> Records:
    """Bring the database up where it is wanted. One that no longer is stays until the run has a new gateway.

    Raises:
        ServeError: its image cannot be had.
        RouteError: it does not start.
        StoppedError: the run was asked to stop.
    """
    image = image_of(settings, facts, IMAGE)
    if not facts.container_engine.answers or image is None or not wanted(settings, plan, back):
        return Records()
    engine = servers.engine(settings)
    with contextlib.closing(engine):
        kept = settings.state / "images.lock.json"
        reference = pins.pinned(image, engine, kept)
        pins.fetch(image, reference, engine, kept, sink=watch.sink, stop=watch.stop)
        place = Place(folder(settings) / "clickhouse", reference, PORT)
        url, change = ensure(place, engine, http, stop=watch.stop)
        return Records(url, (change,))


def end_unwanted(settings: Settings, facts: HostFacts, plan: Plan, back: Route | None) -> tuple[Change, ...]:
    """End a database that no gateway needs any more; one that cannot be ended is left to `pmoves down`."""
    if not facts.container_engine.answers or wanted(settings, plan, back):
        return ()
    engine = servers.engine(settings)
    with contextlib.closing(engine), contextlib.suppress(EngineError):
        change = end(engine)
        return (change,) if change else ()
    return ()
