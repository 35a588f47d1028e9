"""How fast a planned model should be: memory bandwidth over the bytes that one token reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.contracts import DeviceFact, Measured, Model, Need, Speed
from tasks.plan.budget import Pool
from tasks.plan.memory import is_pooled, read_bytes

EFFICIENCY_PERCENT, SPARSE_EFFICIENCY_PERCENT = 70, 35
"""Of a card's memory bandwidth, what llama.cpp reaches while it writes one answer: an estimate. Known
figures for 32B models at 4 bits on an RTX 3090 and an RTX 4090 lie between 70 and 80 percent. Mixtures of
experts read small pieces in many places, and reach about half of that."""


TOKEN_S = 0.004
"""What each token takes besides: an estimate, so that small models on fast cards stay below 250 a second."""

MAIN_MEMORY = DeviceFact(
    name="main memory", memory_bytes_per_s=40_000_000_000, source="a desktop's, estimated"
)


def bandwidth(device_name: str, devices: Iterable[DeviceFact]) -> DeviceFact | None:
    """Return the fact whose name is the longest part of the device's own."""
    found = [one for one in devices if one.name.lower() in device_name.lower()]
    return max(found, key=lambda one: len(one.name), default=None)


def speed(
    model: Model,
    need: Need,
    pools: tuple[Pool, ...],
    *,
    devices: Iterable[DeviceFact],
    measured: Measured | None,
) -> Speed | None:
    """Return tokens a second of one answer, or None where nothing is known to tell from.

    Args:
        model: a decoder; others have no such estimate.
        need: its memory: all weights are read for a token, or the active share of them.
        pools: the cards that it lies on, none for main memory; cut over cards, each reads its part in turn.
        devices: how fast devices read.
        measured: what an earlier run measured here; it goes before every estimate.
    """
    if measured is not None and measured.per_s:
        return Speed(round(measured.per_s, 1), measured.unit, "measured here", measured=True)
    if model.attention is None or is_pooled(model):
        return None
    # A slice has a part of its card's bandwidth, and nobody says which.
    whole = [pool.device if pool.device and pool.device.slice_of is None else None for pool in pools]
    facts = [bandwidth(device.name, devices) if device else None for device in whole]
    if not pools:
        facts = [MAIN_MEMORY]
    known = [fact for fact in facts if fact is not None]
    if len(known) < len(facts) or not known:
        return None
    read = read_bytes(model, need.weights_bytes)
    percent = EFFICIENCY_PERCENT if read == need.weights_bytes else SPARSE_EFFICIENCY_PERCENT
    seconds = sum(read / len(known) / fact.memory_bytes_per_s for fact in known) * 100 / percent
    per_s = 1 / (seconds + TOKEN_S)
    gb_s = min(fact.memory_bytes_per_s for fact in known) / 1e9
    basis = f"estimated: {gb_s:.0f} GB/s over {read / 1e9:.1f} GB a token, {percent}% of it"
    return Speed(round(per_s, 1), "tokens/s", basis)
