"""Where a model of a wish could lie. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.contracts import Residency, Wish
from tasks.plan.budget import MAIN, Pool, Pools
from tasks.plan.request import Request

COUNTS = (2, 3, 4, 6, 8, 12, 16)
"""Over how many cards a model may be cut."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies: on one pool, or cut over several; always, or in turns with others."""

    residency: Residency
    pools: tuple[int, ...]
    on_gpu: bool

    @property
    def split(self) -> bool:
        """Whether the model is cut."""
        return len(self.pools) > 1

    @property
    def waits(self) -> bool:
        """Whether it takes turns with others."""
        return self.residency == "on-demand"


def places(pools: Pools, wish: Wish, model: str, *, request: Request) -> Iterator[Place]:
    """Yield every place that the wish and the overrides allow, the best kind first."""
    residency = request.override(wish.role, model, "residency")
    device = request.override(wish.role, model, "device")
    forced = {one.value for one in (residency, device) if one}
    for place in _all(pools, wish, forced=forced):
        if residency and residency.value != place.residency:
            continue
        if device and sorted(device.value.split("+")) != _named(pools, place):
            continue
        yield place


def _named(pools: Pools, place: Place) -> list[str]:
    return sorted(pools.pools[at].name for at in place.pools) if place.on_gpu else [MAIN]


def _all(pools: Pools, wish: Wish, *, forced: set[str]) -> Iterator[Place]:
    cards = [at for at, pool in enumerate(pools.pools) if pool.on_gpu]
    sets = [(at,) for at in cards] + list(split_sets(pools.pools))
    waits = "wait" in wish.may or "on-demand" in forced
    for chosen in sets:
        yield Place("resident", chosen, on_gpu=True)
    if waits:
        for chosen in sets:
            yield Place("on-demand", chosen, on_gpu=True)
    main = next((at for at, pool in enumerate(pools.pools) if pool.main), None)
    if main is not None and (not cards or "cpu" in wish.may or MAIN in forced):
        yield Place("cpu", (main,), on_gpu=False)
        if waits and not cards:
            yield Place("on-demand", (main,), on_gpu=False)


def split_sets(pools: tuple[Pool, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the sets of cards that a model may be cut over: of one vendor, the largest two, three, four, ….

    They lie in each other, so whether several cut models fit can be told exactly. A slice of a card
    cannot work with another, and a device that shares main memory stands alone.
    """
    vendors: dict[str, list[int]] = {}
    for at, pool in enumerate(pools):
        if pool.device and not pool.device.unified and pool.device.slice_of is None:
            vendors.setdefault(pool.device.vendor, []).append(at)
    for cards in vendors.values():
        ordered = sorted(cards, key=lambda at: (-pools[at].budget_bytes, at))
        for count in COUNTS:
            if count <= len(ordered):
                yield tuple(sorted(ordered[:count]))
