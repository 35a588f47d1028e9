"""Choosing: each role kept, changed or dropped, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import catalogue
from tasks.contracts import (
    Catalogue,
    HostFacts,
    Jetson,
    Plan,
    RuntimeName,
    RuntimeOffer,
    StoreView,
    Unknown,
    Wish,
)
from tasks.errors import HardwareMissingError, NoRoomError, ProvisionError, RefusedError, UnknownProfileError
from tasks.plan.choose import Request, make_plan
from tasks.plan.match import fits
from tests.lab.bundles import decoder, planned_on, shelf_of
from tests.lab.hosts import GIB, card, device, make_host

SHELF = catalogue.load(catalogue.DEFAULT)
ORIN = "jetson (NVIDIA Jetson AGX Orin Developer Kit)"
JETSON = Jetson("tegra234", "p3701-0005", "36.4.7", "6.2.1")
NOT_YET = "this version does not run containers yet"
EMBEDDED_ONLY: Mapping[RuntimeName, RuntimeOffer] = {
    "embedded": RuntimeOffer("embedded", available=True),
    "ollama": RuntimeOffer("ollama", available=False, reason=NOT_YET),
    "llama.cpp": RuntimeOffer("llama.cpp", available=False, reason=NOT_YET),
    "tei": RuntimeOffer("tei", available=False, reason=NOT_YET),
    "vllm": RuntimeOffer("vllm", available=False, reason=NOT_YET),
    "speaches": RuntimeOffer("speaches", available=False, reason=NOT_YET),
}


def choose(
    facts: HostFacts,
    profile: str = "auto",
    *,
    strict: bool = False,
    store: StoreView | None = None,
    shelf: Catalogue = SHELF,
) -> Plan:
    """Plan with the shipped catalogue."""
    view = store or StoreView("/store", {})
    return make_plan(facts, shelf, offers=EMBEDDED_ONLY, store=view, request=Request(profile, strict))


def test_without_engine_and_hub_auto_takes_embedded_and_says_why() -> None:
    """The embedded profile is chosen with both reasons, and the hardware is named all the same."""
    plan = choose(make_host(engine=False, hub=False))

    assert plan.profile == "embedded"
    assert "no container engine answers (no socket)" in plan.profile_why
    assert "no Hugging Face Hub answers (its name does not resolve)" in plan.profile_why
    assert "by its hardware this host is cpu-only" in plan.profile_why
    assert ["all-minilm-l6-v2"] == [model.model for model in plan.models]
    assert any("container engine is not here" in line for line in plan.advice)
    assert any("Hub does not answer" in line for line in plan.advice)


@pytest.mark.parametrize(
    ("facts", "want"),
    [
        (make_host(cards=(card(),)), "rtx-3090-ti"),
        (make_host(cards=(card("NVIDIA GeForce RTX 4090"),)), "rtx-4090"),
        (make_host(cards=(card("NVIDIA GeForce RTX 5090", 32607),)), "rtx-5090"),
        (make_host(cards=(card(), card())), "dual-gpu"),
        (make_host(memory_gib=61, board=ORIN, jetson=JETSON), "jetson"),
        (make_host(memory_gib=15, board=ORIN, jetson=JETSON), "jetson-orin-nx"),
        (make_host(memory_gib=7, board=ORIN, jetson=JETSON), "jetson-orin-nano"),
        (make_host(cards=(card(mib=12288),)), "any"),
        (make_host(cards=(card("NVIDIA RTX A6000", 49140),)), "dual-gpu"),
        (make_host(cards=(card("NVIDIA H100 80GB HBM3", 81559),)), "h100"),
        (make_host(cards=(card("NVIDIA H200", 143771),)), "h200"),
        (make_host(), "cpu-only"),
        (make_host(memory_gib=4), "any"),
    ],
)
def test_auto_takes_the_most_specific_profile(facts: HostFacts, want: str) -> None:
    """With an engine and a Hub the hardware decides."""
    assert want == choose(facts).profile


def test_every_role_has_one_decision_with_a_reason() -> None:
    """Nothing is dropped in silence."""
    plan = choose(make_host(cards=(card(),)), "rtx-3090-ti")

    assert [wish.role for wish in SHELF.profiles["rtx-3090-ti"].bundle] == [
        one.role for one in plan.decisions
    ]
    assert all(one.why for one in plan.decisions)
    assert {"embeddings": "changed", "llm": "dropped"}.items() <= {
        one.role: one.verdict for one in plan.decisions
    }.items()
    assert NOT_YET in next(one.why for one in plan.decisions if one.role == "llm")


def test_missing_hardware_is_refused_with_both_numbers() -> None:
    """A named profile does not step down to another."""
    with pytest.raises(HardwareMissingError) as refused:
        choose(make_host(), "rtx-4090")

    assert "needs 1 nvidia card with 23.5 GiB each and this host has 0" in str(refused.value)
    assert "nothing was changed" in str(refused.value)


def test_unknown_cards_are_not_taken_for_none() -> None:
    """Where NVML did not answer, a GPU profile is refused with that reason."""
    with pytest.raises(HardwareMissingError, match="NVML did not answer"):
        choose(make_host(cards=Unknown("NVML did not answer within 10 s")), "rtx-4090")


def test_unknown_profile_gets_a_suggestion() -> None:
    """A misspelt name is answered with the nearest one."""
    with pytest.raises(UnknownProfileError, match=r"'jetsn' \(did you mean jetson\?\)"):
        choose(make_host(), "jetsn")


def test_strict_refuses_to_step_down() -> None:
    """With strict, the first role that would change is named."""
    with pytest.raises(
        RefusedError, match="with --strict, profile cpu-only is refused: llm would be dropped"
    ):
        choose(make_host(), "cpu-only", strict=True)


def test_strict_says_why_and_not_what_would_be_done_instead() -> None:
    """Every reason of a dropped role is there; that nobody would serve it is not, for nothing is done."""
    why = next(one.why for one in choose(make_host(), "cpu-only").decisions if one.role == "llm")
    with pytest.raises(RefusedError) as refused:
        choose(make_host(), "cpu-only", strict=True)

    assert why.endswith("; nobody serves it")
    assert "nobody serves it" not in refused.value.what
    for name in ("qwen2.5-7b-instruct", "qwen2.5-1.5b-instruct"):
        assert f"{name} needs ollama: {NOT_YET}" in refused.value.what


def test_strict_does_not_tell_of_the_model_that_would_be_taken() -> None:
    """That big does not fit is said, with both numbers; small and what it takes are not."""
    models = (
        decoder("big", roles=("llm",), sizes_mib=(9000,)),
        decoder("tiny", roles=("llm",), sizes_mib=(900,)),
    )
    shelf = shelf_of(models, (Wish(role="llm", models=("big", "tiny"), context=4096, may=()),))
    facts = make_host(cards=(device(mib=4000),))
    (changed,) = planned_on(facts, shelf).decisions
    with pytest.raises(RefusedError) as refused:
        planned_on(facts, shelf, Request("lab", strict=True))

    assert changed.model == "tiny"
    assert (
        "llm would be changed (big resident on gpu0 needs at least 9.6 GiB and 3.9 GiB" in refused.value.what
    )
    assert "tiny" not in refused.value.what
    assert "takes" not in refused.value.what


def test_strict_gives_the_one_reason_that_there_is() -> None:
    """A role that shares a server with too short a context has no other step to tell of."""
    shelf = shelf_of(
        (decoder("chat", roles=("llm", "code"), sizes_mib=(4000,)),),
        (
            Wish(role="llm", models=("chat",), context=8192, min_context=8192, kv_types=("f16",), may=()),
            Wish(role="code", models=("chat",), context=16384, min_context=4096, kv_types=("f16",)),
        ),
    )
    facts = make_host(cards=(device(mib=4880),))
    with pytest.raises(RefusedError) as refused:
        planned_on(facts, shelf, Request("lab", strict=True))

    assert (
        "code would be changed (chat v0, the server that plays llm, with 8192 tokens)" in refused.value.what
    )


def test_a_full_disk_is_refused_before_byte_one() -> None:
    """The refusal has both numbers."""
    with pytest.raises(NoRoomError, match=r"has 0.1 GiB free and 0.7 GiB are needed"):
        choose(make_host(free_gib=0.1), "embedded")


def test_what_is_in_the_store_is_not_downloaded_again() -> None:
    """Bytes to download are the missing ones."""
    plan = choose(make_host(), "embedded", store=StoreView("/store", {"all-minilm-l6-v2 fp32": 0}))

    assert plan.download_bytes == 0
    assert plan.disk_needed_bytes == 0


def test_no_memory_left_is_refused() -> None:
    """The sentence has what it takes and what is left."""
    with pytest.raises(
        RefusedError, match=r"all-minilm-l6-v2 on the CPU needs at least 0.2 GiB and 0.1 GiB are left"
    ):
        choose(make_host(memory_gib=4, available_gib=0.6), "embedded")


@given(
    memory_gib=st.floats(0.01, 2000),
    free_gib=st.floats(0, 2000),
    mib=st.lists(st.integers(0, 200_000), max_size=4),
    engine=st.booleans(),
    hub=st.booleans(),
    profile=st.sampled_from(["auto", *SHELF.profiles]),
)
def test_every_host_gets_a_plan_or_a_sentence(
    memory_gib: float, free_gib: float, mib: list[int], profile: str, *, engine: bool, hub: bool
) -> None:
    """No host makes the planner fail in another way, and no plan takes more memory than there is."""
    facts = make_host(
        memory_gib=memory_gib,
        free_gib=free_gib,
        cards=tuple(card(mib=size) for size in mib),
        engine=engine,
        hub=hub,
    )
    try:
        plan = choose(facts, profile)
    except ProvisionError as refusal:
        pytest.fail("an empty refusal") if not refusal.what else None
        return

    assert sum(model.memory_bytes for model in plan.models) <= memory_gib * GIB
    assert plan.disk_needed_bytes <= plan.disk_free_bytes


def test_fits_lists_every_profile_best_first() -> None:
    """Each profile has a verdict and a sentence."""
    found = fits(SHELF, make_host(cards=(card(),)))

    assert set(SHELF.profiles) == {one.profile for one in found}
    assert found[0].profile == "rtx-3090-ti"
    assert all(one.why for one in found)
