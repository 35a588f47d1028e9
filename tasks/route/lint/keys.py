"""Keys that TensorZero does not know and takes without a word. In all other tables it refuses them.

The lists are those of 2026.6.0 (tensorzero/tensorzero: crates/tensorzero-core/src/{config,experimentation}).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.route.lint.look import Hit, Look, Place, Table, entries, table
from tasks.wording import meant

_LISTS = frozenset(("type", "candidate_variants", "fallback_variants"))
_ADAPTIVE = _LISTS | {
    "metric",
    "min_samples_per_variant",
    "delta",
    "epsilon",
    "update_period_s",
    "min_prob",
    "max_samples_per_variant",
}
EXPERIMENTS = {
    "static": _LISTS,
    "uniform": _LISTS,
    "static_weights": _LISTS,
    "adaptive": _ADAPTIVE | {"algorithm"},
    "track_and_stop": _ADAPTIVE,
}
RETRIES = frozenset(("num_retries", "max_delay_s"))
RATE_LIMITING = frozenset(("enabled", "backend", "default_cost", "rules"))
POSTGRES = frozenset(
    ("enabled", "connection_pool_size", "inference_metadata_retention_days", "inference_data_retention_days")
)
PROVIDER_TYPE = frozenset(("defaults", "sft", "batch"))
DEFAULTS = frozenset(("api_key_location", "credential_location"))


def unknown_keys(look: Look) -> Iterator[Hit]:
    """Find keys that do nothing: a misspelt `fallback_variants` leaves a function without fallback."""
    for place, function in look.functions():
        yield from _experiment(table(function, "experimentation"), (*place, "experimentation"))
    for place, variant in look.variants():
        yield from _unknown(table(variant, "retries"), (*place, "retries"), RETRIES)
    yield from _unknown(table(look.config, "rate_limiting"), ("rate_limiting",), RATE_LIMITING)
    yield from _unknown(table(look.config, "postgres"), ("postgres",), POSTGRES)
    for place, kind in entries(look.config, "provider_types"):
        yield from _unknown(kind, place, PROVIDER_TYPE)
        yield from _unknown(table(kind, "defaults"), (*place, "defaults"), DEFAULTS)


def _experiment(experiment: Table, place: Place) -> Iterator[Hit]:
    yield from _unknown(experiment, place, _known(experiment) | {"namespaces"})
    for inside, one in entries(experiment, "namespaces", before=place):
        yield from _unknown(one, inside, _known(one))


def _known(experiment: Table) -> frozenset[str]:
    return EXPERIMENTS.get(str(experiment.get("type")), EXPERIMENTS["adaptive"])


def _unknown(inside: Table, place: Place, known: Iterable[str]) -> Iterator[Hit]:
    names = sorted(known)
    for key in inside:
        if key not in names:
            what = f"TensorZero does not know the key and takes it without a word{meant(key, names)}"
            yield Hit((*place, key), what, "correct it, or take it out")
