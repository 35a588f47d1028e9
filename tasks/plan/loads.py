"""What one variant takes under one runtime, along the ladders of context and KV type. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import KvType, Measured, Model, Need, RuntimeName, Variant, Wish
from tasks.plan.memory import Setting, compute_slope, kv_bytes, need
from tasks.plan.places import Place
from tasks.plan.support import BY_NAME

LADDER = (
    1048576, 786432, 524288, 393216, 262144, 196608, 131072, 98304, 65536, 49152, 32768, 24576, 16384, 12288,
    8192, 6144, 4096, 3072, 2048, 1024, 512,
)  # fmt: skip
"""The contexts that are tried below the wished one: halves, and the steps half way between them."""

DEFAULT_CONTEXT = 8192
DEFAULT_FLOOR = 2048


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model in one variant in one place.

    `rank` and `quant` are the places of model and variant in the order of preference. Of a model that is
    cut over cards each card carries `each`, and `loads` are cut in layers, or with `even` into equal parts.
    """

    model: Model
    variant: Variant
    runtime: RuntimeName
    rank: int
    quant: int
    place: Place
    contexts: tuple[int, ...]
    kv_types: tuple[KvType, ...]
    loads: tuple[tuple[int, ...], ...]
    each: int = 0
    even: bool = False
    memory_bytes: int | None = None

    @property
    def least_bytes(self) -> int:
        """What it takes at the foot of both ladders."""
        return self.loads[-1][-1]


@dataclass(frozen=True, slots=True)
class Loads:
    """What one variant takes under one runtime, for all contexts and KV types."""

    model: Model
    variant: Variant
    runtime: RuntimeName
    on_gpu: bool
    contexts: tuple[int, ...]
    kv_types: tuple[KvType, ...]
    parallel: int
    measured: Measured | None
    override: int | None

    def candidate(self, place: Place, *, rank: int, quant: int) -> Candidate:
        """Return the candidate that this makes in one place."""
        even = place.split and BY_NAME[self.runtime].splits_tensors
        each, loads = self._split(len(place.pools), even=even) if place.split else (0, self._whole())
        return Candidate(
            model=self.model,
            variant=self.variant,
            runtime=self.runtime,
            rank=rank,
            quant=quant,
            place=place,
            contexts=self.contexts[: len(loads)],
            kv_types=self.kv_types[: len(loads[0])],
            loads=loads,
            each=each,
            even=even,
            memory_bytes=self.override,
        )

    def _whole(self) -> tuple[tuple[int, ...], ...]:
        """Return all loads. Only the cache and the compute buffer change along the ladders."""
        if self.override is not None:
            return ((self.override,),)
        if self.measured is not None:
            # A measured footprint is bounded below, so it does not follow a straight line.
            return tuple(
                tuple(self._need(tokens, kind).total_bytes for kind in self.kv_types)
                for tokens in self.contexts
            )
        first = self._need(self.contexts[0], self.kv_types[0])
        slope = compute_slope(self.model) * self.parallel
        fixed = first.total_bytes - self._kv(self.contexts[0], self.kv_types[0]) - slope * self.contexts[0]
        return tuple(
            tuple(fixed + slope * tokens + self._kv(tokens, kind) for kind in self.kv_types)
            for tokens in self.contexts
        )

    def _split(self, cards: int, *, even: bool) -> tuple[int, tuple[tuple[int, ...], ...]]:
        """Return what each card carries besides its part, and the loads that are cut.

        The compute buffer is taken as that of the longest context; a cut falls between layers, so each
        card may waste up to one.
        """
        longest = self._need(self.contexts[0], self.kv_types[0])
        each = longest.compute_bytes + longest.overhead_bytes
        whole = self._whole()
        if self.override is not None:
            layers = self.model.attention.layers if self.model.attention else 1
            return 0, ((self.override + (0 if even else cards * -(-self.override // layers)),),)
        rows = []
        for tokens, row in zip(self.contexts, whole, strict=True):
            slope = compute_slope(self.model) * self.parallel * (self.contexts[0] - tokens)
            cut = [max(0, load - each + slope) for load in row]
            layers = self.model.attention.layers if self.model.attention else 1
            rows.append(tuple(load if even else load + cards * -(-load // layers) for load in cut))
        return each, tuple(rows)

    def _kv(self, context: int, kv_type: KvType) -> int:
        return kv_bytes(self.model.attention, Setting(context, kv_type, self.parallel, self.on_gpu))

    def _need(self, context: int, kv_type: KvType) -> Need:
        setting = Setting(context, kv_type, self.parallel, self.on_gpu)
        return need(self.model, self.variant, runtime=self.runtime, setting=setting, measured=self.measured)


def longest(model: Model) -> int:
    """Return the longest context of a model in tokens, as it was trained; 0 where there is none to choose."""
    return 0 if model.attention is None else model.max_tokens or model.context or DEFAULT_CONTEXT


def contexts(wish: Wish, model: Model) -> tuple[int, ...]:
    """Return the ladder of contexts for a model, longest first; (0,) for one that has none."""
    if model.attention is None:
        return (model.max_tokens or 0,)
    top = min(wish.context or DEFAULT_CONTEXT, longest(model))
    floor = min(wish.min_context or DEFAULT_FLOOR, top)
    return (top, *(step for step in LADDER if floor < step < top), *((floor,) if floor < top else ()))
