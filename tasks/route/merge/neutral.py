"""A config without what reaches out while TensorZero loads it: databases, caches, folders for files. Pure.

Tables stay where they can, with their switches off, so that a misspelt key in them is still found.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

ADAPTIVE = frozenset(("adaptive", "track_and_stop"))
"""Experiments that need Postgres."""

_SWITCHES = (
    ("gateway", "observability", "enabled"),
    ("gateway", "auth", "enabled"),
    ("gateway", "cache", "enabled"),
    ("gateway", "export", "otlp", "traces", "enabled"),
    ("rate_limiting", "enabled"),
)
_CHOICES = (
    ("rate_limiting", "backend"),
    ("postgres", "enabled"),
)
"""What names a database; without it there is none."""


def neutral(config: dict[str, Any]) -> str | None:
    """Return the config as TOML with all of that switched off; None where nothing of it is on."""
    calm = copy.deepcopy(config)
    for *tables, key in _SWITCHES:
        inside = _table(calm, *tables)
        if inside is not None and inside.get(key) is not False:
            inside[key] = False
    for *tables, key in _CHOICES:
        inside = _table(calm, *tables)
        if inside is not None:
            inside.pop(key, None)
    storage = _table(calm, "object_storage")
    if storage is not None and storage.get("type") != "disabled":
        calm["object_storage"] = {"type": "disabled"}
    for name in _table(calm, "functions") or {}:
        _calm_experiments(_table(calm, "functions", name))
    if calm == config:
        return None
    import tomlkit  # noqa: PLC0415  # the process that only loads a config does not need it

    return tomlkit.dumps(calm)


def _calm_experiments(function: dict[str, Any] | None) -> None:
    base = _table(function, "experimentation")
    if function is None or base is None:
        return
    namespaces = _table(base, "namespaces") or {}
    for name, one in namespaces.items():
        namespaces[name] = _static(one)
    function["experimentation"] = _static(base)


def _static(one: Any) -> Any:  # noqa: ANN401  # whatever stands there
    if not isinstance(one, dict) or not is_adaptive(one) or "candidate_variants" not in one:
        return one
    kept = ("candidate_variants", "fallback_variants", "namespaces")
    return {"type": "static", **{key: one[key] for key in kept if key in one}}


def is_adaptive(experiment: Mapping[str, Any]) -> bool:
    """Whether an experiment is of a kind that needs Postgres."""
    kind = experiment.get("type")
    return isinstance(kind, str) and kind in ADAPTIVE


def _table(inside: Any, *keys: str) -> dict[str, Any] | None:  # noqa: ANN401  # whatever stands there
    for key in keys:
        inside = inside.get(key) if isinstance(inside, dict) else None
    return inside if isinstance(inside, dict) else None
