"""Speed: memory bandwidth over the bytes that one token reads."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tasks.contracts import DeviceFact, Measured, Need, Speed
from tasks.plan.budget import Pool
from tasks.plan.speed import TOKEN_S, bandwidth, speed
from tests.lab.bundles import card_pool, decoder, encoder, main_pool
from tests.lab.hosts import device

CHAT = decoder("chat", roles=("llm",), sizes_mib=(4000,))
NEED = Need(weights_bytes=20 * 10**9, kv_bytes=5 * 10**9)
FACTS = (
    DeviceFact(name="RTX 3090", memory_bytes_per_s=936 * 10**9, source="maker"),
    DeviceFact(name="RTX 3090 Ti", memory_bytes_per_s=1008 * 10**9, source="maker"),
    DeviceFact(name="P40", memory_bytes_per_s=346 * 10**9, source="maker"),
)


def pool(name: str, at: int = 0, *, slice_of: str | None = None) -> Pool:
    """Return a card of that name."""
    one = replace(device(index=at, slice_of=slice_of), name=name)
    return replace(card_pool(at, 24000), device=one)


def of(*pools: Pool, measured: Measured | None = None) -> Speed | None:
    """Return the speed of the chat model on some pools."""
    return speed(CHAT, NEED, pools, devices=FACTS, measured=measured)


def test_one_card_reads_all_weights_for_a_token() -> None:
    """70 % of 936 GB/s over 20 GB, and 4 ms; the cache is not counted, and the basis says the rest."""
    found = of(pool("NVIDIA GeForce RTX 3090"))

    assert found is not None
    assert found.per_s == pytest.approx(1 / (20 / 936 / 0.7 + TOKEN_S), abs=0.05)
    assert found.unit == "tokens/s"
    assert not found.measured
    assert found.basis == "estimated: 936 GB/s over 20.0 GB a token, 70% of it"


def test_the_longest_name_that_fits_is_the_card_s() -> None:
    """A 3090 Ti is not a 3090; upper and lower case are the same."""
    found = bandwidth("nvidia geforce rtx 3090 ti", FACTS)

    assert found is not None
    assert found.name == "RTX 3090 Ti"
    assert bandwidth("NVIDIA GeForce RTX 4090", FACTS) is None


def test_cut_over_two_cards_each_reads_its_part_in_turn() -> None:
    """Two equal cards are as fast as one; a slow one slows the whole."""
    one, two = of(pool("RTX 3090")), of(pool("RTX 3090"), pool("RTX 3090", 1))
    mixed = of(pool("RTX 3090"), pool("Tesla P40", 1))

    assert one is not None
    assert two is not None
    assert mixed is not None
    assert one.per_s == two.per_s
    assert mixed.per_s == pytest.approx(1 / ((10 / 936 + 10 / 346) / 0.7 + TOKEN_S), abs=0.05)


def test_a_mixture_of_experts_reads_its_active_part_and_reaches_half() -> None:
    """A tenth of the parameters, 35 %."""
    sparse = msgspec.structs.replace(CHAT, parameters=30_000_000_000, active_parameters=3_000_000_000)

    found = speed(sparse, NEED, (pool("RTX 3090"),), devices=FACTS, measured=None)

    assert found is not None
    assert found.per_s == pytest.approx(1 / (2 / 936 / 0.35 + TOKEN_S), abs=0.05)


def test_where_a_card_is_not_known_nothing_is_claimed() -> None:
    """Nor for a slice, or one unknown card of two."""
    assert of(pool("Some Card")) is None
    assert of(pool("RTX 3090"), pool("Some Card", 1)) is None
    assert of(pool("RTX 3090", slice_of="GPU-0")) is None
    assert of(main_pool(9000)) is None


def test_main_memory_is_a_desktop_s() -> None:
    """40 GB/s, named as an estimate: a small model on a CPU is shown as slow as it is."""
    found = of()

    assert found is not None
    assert found.per_s == pytest.approx(1 / (20 / 40 / 0.7 + TOKEN_S), abs=0.05)
    assert found.basis.startswith("estimated: 40 GB/s")


def test_what_gives_no_text_has_no_tokens_a_second() -> None:
    """Encoders and pooled decoders."""
    vectors = encoder("vectors", role="embeddings", size_mib=600)
    judge = decoder("judge", roles=("reranker",), sizes_mib=(900,))

    for one in (vectors, judge):
        assert speed(one, NEED, (pool("RTX 3090"),), devices=FACTS, measured=None) is None


def test_a_measured_speed_goes_before_every_estimate() -> None:
    """In its own unit, and for models that have no estimate, too; a zero is no measurement."""
    seen = Measured("chat", "v0", "ollama", True, 900, per_s=31.26, unit="texts/s")  # noqa: FBT003

    assert of(pool("RTX 3090"), measured=seen) == Speed(31.3, "texts/s", "measured here", measured=True)
    assert of(measured=seen) == Speed(31.3, "texts/s", "measured here", measured=True)
    assert of(pool("RTX 3090"), measured=replace(seen, per_s=0.0)) == of(pool("RTX 3090"))
