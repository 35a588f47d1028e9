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
from tasks.contracts import Change, HostFacts, Plan
from tasks.effects.containers import EngineError, pins
from tasks.effects.http import Http
from tasks.errors import RefusedError
from tasks.route.observability import IMAGE, Place, end, ensure

PORT = 28123
"""Chosen: below the ports that Linux gives to clients, and not ClickHouse's own, which another may have."""


@dataclass(frozen=True, slots=True)
class Records:
    """The address for the gateway (None for no database), and what was done."""

    url: str | None = field(default=None, repr=False)
    changes: tuple[Change, ...] = ()


def wanted(settings: Settings, plan: Plan) -> bool:
    """Whether the plan's profile wants what the gateway does to be kept."""
    profile = shelf(settings).profiles.get(plan.profile)
    return profile is not None and profile.gateway.observability == "clickhouse"


def refuse_without_engine(settings: Settings, facts: HostFacts, plan: Plan) -> None:
    """Refuse a profile that wants a database on a host that cannot have one, before byte one.

    Raises:
        RefusedError: there is no engine for it.
    """
    if wanted(settings, plan) and (cannot := no_container(settings, facts, IMAGE)):
        raise RefusedError(
            f"profile {plan.profile} wants the gateway's requests kept in ClickHouse, and {cannot}",
            "nothing was downloaded or started",
            "mend that, or set `gateway: {observability: none}` in the profile",
        )


def records(settings: Settings, facts: HostFacts, plan: Plan, http: Http, *, watch: Watch) -> Records:
    """Bring the database up where the profile wants it, and end it where it no longer does.

    Raises:
        ServeError: its image cannot be had.
        RouteError: it does not start.
    """
    image = image_of(settings, facts, IMAGE)
    if not facts.container_engine.answers:
        return Records()
    engine = servers.engine(settings)
    with contextlib.closing(engine):
        if not wanted(settings, plan) or image is None:
            with contextlib.suppress(
                EngineError
            ):  # one that stays costs memory, and is ended by `pmoves down`
                change = end(engine)
                return Records(changes=(change,) if change else ())
            return Records()
        kept = settings.state / "images.lock.json"
        reference = pins.pinned(image, engine, kept)
        pins.fetch(image, reference, engine, kept, sink=watch.sink, stop=watch.stop)
        place = Place(folder(settings) / "clickhouse", reference, PORT)
        url, change = ensure(place, engine, http)
        return Records(url, (change,))
