"""What the gateway as a whole needs and may not have: databases, storage, an address."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.route.lint.look import Hit, Look, Table, entries, table
from tasks.route.merge.neutral import is_adaptive

CLICKHOUSE = "TENSORZERO_CLICKHOUSE_URL"
POSTGRES = "TENSORZERO_POSTGRES_URL"
VALKEY = "TENSORZERO_VALKEY_URL"
VALKEY_CACHE = "TENSORZERO_VALKEY_CACHE_URL"

NO_START = "the gateway has no {}, so it does not start"


def no_storage(look: Look) -> Iterator[Hit]:
    """Find a config in which every request with an image or a file fails."""
    if "object_storage" not in look.config:
        what = "without it each request with an image or a file is answered with 500"
        yield Hit(("object_storage",), what, 'add [object_storage] with type = "disabled"')


def own_address(look: Look) -> Iterator[Hit]:
    """Find an address for a gateway that gets its port when it is started, beside the one before."""
    if "bind_address" in table(look.config, "gateway"):
        what = "each gateway gets a port of its own when it is started, and does not start with two addresses"
        yield Hit(("gateway", "bind_address"), what, "take it out: the proxy has the public port")


def databases(look: Look) -> Iterator[Hit]:
    """Find what needs a database, where the gateway has none of that kind."""
    gateway = table(look.config, "gateway")
    if table(gateway, "observability").get("enabled") is True and not look.environment & {
        CLICKHOUSE,
        POSTGRES,
    }:
        yield _missing(("gateway", "observability"), "ClickHouse and no Postgres", "set enabled = false")
    if table(gateway, "auth").get("enabled") is True and POSTGRES not in look.environment:
        yield _missing(("gateway", "auth"), "Postgres", "set enabled = false: the proxy can ask for a token")
    caches = {CLICKHOUSE, POSTGRES, VALKEY, VALKEY_CACHE}
    if table(gateway, "cache").get("enabled") is True and not look.environment & caches:
        yield _missing(("gateway", "cache"), "database for a cache", "set enabled = false")
    limits = table(look.config, "rate_limiting")
    if _limits(limits) and not look.environment & {VALKEY, POSTGRES}:
        yield _missing(("rate_limiting",), "Valkey and no Postgres", "set enabled = false")
    if table(look.config, "postgres").get("enabled") is True and POSTGRES not in look.environment:
        yield _missing(("postgres",), "Postgres", "take enabled out")
    if POSTGRES not in look.environment:
        yield from _adaptive(look)


def _adaptive(look: Look) -> Iterator[Hit]:
    for place, function in look.functions():
        base = table(function, "experimentation")
        where = (*place, "experimentation")
        for inside, one in ((where, base), *entries(base, "namespaces", before=where)):
            if is_adaptive(one):
                yield _missing(inside, "Postgres", 'write type = "static"')


def _limits(limits: Table) -> bool:
    return bool(limits.get("rules")) and limits.get("enabled") is not False


def _missing(where: tuple[str, ...], what: str, then: str) -> Hit:
    return Hit(where, NO_START.format(what), then)
