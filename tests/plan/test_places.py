"""Places: where a model of a wish could lie."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tasks.contracts import Attention, May, Model, Residency, Variant, Wish
from tasks.plan.budget import Pool, Pools
from tasks.plan.candidates import Table
from tasks.plan.places import Place, places, split_sets
from tasks.plan.request import Override, Request
from tests.lab.bundles import card_pool, decoder, encoder, main_pool, tables_of
from tests.lab.hosts import device

CHAT = decoder("chat", roles=("llm",), sizes_mib=(4000,))
VECTORS = encoder("vectors", role="embeddings", size_mib=600)
CARDS = (card_pool(0, 8000), card_pool(1, 24000), card_pool(2, 16000))
MAIN = main_pool(64000)


def of(vendor: str, at: int, size: int, *, unified: bool = False) -> Pool:
    """Return a card of a vendor."""
    one = device(vendor, size, index=at)  # type: ignore[arg-type]  # a vendor
    return replace(card_pool(at, size), device=replace(one, unified=unified), main=unified)


def there(
    pools: tuple[Pool, ...], *may: May, overrides: tuple[Override, ...] = ()
) -> list[tuple[Residency, tuple[int, ...]]]:
    """Return the places of a chat model, as residency and pools."""
    wish = Wish(role="llm", models=("chat",), may=may)
    found = places(Pools(pools), wish, "chat", request=Request(overrides=overrides))
    return [(one.residency, tuple(sorted(one.pools))) for one in found]


def table(model: Model, *pools: Pool, may: tuple[May, ...] = (), request: Request | None = None) -> Table:
    """Return the candidates of one model."""
    wish = Wish(role=model.roles[0], models=(model.name,), may=may)
    return tables_of((model,), (wish,), pools, request)[0]


def test_sets_lie_in_each_other() -> None:
    """The two largest, then all three; each holds the one before."""
    found = [set(one) for one in split_sets((*CARDS, MAIN))]

    assert found == [{1, 2}, {0, 1, 2}]


def test_sets_are_of_one_vendor() -> None:
    """Two cards of two vendors do not work together."""
    mixed = (of("nvidia", 0, 8000), of("amd", 1, 8000), of("amd", 2, 8000), of("nvidia", 3, 9000))

    assert [sorted(one) for one in split_sets(mixed)] == [[0, 3], [1, 2]]


def test_a_set_has_one_order_whatever_is_free() -> None:
    """A card that others use now and then must not turn the names of a server and its devices around."""
    first = next(split_sets((card_pool(0, 8000), card_pool(1, 7000))))
    later = next(split_sets((card_pool(0, 7000), card_pool(1, 8000))))

    assert first == later


def test_shared_memory_and_slices_stand_alone() -> None:
    """Neither is in a set."""
    slices = tuple(
        replace(card_pool(at, 20000), device=device(index=0, slice_of="GPU-nvidia-0")) for at in range(2)
    )

    assert list(split_sets((of("nvidia", 0, 9000, unified=True), of("nvidia", 1, 9000)))) == []
    assert list(split_sets((*slices, card_pool(2, 9000)))) == []


def test_a_wish_that_may_nothing_is_resident_on_cards() -> None:
    """Each card, then the sets."""
    assert there((*CARDS, MAIN)) == [
        ("resident", (0,)),
        ("resident", (1,)),
        ("resident", (2,)),
        ("resident", (1, 2)),
        ("resident", (0, 1, 2)),
    ]


def test_waiting_and_the_cpu_are_allowed_by_name() -> None:
    """Turns are taken on cards; main memory comes last."""
    found = there((CARDS[0], MAIN), "wait", "cpu")

    assert found == [("resident", (0,)), ("on-demand", (0,)), ("cpu", (1,))]


def test_without_a_card_main_memory_needs_no_permission() -> None:
    """A wish that may nothing is served from it; one that may wait takes turns in it."""
    assert there((MAIN,)) == [("cpu", (0,))]
    assert there((MAIN,), "wait") == [("cpu", (0,)), ("on-demand", (0,))]


@pytest.mark.parametrize(
    ("residency", "want"),
    [
        ("resident", [("resident", (0,))]),
        ("on-demand", [("on-demand", (0,))]),
        ("cpu", [("cpu", (1,))]),
        ("none", []),
    ],
)
def test_a_residency_that_was_set_needs_no_permission(
    residency: str, want: list[tuple[Residency, tuple[int, ...]]]
) -> None:
    """A person's word goes before the wish's."""
    assert want == there((CARDS[0], MAIN), overrides=(Override("llm", "residency", residency),))


def test_a_device_that_was_set_is_the_only_one() -> None:
    """One card, a set, or main memory where the wish allows it."""
    pools = (*CARDS, MAIN)

    assert there(pools, "wait", overrides=(Override("llm", "device", "gpu1"),)) == [
        ("resident", (1,)),
        ("on-demand", (1,)),
    ]
    assert there(pools, overrides=(Override("chat", "device", "gpu1+gpu2"),)) == [("resident", (1, 2))]
    assert there(pools, "cpu", overrides=(Override("llm", "device", "cpu"),)) == [("cpu", (3,))]


def test_a_shared_device_is_main_memory_too() -> None:
    """On the GPU by its name, without it as cpu."""
    pools = (of("nvidia", 0, 60000, unified=True),)

    assert there(pools, "cpu") == [("resident", (0,)), ("cpu", (0,))]
    assert there(pools, "cpu", overrides=(Override("llm", "device", "cpu"),)) == [("cpu", (0,))]


# --- candidates ----------------------------------------------------------------------------------


def test_an_encoder_is_not_cut_and_does_not_take_turns() -> None:
    """TEI holds what it loaded; a model without layers has no place to cut."""
    found = table(VECTORS, *CARDS, MAIN, may=("wait", "cpu"))

    assert {(one.place.residency, one.place.split) for one in found.candidates} == {
        ("resident", False),
        ("cpu", False),
    }


def parallel(heads: int, kv_heads: int) -> Model:
    """Return a model that vLLM alone serves."""
    return Model(
        name="wide",
        title="wide",
        roles=("llm",),
        licence="MIT",
        sources=("made up",),
        attention=Attention(layers=4, kv_heads=kv_heads, head_dim=64, heads=heads),
        context=8192,
        variants=(Variant(name="bf16", runtimes=("vllm",), repo=VECTORS.variants[0].repo),),
    )


@pytest.mark.parametrize(
    ("heads", "kv_heads", "cuts"),
    [(8, 4, {2}), (8, 2, {2}), (9, 6, {3}), (9, 3, {3}), (12, 6, {2, 3}), (7, 7, set()), (8, 1, set())],
)
def test_vllm_cuts_over_cards_that_divide_the_heads(heads: int, kv_heads: int, cuts: set[int]) -> None:
    """Attention heads and KV heads must both divide by the number of cards."""
    found = table(parallel(heads, kv_heads), *CARDS, MAIN)

    assert cuts == {len(one.place.pools) for one in found.candidates if one.place.split}
    assert all(one.even for one in found.candidates if one.place.split)


def test_a_card_that_a_runtime_cannot_use_is_refused_with_a_reason() -> None:
    """A Pascal card and vLLM: no candidate, and a sentence for each place."""
    old = replace(card_pool(0, 9000), device=device(capability="6.1"))
    found = table(parallel(8, 4), old, MAIN, may=("cpu",))

    assert found.candidates == ()
    assert [one.why for one in found.refused["wide"]] == [
        "wide bf16: vLLM needs compute capability 7.5 and nvidia card 0 has 6.1",
        "wide bf16: vLLM has no image for a CPU",
    ]


def test_a_model_that_nothing_serves_says_why() -> None:
    """Its own reason goes before all others."""
    found = table(msgspec.structs.replace(CHAT, variants=(), unserved="no GGUF exists"), *CARDS)

    assert found.candidates == ()
    assert [one.why for one in found.refused["chat"]] == ["chat: no GGUF exists"]


def test_a_gated_model_needs_a_token_except_from_ollama() -> None:
    """The reason names what to set."""
    gated = msgspec.structs.replace(VECTORS, gated=True)
    chat = msgspec.structs.replace(CHAT, gated=True)

    assert "there is no token (set HF_TOKEN)" in table(gated, *CARDS).refused["vectors"][0].why
    assert table(gated, *CARDS, request=Request(hub_token=True)).candidates
    assert table(chat, *CARDS).candidates


def test_a_split_place_is_one_of_several_pools() -> None:
    """And waits only when it is on demand."""
    assert Place("resident", (0, 1), on_gpu=True).split
    assert not Place("resident", (0,), on_gpu=True).split
    assert Place("on-demand", (0,), on_gpu=True).waits
    assert not Place("cpu", (0,), on_gpu=False).waits
