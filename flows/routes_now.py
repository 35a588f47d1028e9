"""What `pmoves routes` looks at: the last good run, the proxy and what it counted, and who answers now."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from flows import routing_keys
from flows.report_routes import Live, RoutesNow, Seen, gather
from flows.settings import Settings
from tasks.contracts import Route, RouteTier, RunRecord, VerifiedServer
from tasks.effects.http import Http, HttpError
from tasks.errors import RefusedError
from tasks.record import history
from tasks.route.proxy.contract import SERVER_ERROR, Count, Proxy

ASK_S = 2.0
"""A server that runs says so in milliseconds, also while it computes. Chosen."""
AT_ONCE = 8


def last_routes(settings: Settings) -> tuple[RunRecord, Route]:
    """Return the last good run, and its routes.

    Raises:
        RefusedError: no run of this host made routes yet.
    """
    record = history.read(history.journal(settings.state, settings.host)).last_good()
    if record is None or record.route is None:
        what = "no run of this host made routes yet"
        raise RefusedError(what, "nothing was changed", "run `pmoves provision`")
    return record, record.route


def look(
    settings: Settings, record: RunRecord, route: Route, *, proxy: Proxy, http: Http, now: datetime
) -> tuple[RoutesNow, tuple[Count, ...]]:
    """Return what the gateway serves and who would answer now, and all that the proxy counted."""
    counts, active, runs = proxy.counts(), proxy.active(), proxy.runs()
    up = _up(record, http)
    keyed = routing_keys.keyed(settings, route)
    seen = Seen(
        proxy_runs=runs,
        active=active.name if active else "",
        counts=counts,
        live=lambda tier: _live(tier, record, up, keyed),
        up=lambda one: up[one.server.base_url],
    )
    return gather(record, route, seen, now), counts


def _up(record: RunRecord, http: Http) -> dict[str, Live]:
    """Ask every server once, several at a time, for what costs it nothing."""
    addresses = sorted({one.server.base_url for one in record.verified})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(addresses, pool.map(lambda url: answers(url, http), addresses), strict=True))


def answers(base_url: str, http: Http) -> Live:
    """Tell whether a server answers. One that has no list of models says 404, and is up too."""
    try:
        reply = http.get(f"{base_url.rstrip('/')}/models", timeout_s=ASK_S)
    except HttpError as error:
        return False, f"down: {error}"
    up = reply.status < SERVER_ERROR
    return up, "up" if up else f"down: HTTP {reply.status}"


def _live(tier: RouteTier, record: RunRecord, up: Mapping[str, Live], keyed: frozenset[str]) -> Live:
    """Tell whether a tier could answer: by its server, or by the key that the gateway has."""
    if tier.tier == "local":
        server = _server(tier.by, record)
        return up[server.server.base_url] if server is not None else (False, "no server has it")
    return (True, "has a key") if tier.by.partition("/")[0] in keyed else (False, "no key")


def _server(model: str, record: RunRecord) -> VerifiedServer | None:
    return next((one for one in record.verified if one.server.planned.model == model), None)
