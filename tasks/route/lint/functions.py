"""Functions that load and then fail, or whose requests go where nobody sent them."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.route.lint.look import Hit, Look, Place, Table, entries, table, words
from tasks.route.merge.managed import dotted
from tasks.wording import listed

FEWEST_TO_CHOOSE = 2


def no_variants(look: Look) -> Iterator[Hit]:
    """Find functions that nobody answers."""
    for place, function in look.functions():
        if "variants" in function and not table(function, "variants"):
            yield Hit(
                (*place, "variants"), "there is none, so each request fails", "add a variant, or take it out"
            )


def unreachable(look: Look) -> Iterator[Hit]:
    """Find variants that no list names: only who asks for one by name gets it, so it is no fallback."""
    for place, function in look.functions():
        experiment = table(function, "experimentation")
        if "candidate_variants" not in experiment:
            continue
        reached = set(_listed(experiment))
        for _, one in entries(experiment, "namespaces"):
            reached |= set(_listed(one))
        for _, variant in entries(function, "variants"):
            reached |= set(words(variant, "candidates"))
        for name in table(function, "variants"):
            if name not in reached:
                yield Hit(
                    (*place, "variants", name),
                    "neither candidate_variants nor fallback_variants name it, so it never answers",
                    f"name it in {dotted((*place, 'experimentation'))}, or take it out",
                )


def sampled(look: Look) -> Iterator[Hit]:
    """Find functions that draw a variant for each request, so that the local one is not asked first."""
    for place, names in _without_order(look):
        if not _weighted(look, place):
            what = f"without an experimentation section, requests are spread evenly over {listed(names)}"
            yield Hit(place, what, _say(place))


def weights(look: Look) -> Iterator[Hit]:
    """Find variants with the deprecated `weight`, which are odds and no order."""
    for place, names in _without_order(look):
        if found := _weighted(look, place):
            what = (
                f"weight is deprecated and means odds: {listed(found)} of {listed(names)} are drawn by them"
            )
            yield Hit(place, what, _say(place))


def _say(place: Place) -> str:
    return f"say in {dotted((*place, 'experimentation'))} which are candidates and which fallbacks"


def _listed(experiment: Table) -> tuple[str, ...]:
    return (*words(experiment, "candidate_variants"), *words(experiment, "fallback_variants"))


def _without_order(look: Look) -> Iterator[tuple[Place, tuple[str, ...]]]:
    for place, function in look.functions():
        names = tuple(table(function, "variants"))
        if len(names) >= FEWEST_TO_CHOOSE and "experimentation" not in function:
            yield place, names


def _weighted(look: Look, place: Place) -> tuple[str, ...]:
    return tuple(where[-1] for where, one in entries(look.config, *place, "variants") if "weight" in one)
