"""A planned route → the table of its function in the gateway's config: tiers as ordered fallbacks. Pure.

TensorZero's weights are odds, so "local first" is the one candidate, and the rest are fallbacks in order.
"""

from __future__ import annotations

from collections.abc import Mapping

import tomlkit
from tomlkit.items import InlineTable, Table

from tasks.contracts import CloudModel, PlannedRoute, Provider, RouteTier
from tasks.route.config.models import COMPLEX, tiers_of

LEAST_CAPS = {"anthropic": 4096}
"""Types of provider that refuse a request without a cap, and the cap where a function has none. Chosen."""

RETRIES, RETRY_DELAY_S = 1, 2


def function(
    route: PlannedRoute,
    models: Mapping[RouteTier, str],
    clouds: Mapping[str, CloudModel],
    providers: Mapping[str, Provider],
) -> Table:
    """Return the table of a function.

    Args:
        route: what it is, with at least one tier.
        models: what the model of each tier is called in the config.
        clouds: the clouds' models, by name.
        providers: the clouds, by name.
    """
    variants = tomlkit.table(is_super_table=True)
    for tier in tiers_of(route):
        cloud = clouds.get(tier.by)
        variant = _variant(route, models[tier], sampling=cloud is None or cloud.sampling)
        if cloud is None:
            _cap_local(variant, route.max_tokens)
        else:
            least = LEAST_CAPS.get(providers[cloud.provider].type, 0)
            _cap_cloud(variant, route.max_tokens or least)
            if tier == route.tiers[-1]:
                # A retry delays the next tier, so only the last has one.
                variant["retries"] = _retries()
        variants[tier.name] = variant
    table = tomlkit.table()
    table["type"] = "chat"
    table["experimentation"] = _experimentation(route)
    table["variants"] = variants
    return table


def _experimentation(route: PlannedRoute) -> Table:
    table = _order(route.tiers)
    if route.complex_tiers:
        namespaces = tomlkit.table(is_super_table=True)
        namespaces[COMPLEX] = _order(route.complex_tiers)
        table["namespaces"] = namespaces
    return table


def _order(tiers: tuple[RouteTier, ...]) -> Table:
    first, *rest = (tier.name for tier in tiers)
    table = tomlkit.table()
    table["type"] = "static"
    table["candidate_variants"] = [first]
    if rest:
        table["fallback_variants"] = rest
    return table


def _variant(route: PlannedRoute, model: str, *, sampling: bool) -> Table:
    variant = tomlkit.table()
    variant["type"] = "chat_completion"
    variant["model"] = model
    if sampling and route.temperature is not None:
        variant["temperature"] = float(route.temperature)
    if sampling and route.top_p is not None:
        variant["top_p"] = float(route.top_p)
    return variant


def _cap_local(variant: Table, tokens: int) -> None:
    # TensorZero sends a cap as `max_completion_tokens`, and Ollama reads `max_tokens` alone
    # (github.com/ollama/ollama, openai/openai.go).
    if tokens:
        entry = tomlkit.inline_table()
        entry["pointer"] = "/max_tokens"
        entry["value"] = tokens
        caps = tomlkit.array()
        caps.append(entry)
        variant["extra_body"] = caps


def _retries() -> InlineTable:
    table = tomlkit.inline_table()
    table["num_retries"] = RETRIES
    table["max_delay_s"] = RETRY_DELAY_S
    return table


def _cap_cloud(variant: Table, tokens: int) -> None:
    if tokens:
        variant["max_tokens"] = tokens
