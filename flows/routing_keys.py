"""Which keys the gateway's configs need, and where they come from: the environment, a file, Secret blocks.

<state>/gateway/keys/   where a rollout puts them (tasks/route/merge/keys.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from flows.planning import shelf
from flows.settings import Settings, environment_values
from tasks.contracts import Plan, Route
from tasks.errors import RouteError
from tasks.route.config.render import key_names
from tasks.route.generations import Store
from tasks.route.merge.keys import gateway_environment, key_places, read_environment
from tasks.route.merge.managed import parse, read_hand

Secrets = Callable[[Iterable[str]], Mapping[str, str]]
"""Gives the values of variables that the environment does not have."""


def no_secrets(_names: Iterable[str]) -> Mapping[str, str]:
    """Know no value: what is not in the environment is not there."""
    return {}


def folder(settings: Settings) -> Path:
    """Return where the gateway's configs lie."""
    return settings.state / "gateway"


def keys(
    settings: Settings, plan: Plan, back: Route | None = None, *, secrets: Secrets = no_secrets
) -> dict[str, str]:
    """Return the values of the variables that the configs at hand take keys from, and of no others.

    Raises:
        RouteError: the operator's config cannot be read.
        SettingsError: the file of keys cannot be read.
    """
    routing = shelf(settings).routing
    hand = settings.gateway.toml
    texts = [read_hand(hand)] if hand is not None else []
    texts += [back.config] if back is not None else []
    routes = back.functions or plan.routes if back is not None else plan.routes
    ours = key_names(routes, routing)
    named = {ours.get(name, name) for text in texts for name in key_places(parse(text))}
    wanted = sorted(named | set(ours.values()) | {one.key for one in routing.providers})
    found = environment_values(wanted, settings)
    return {**secrets(name for name in wanted if not found.get(name)), **found}


def refuse_keyless(settings: Settings, plan: Plan, back: Route, *, secrets: Secrets) -> None:
    """Refuse an earlier config whose providers' keys are not here any more, before anything is changed.

    Raises:
        RouteError: a key is missing, or cannot be sent.
    """
    ours = key_names(back.functions or plan.routes, shelf(settings).routing)
    name = "the config of that run"
    gateway_environment(back.config, ours, keys(settings, plan, back, secrets=secrets), name=name)


def keyed(settings: Settings, route: Route) -> frozenset[str]:
    """Return the providers whose keys the gateway of a route has; the keys are not kept."""
    providers = shelf(settings).routing.providers
    path = Store(folder(settings)).keys(route.generation)
    try:
        there = set(read_environment(path.read_text()))
    except (OSError, RouteError):
        return frozenset()
    ours = key_names(route.functions, shelf(settings).routing)
    variables = {ours[name] for name in there if name in ours}
    return frozenset(one.name for one in providers if one.key in variables)
