"""A wish becomes candidates: each model of it, in each variant, in each place where it could lie. Pure.

A candidate leaves the context and the KV type open: `loads[c][k]` is what it takes with the c-th context
of its ladder and the k-th KV type, so that a search can turn both without building anything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tasks.contracts import (
    Catalogue,
    HostFacts,
    KvType,
    Limits,
    Measured,
    Model,
    Need,
    Role,
    RuntimeName,
    Variant,
    Wish,
)
from tasks.plan.budget import Pools
from tasks.plan.clouds import reached
from tasks.plan.hosting import Hosting, Offers
from tasks.plan.loads import Candidate, Loads, contexts, longest
from tasks.plan.memory import Setting, need, read_bytes
from tasks.plan.places import Place, places
from tasks.plan.request import Request
from tasks.plan.support import BY_NAME
from tasks.wording import gib, listed

_TO = {"none": "nobody", "cloud": "a cloud"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a variant cannot be had in some place; an empty variant means the whole model.

    `quant` is the variant's place in the order of preference, as in `Candidate`.
    """

    variant: str
    why: str
    quant: int = -1
    on_gpu: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """All candidates of one wish; for each model the reasons for which some of it is none.

    `withheld` says that the host has cards which no container gets, so what runs on the CPU is no choice.
    """

    wish: Wish
    models: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    refused: Mapping[str, tuple[Refusal, ...]]
    cloud: bool = False
    forced: bool = False
    shares: bool = False
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes candidates for one host."""

    facts: HostFacts
    catalogue: Catalogue
    pools: Pools
    offers: Offers
    request: Request
    limits: Limits
    hosting: Hosting = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Ask of this host alone."""
        hosting = Hosting(self.facts, self.catalogue, self.pools, self.offers)
        object.__setattr__(self, "hosting", hosting)

    def clouds(self, role: Role) -> tuple[str, ...]:
        """Return the clouds that answer for a role when nobody here does."""
        return reached(role, self.catalogue, self.request.cloud, self.request.may_leave)

    def table(self, wish: Wish) -> Table:
        """Return the candidates of one role's wish."""
        chosen = self.request.override(wish.role, "", "model")
        models = (chosen.value,) if chosen else wish.models
        found: list[Candidate] = []
        refused: dict[str, tuple[Refusal, ...]] = {}
        for rank, name in enumerate(models):
            reasons: dict[Refusal, None] = {}
            found += self._of_model(wish, self.catalogue.models[name], rank=rank, reasons=reasons)
            refused[name] = tuple(reasons)
        residency = self.request.override(wish.role, "", "residency")
        decided = residency.value if residency else ""
        if decided in {"none", "cloud"}:
            found = []
            why = f"{wish.role} is left to {_TO[decided]}, as {residency} says"
            if decided == "cloud" and not self.clouds(wish.role):
                why += (
                    ", and no cloud has a key here" if not self.request.cloud else ", and none may answer it"
                )
            refused = {name: (Refusal("", why),) for name in models[:1]}
        cloud = bool(self.clouds(wish.role)) and (decided == "cloud" or (not decided and "cloud" in wish.may))
        forced, placed = _decided(wish, models, self.request)
        shares = "share" in wish.may and not placed
        return Table(
            wish,
            models,
            tuple(found),
            refused,
            cloud=cloud,
            forced=forced,
            shares=shares,
            withheld=self.hosting.withheld,
        )

    def _of_model(
        self, wish: Wish, model: Model, *, rank: int, reasons: dict[Refusal, None]
    ) -> Iterator[Candidate]:
        if why := model.unserved or self._too_long(wish, model):
            reasons[Refusal("", f"{model.name}: {why}")] = None
            return
        there = tuple(places(self.pools, wish, model.name, request=self.request))
        for quant, variant in enumerate(self._variants(wish, model, reasons)):
            tables: dict[tuple[RuntimeName, bool], Loads] = {}
            for place in there:
                runtime = self._runtime(model, variant, place, quant=quant, reasons=reasons)
                if runtime is None:
                    continue
                if why := self._unfit(wish, model, variant, place=place, runtime=runtime):
                    text = f"{model.name} {variant.name}: {why}"
                    reasons[Refusal(variant.name, text, quant, place.on_gpu)] = None
                    continue
                key = (runtime, place.on_gpu)
                if key not in tables:
                    tables[key] = self._loads(wish, model, variant, runtime=runtime, on_gpu=place.on_gpu)
                yield tables[key].candidate(place, rank=rank, quant=quant)

    def _too_long(self, wish: Wish, model: Model) -> str:
        """Return why a context that is set, or the least that is wished, cannot be had of a model."""
        chosen, most = self.request.override(wish.role, model.name, "context"), longest(model)
        if chosen is None:
            short = 0 < most < (wish.min_context or 0)
            return (
                f"it takes {most} tokens at most, and {wish.min_context} are the fewest worth serving"
                if short
                else ""
            )
        if chosen.number <= most:
            return ""
        return f"it takes {most} tokens at most" if most else "it has no context that could be set"

    def _unfit(
        self, wish: Wish, model: Model, variant: Variant, *, place: Place, runtime: RuntimeName
    ) -> str:
        """Return why a variant is not put into a place: too slow there, or set to less than it is."""
        size, given = variant.size_bytes(runtime), self._memory_override(wish, model)
        if given is not None and given < size:
            return f"memory_bytes is set to {gib(given)}, and its weights alone are {gib(size)}"
        return "" if place.on_gpu else self._too_slow(wish, model, variant, runtime=runtime)

    def _variants(self, wish: Wish, model: Model, reasons: dict[Refusal, None]) -> tuple[Variant, ...]:
        """Return the variants that may be taken, best first."""
        chosen = self.request.override(wish.role, model.name, "quantisation")
        names = (chosen.value,) if chosen else wish.quantisations
        named = [model.variant(name) for name in names]
        if found := [one for one in named if one is not None]:
            return tuple(found)
        if chosen:
            reasons[Refusal("", f"{model.name} has no variant {chosen.value}")] = None
            return ()
        first = (
            model.variants[0].size_bytes(model.variants[0].runtimes[0])
            if model.variants and model.variants[0].runtimes
            else 0
        )
        return tuple(
            one for one in model.variants if one.runtimes and one.size_bytes(one.runtimes[0]) <= first
        )

    def _runtime(
        self, model: Model, variant: Variant, place: Place, *, quant: int, reasons: dict[Refusal, None]
    ) -> RuntimeName | None:
        """Return the first runtime that can serve a variant from a place."""
        silent = []
        for runtime in variant.runtimes:
            offer = self.offers.get(runtime)
            if offer is None or not offer.available:
                silent.append(offer.reason if offer else f"{runtime} is not known here")
                continue
            if model.gated and runtime != "ollama" and not self.request.hub_token:
                why = f"{model.name} is gated on the Hub and there is no token (set HF_TOKEN)"
                reasons[Refusal(variant.name, why, quant)] = None
                continue
            if self._never(runtime, place, model):
                continue
            if reason := self.hosting.cannot(runtime, place):
                reasons[
                    Refusal(variant.name, f"{model.name} {variant.name}: {reason}", quant, place.on_gpu)
                ] = None
                continue
            return runtime
        if silent:
            why = listed(list(dict.fromkeys(silent)))
            text = f"{model.name} needs {' or '.join(variant.runtimes)}: {why}"
            reasons[Refusal(variant.name, text, quant)] = None
        return None

    def _never(self, runtime: RuntimeName, place: Place, model: Model) -> bool:
        """Tell whether a runtime does not do what a place asks for on any hardware: take turns, or cut."""
        row = BY_NAME[runtime]
        if (place.waits and not row.swaps) or (place.on_gpu and not row.container):
            return True
        if not place.split:
            return False
        if model.attention is None or not (row.splits_layers or row.splits_tensors):
            return True
        return row.splits_tensors and not _divides(model, place)

    def _too_slow(self, wish: Wish, model: Model, variant: Variant, *, runtime: RuntimeName) -> str:
        """Return why a CPU is no place for a model that writes text, unless a person wants it there."""
        read, most = read_bytes(model, variant.size_bytes(runtime)), self.limits.cpu_read_bytes
        wanted = any(self.request.override(wish.role, model.name, key) for key in ("residency", "device"))
        if wanted or self.request.accept_risk or model.attention is None or read <= most:
            return ""
        return f"on a CPU each token would read {gib(read)}, and {gib(most)} is the most that is not too slow"

    def _loads(
        self, wish: Wish, model: Model, variant: Variant, *, runtime: RuntimeName, on_gpu: bool
    ) -> Loads:
        chosen = self.request.override(wish.role, model.name, "context")
        return Loads(
            model=model,
            variant=variant,
            runtime=runtime,
            on_gpu=on_gpu,
            contexts=(chosen.number,) if chosen else contexts(wish, model),
            kv_types=self.hosting.kv_types(wish, model, runtime),
            parallel=self.hosting.parallel(wish, runtime),
            measured=self.measured(model, variant, runtime=runtime, on_gpu=on_gpu),
            override=self._memory_override(wish, model),
        )

    def _memory_override(self, wish: Wish, model: Model) -> int | None:
        one = self.request.override(wish.role, model.name, "memory_bytes")
        return one.number if one else None

    def measured(
        self, model: Model, variant: Variant, *, runtime: RuntimeName, on_gpu: bool
    ) -> Measured | None:
        """Return the newest footprint that was measured here."""
        wanted = (model.name, variant.name, runtime, on_gpu)
        found = [
            one
            for one in self.request.measured
            if (one.model, one.quantisation, one.runtime, one.on_gpu) == wanted
        ]
        return found[-1] if found else None

    def need(self, one: Candidate, *, context: int, kv_type: KvType, parallel: int) -> Need:
        """Return the parts of what a candidate takes."""
        setting = Setting(context, kv_type, parallel, one.place.on_gpu)
        measured = self.measured(one.model, one.variant, runtime=one.runtime, on_gpu=one.place.on_gpu)
        return need(
            one.model,
            one.variant,
            runtime=one.runtime,
            setting=setting,
            measured=measured,
            set_bytes=one.memory_bytes,
        )


def _divides(model: Model, place: Place) -> bool:
    """Tell whether tensor parallelism can cut a model: its heads must divide by the number of cards."""
    if model.attention is None or model.attention.heads is None:
        return False
    cards = len(place.pools)
    return model.attention.heads % cards == 0 and model.attention.kv_heads % cards == 0


def _decided(wish: Wish, models: tuple[str, ...], request: Request) -> tuple[bool, bool]:
    """Tell whether a person decided something of a role, and whether they decided where it lies.

    What is decided may not be dropped in silence, and where it lies it does not lie with another role.
    """
    mine = [one for one in request.overrides if one.target in {wish.role, *models} and one.value != "none"]
    return bool(mine), any(one.key in {"residency", "device", "memory_bytes"} for one in mine)
