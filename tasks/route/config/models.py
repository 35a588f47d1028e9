"""Verified servers and clouds → the tables of their models in the gateway's config. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import tomlkit
from tomlkit.items import Array, InlineTable, Table

from tasks.contracts import CloudModel, PlannedRoute, Provider, RouteTier, VerifiedServer
from tasks.route.config.names import EMBEDDINGS, api_base, name_of, section_of
from tasks.route.config.tiers import server_of
from tasks.route.config.timeouts import Waits, chat, cloud, embeddings_ms

COMPLEX = "complex"
"""The namespace that a request names to be answered by a premium model."""

MOST_TOKENS = 4096
"""How long an answer is taken to be where no function caps it. Chosen."""

_POINTERS = {
    "anthropic": (("/usage/input_tokens",), ("/usage/output_tokens",)),
    "google_ai_studio_gemini": (
        ("/usageMetadata/promptTokenCount",),
        ("/usageMetadata/candidatesTokenCount", "/usageMetadata/thoughtsTokenCount"),
    ),
}
_OPENAI_POINTERS = (("/usage/prompt_tokens",), ("/usage/completion_tokens",))
"""Where an answer states its tokens, in and out (docs.tensorzero.com, "Track usage and cost")."""


@dataclass(frozen=True, slots=True)
class Before:
    """The waits that the config before has, so that they can stay."""

    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Before:
        """Read an earlier text; one that is no TOML has nothing to keep."""
        with suppress(tomllib.TOMLDecodeError):
            return cls(tomllib.loads(text))
        return cls()

    def chat(self, name: str, provider: str) -> Waits | None:
        """Return the waits of a chat model."""
        waits = self._at("models", name, "providers", provider, "timeouts")
        total = _at(waits, "non_streaming", "total_ms")
        first = _at(waits, "streaming", "ttft_ms")
        return Waits(total, first) if isinstance(total, int) and isinstance(first, int) else None

    def embeddings_ms(self, name: str, provider: str) -> int | None:
        """Return the wait of an embedding model."""
        wait = self._at("embedding_models", name, "providers", provider, "timeout_ms")
        return wait if isinstance(wait, int) else None

    def _at(self, *steps: str) -> object:
        return _at(self.config, *steps)


def local_model(
    server: VerifiedServer,
    verified: tuple[VerifiedServer, ...],
    routes: tuple[PlannedRoute, ...],
    before: Before,
) -> Table:
    """Return the table of a model that a server of this host serves."""
    planned, name = server.server.planned, name_of(server, verified)
    provider = tomlkit.table()
    provider["type"] = "openai"
    provider["api_base"] = api_base(server.server.base_url)
    provider["model_name"] = server.server.asked_as
    provider["api_key_location"] = "none"
    if section_of(server) is EMBEDDINGS:
        # On the provider: a time-out of the model would cap all of its providers together.
        provider["timeout_ms"] = embeddings_ms(server, before.embeddings_ms(name, planned.runtime))
    else:
        capped = _tokens(
            route
            for route in routes
            for tier in route.tiers
            if tier.tier == "local" and server_of(tier.by, route.role, verified) is server
        )
        tokens = min(capped, planned.context) if planned.context else capped
        provider["timeouts"] = _timeouts(chat(server, tokens, before.chat(name, planned.runtime)))
    provider["cost"] = _cost([("/usage/prompt_tokens", 0.0)])
    return _model(planned.runtime, provider)


def cloud_model(
    model: CloudModel, provider: Provider, routes: tuple[PlannedRoute, ...], key_name: str
) -> Table:
    """Return the table of a cloud's model; a premium one needs a request that is marked as complex."""
    entry = tomlkit.table()
    entry["type"] = provider.type
    if provider.api_base:
        entry["api_base"] = provider.api_base
    entry["model_name"] = model.model_name
    entry["api_key_location"] = f"env::{key_name}"
    using = (route for route in routes if any(tier.by == model.name for tier in tiers_of(route)))
    entry["timeouts"] = _timeouts(cloud(_tokens(using)))
    read, written = _POINTERS.get(provider.type, _OPENAI_POINTERS)
    entry["cost"] = _cost(
        [
            *((pointer, model.input_usd_per_million) for pointer in read),
            *((pointer, model.output_usd_per_million) for pointer in written),
        ]
    )
    return _model(provider.name, entry, namespace=COMPLEX if provider.tier == "premium" else "")


def tiers_of(route: PlannedRoute) -> tuple[RouteTier, ...]:
    """Return every tier of a route once: those of all requests, then those of complex ones alone."""
    return tuple(dict.fromkeys((*route.tiers, *route.complex_tiers)))


def _tokens(routes: Iterable[PlannedRoute]) -> int:
    """Return how long an answer can be."""
    caps = [route.max_tokens or MOST_TOKENS for route in routes]
    return max(caps, default=MOST_TOKENS)


def _model(name: str, provider: Table, namespace: str = "") -> Table:
    # Names may hold dots, which TOML and TensorZero take when they are quoted; `llama.cpp` is such a one.
    providers = tomlkit.table(is_super_table=True)
    providers[name] = provider
    entry = tomlkit.table()
    entry["routing"] = [name]
    if namespace:
        entry["namespace"] = namespace
    entry["providers"] = providers
    return entry


def _timeouts(waits: Waits) -> InlineTable:
    # On the provider: a time-out of the model would cap all of its providers together. None for a whole
    # stream: it may last, its pauses are bounded by the gateway's limit for a read.
    timeouts = tomlkit.inline_table()
    timeouts["non_streaming"] = {"total_ms": waits.total_ms}
    timeouts["streaming"] = {"ttft_ms": waits.first_ms}
    return timeouts


def _cost(prices: Iterable[tuple[str, float]]) -> Array:
    # Not `required`: an answer without its usage has then the cost of what it states, instead of none.
    cost = tomlkit.array()
    for pointer, usd in prices:
        entry = tomlkit.inline_table()
        entry["pointer"] = pointer
        entry["cost_per_million"] = float(usd)
        cost.append(entry)
    return cost


def _at(node: object, *steps: str) -> object:
    for step in steps:
        node = node.get(step) if isinstance(node, dict) else None
    return node
