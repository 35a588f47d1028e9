"""Planned routes and verified servers → the text of a TensorZero config. Pure: the same gives the same bytes.

[models.*]            every verified server for text and images, and each cloud's model that a route has
[embedding_models.*]  every verified server for embeddings
[functions.*]         a route each: its tiers as ordered fallbacks, premium ones for complex requests alone
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import tomlkit
from tomlkit.items import Table

from tasks.contracts import CloudModel, PlannedRoute, Provider, RouteTier, Routing, VerifiedServer
from tasks.errors import RouteError
from tasks.route.config.functions import function
from tasks.route.config.models import Before, cloud_model, local_model, tiers_of
from tasks.route.config.names import (
    CHAT,
    EMBEDDINGS,
    FUNCTION,
    INTACT,
    OUTSIDE,
    Section,
    api_base,
    client_name,
    in_order,
    name_of,
    section_of,
)
from tasks.route.config.tiers import served, server_of
from tasks.route.config.timeouts import MOST_MS

__all__ = [
    "INTACT",
    "OUTSIDE",
    "api_base",
    "client_name",
    "client_names",
    "in_order",
    "key_names",
    "name_of",
    "render",
    "served",
]

CLOSED = "dynamic::closed"
"""A key that no request carries: `openai::gpt-4o`, asked for by name, then reaches nobody."""


def render(
    routes: tuple[PlannedRoute, ...],
    verified: tuple[VerifiedServer, ...],
    routing: Routing,
    *,
    before: str = "",
    skip: frozenset[str] = frozenset(),
    observed: bool = False,
) -> str:
    """Return a config that serves every verified server, and every route that has a tier left.

    Args:
        routes: what the plan has.
        verified: the servers of this host; a local tier without one is left out (`served` says it).
        routing: the clouds.
        before: the earlier text, whose time-outs stay while they will do.
        skip: the tables that a hand-written file has. `gateway` and `object_storage` are then not written
            again, nor `provider_types` beside models and functions of its own: their providers may
            take a key from where TensorZero looks by itself.
        observed: whether the gateway has a database and keeps what it does.

    Raises:
        RouteError: there is nothing to serve, or two models have the same name.
    """
    able = tuple(route for route in served(routes, verified, routing) if route.tiers)
    local = in_order(verified)
    if not (able or local):
        raise RouteError("there is no verified model server to route to", INTACT, "serve a model first")
    writer = _Writer(able, verified, routing, Before.of(before), observed=observed)
    document = tomlkit.document()
    for name, (make, instead) in _SINGLE.items():
        if not instead & skip:
            document[name] = make(writer)
    for name, tables in (
        ("embedding_models", writer.embedding_models),
        ("models", writer.chat_models),
        ("functions", writer.functions()),
    ):
        if tables:
            group = tomlkit.table(is_super_table=True)
            for key, table in tables.items():
                group[key] = table
            document[name] = group
    return tomlkit.dumps(document)


def client_names(routes: tuple[PlannedRoute, ...], verified: tuple[VerifiedServer, ...]) -> tuple[str, ...]:
    """Return what clients send as `model`: functions first, then the models of this host."""
    functions = [
        f"{FUNCTION}{route.function}"
        for route in sorted(routes, key=lambda route: route.function)
        if any(tier.tier != "local" or server_of(tier.by, route.role, verified) for tier in route.tiers)
    ]
    return (*functions, *(client_name(server, verified) for server in in_order(verified)))


def key_names(routes: tuple[PlannedRoute, ...], routing: Routing) -> dict[str, str]:
    """Return, for each key that a config of these routes names, the variable that the operator sets.

    The names are our own, so that the gateway does not find a key where it looks for one by itself.
    """
    used = {tier.by.partition("/")[0] for route in routes for tier in tiers_of(route) if tier.tier != "local"}
    return {_key_name(one): one.key for one in routing.providers if one.name in used}


def _key_name(provider: Provider) -> str:
    return "PMOVES_KEY_" + provider.name.upper().replace("-", "_")


@dataclass(frozen=True)
class _Writer:
    """One config being written. `routes` have a tier each."""

    routes: tuple[PlannedRoute, ...]
    verified: tuple[VerifiedServer, ...]
    routing: Routing
    before: Before
    observed: bool = False

    @cached_property
    def providers(self) -> dict[str, Provider]:
        return {one.name: one for one in self.routing.providers}

    @cached_property
    def clouds(self) -> dict[str, CloudModel]:
        """Every cloud model that a route has, in the order of the catalogue."""
        used = {tier.by for route in self.routes for tier in tiers_of(route) if tier.tier != "local"}
        return {one.name: one for one in self.routing.models if one.name in used}

    def local(self, section: Section) -> dict[str, Table]:
        """Return the tables of one section's servers."""
        return {
            name_of(server, self.verified): local_model(server, self.verified, self.routes, self.before)
            for server in in_order(self.verified)
            if section_of(server) is section
        }

    @cached_property
    def chat_models(self) -> dict[str, Table]:
        """Return the tables of all models that answer in text."""
        local = self.local(CHAT)
        for name in self.clouds:
            if name in local:
                what = f"{name} is the name of a cloud's model and of a server's of this host"
                raise RouteError(what, INTACT, "give the server's model another name")
        return local | {name: self._cloud(one) for name, one in self.clouds.items()}

    @cached_property
    def embedding_models(self) -> dict[str, Table]:
        return self.local(EMBEDDINGS)

    def functions(self) -> dict[str, Table]:
        """Return the tables of all functions."""
        return {
            route.function: function(
                route,
                {tier: self._name(tier, route) for tier in tiers_of(route)},
                self.clouds,
                self.providers,
            )
            for route in self.routes
        }

    def longest_ms(self) -> int:
        """Return the longest wait of all models."""
        chat = [
            wait
            for model in self.chat_models.values()
            for provider in model["providers"].values()
            for wait in (
                provider["timeouts"]["non_streaming"]["total_ms"],
                provider["timeouts"]["streaming"]["ttft_ms"],
            )
        ]
        embeddings = [
            provider["timeout_ms"]
            for model in self.embedding_models.values()
            for provider in model["providers"].values()
        ]
        return int(max((*chat, *embeddings)))

    def _cloud(self, model: CloudModel) -> Table:
        provider = self.providers[model.provider]
        return cloud_model(model, provider, self.routes, _key_name(provider))

    def _name(self, tier: RouteTier, route: PlannedRoute) -> str:
        server = server_of(tier.by, route.role, self.verified) if tier.tier == "local" else None
        return name_of(server, self.verified) if server else tier.by


def _gateway(writer: _Writer) -> Table:
    # No bind_address: whoever starts the gateway chooses its port, and both together are refused.
    table = tomlkit.table()
    observability = tomlkit.inline_table()
    # Written out either way: left out, the gateway would keep things where it happens to find a database.
    observability["enabled"] = writer.observed
    table["observability"] = observability
    table["disable_pseudonymous_usage_analytics"] = True
    table["global_outbound_http_timeout_ms"] = MOST_MS
    # It bounds the wait for the first byte of every answer too, so it is as long as the longest wait.
    table["global_outbound_http_intra_stream_read_timeout_ms"] = writer.longest_ms()
    return table


def _object_storage(_writer: _Writer) -> Table:
    # Written out: without it every request with an image fails.
    table = tomlkit.table()
    table["type"] = "disabled"
    return table


def _provider_types(writer: _Writer) -> Table:
    types = {writer.providers[one.provider].type for one in writer.clouds.values()}
    table = tomlkit.table(is_super_table=True)
    for name in sorted(types | {"openai"}):
        defaults = tomlkit.table()
        defaults["api_key_location"] = CLOSED
        closed = tomlkit.table(is_super_table=True)
        closed["defaults"] = defaults
        table[name] = closed
    return table


_SINGLE: dict[str, tuple[Callable[[_Writer], Table], frozenset[str]]] = {
    "gateway": (_gateway, frozenset({"gateway"})),
    "object_storage": (_object_storage, frozenset({"object_storage"})),
    "provider_types": (
        _provider_types,
        frozenset({"provider_types", "models", "embedding_models", "functions"}),
    ),
}
"""Tables of which a config has one, and which of a hand-written file stand in the place of ours."""
