"""What serves a runtime on one host: an image of ours, this program, or a server that already runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.contracts import Catalogue, HostFacts, Image, KvType, Model, RuntimeName, RuntimeOffer, Wish
from tasks.plan.budget import MAIN, Pools
from tasks.plan.images import withheld
from tasks.plan.places import Place
from tasks.plan.support import BY_NAME, image_for, why_not

Offers = Mapping[RuntimeName, RuntimeOffer]


@dataclass(frozen=True, slots=True)
class Hosting:
    """Answers for one host; each question about its hardware is worked out once."""

    facts: HostFacts
    catalogue: Catalogue
    pools: Pools
    offers: Offers
    _answered: dict[tuple[RuntimeName, Place], str] = field(default_factory=dict, repr=False, compare=False)

    def cannot(self, runtime: RuntimeName, place: Place) -> str:
        """Return why a runtime that is offered cannot use the hardware of a place, or an empty text."""
        key = (runtime, place)
        if key not in self._answered:
            self._answered[key] = why_not(
                self.offers[runtime],
                [self.pools.pools[at] for at in place.pools],
                facts=self.facts,
                catalogue=self.catalogue,
                on_gpu=place.on_gpu,
            )
        return self._answered[key]

    def image(self, runtime: RuntimeName, devices: Sequence[str]) -> Image | None:
        """Return what a server's container is made of; None for one that is no container of ours."""
        if not BY_NAME[runtime].container or self.external(runtime):
            return None
        pools = [one for one in self.pools.pools if one.name in devices]
        on_gpu = MAIN not in devices
        found = image_for(runtime, pools, facts=self.facts, catalogue=self.catalogue, on_gpu=on_gpu)
        return None if isinstance(found, str) else found

    @property
    def withheld(self) -> bool:
        """Whether the engine hands out none of the cards that are here."""
        cards = [[one.device] for one in self.pools.pools if one.device is not None]
        return bool(cards) and all(withheld(one, self.facts) for one in cards)

    def external(self, runtime: RuntimeName) -> str:
        """Return where a server of a runtime already runs that is used instead of one of ours."""
        offer = self.offers.get(runtime)
        return offer.external if offer else ""

    def kv_types(self, wish: Wish, model: Model, runtime: RuntimeName) -> tuple[KvType, ...]:
        """Return the KV types that may be taken. A server that is not ours has its own, taken to be f16."""
        chosen = model.attention is not None and BY_NAME[runtime].kv_types and not self.external(runtime)
        return wish.kv_types if chosen else ("f16",)

    def parallel(self, wish: Wish, runtime: RuntimeName) -> int:
        """Return how many requests are answered at once; a server that is not ours is not told."""
        return 1 if self.external(runtime) else wish.parallel
