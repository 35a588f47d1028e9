"""Layout: where the bytes of a plan lie, device by device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import Attention, DeviceMemory, Model, OllamaTag, Plan, PlannedModel, Variant, Wish
from tasks.errors import NoRoomError
from tasks.plan.layout import memory_of
from tasks.plan.request import Request, parse_overrides
from tests.lab.bundles import card_pool, decoder, encoder, main_pool, planned_on, shelf_of
from tests.lab.hosts import device, main_memory, make_host, shared_device

MIB = 1 << 20
LAYERS = 40


def deep(name: str, size_mib: int, *, layers: int = LAYERS, projector_mib: int = 0) -> Model:
    """Return a chat model with many layers."""
    tag = OllamaTag(tag=f"{name}:latest", size_bytes=size_mib * MIB, unpinned="made up")
    return Model(
        name=name,
        title=name,
        roles=("llm", "code", "vision"),
        licence="MIT",
        sources=("made up",),
        attention=Attention(layers=layers, kv_heads=8, head_dim=128, heads=32),
        context=32768,
        variants=(Variant(name="q4", runtimes=("ollama",), ollama=tag, projector_bytes=projector_mib * MIB),),
    )


def wish(role: str, model: str, *may: str) -> Wish:
    """Return a wish for one model."""
    return Wish(role=role, models=(model,), context=8192, min_context=2048, may=may)  # type: ignore[arg-type]


def cut(
    *cards_mib: int, size_mib: int = 20000, overrides: tuple[str, ...] = (), layers: int = LAYERS
) -> Plan:
    """Plan one model on cards that are too small for all of it."""
    shelf = shelf_of((deep("deep", size_mib, layers=layers, projector_mib=600),), (wish("llm", "deep"),))
    facts = make_host(
        memory_gib=1, cards=tuple(device(mib=size, index=at) for at, size in enumerate(cards_mib))
    )
    request = Request("lab", overrides=parse_overrides(overrides, shelf))
    return planned_on(facts, shelf, request)


def only(plan: Plan) -> PlannedModel:
    """Return the plan's one model."""
    (one,) = plan.models
    return one


def overfull(plan: Plan) -> list[DeviceMemory]:
    """Return the devices that hold more than the plan may use."""
    return [one for one in plan.devices if one.used_bytes > one.budget_bytes]


@pytest.mark.parametrize("cards", [(16000, 12000), (12000, 16000), (9000, 9000, 9000), (16000, 6000, 4000)])
def test_the_shares_of_a_cut_model_add_up(cards: tuple[int, ...]) -> None:
    """So do the layers, and no device holds more than its budget."""
    plan = cut(*cards)
    one = only(plan)

    assert len(one.devices) == len(cards)
    assert sum(share.layers for share in one.devices) == LAYERS
    assert sum(share.memory_bytes for share in one.devices) == one.memory_bytes
    assert one.need is not None
    assert one.memory_bytes >= one.need.total_bytes
    assert overfull(plan) == []


def test_the_larger_card_gets_more_layers() -> None:
    """In proportion to what is free."""
    shares = {one.device: one.layers for one in only(cut(18000, 9000)).devices}

    assert shares["gpu0"] > shares["gpu1"] > 0


@pytest.mark.parametrize("cards", [(19250, 3750), (20750, 2250), (21000, 2750), (2250, 20750)])
def test_a_small_card_beside_a_large_one_is_not_overfilled(cards: tuple[int, ...]) -> None:
    """A whole layer that does not fit on the small card lies on the large one."""
    assert overfull(cut(*cards)) == []


@pytest.mark.parametrize("most_mib", [19700, 19750, 19800])
def test_a_size_that_was_set_is_cut_within_the_budgets(most_mib: int) -> None:
    """Layers are whole there too: where no cut of them fits, it is refused."""
    try:
        plan = cut(20300, most_mib, overrides=(f"llm.memory_bytes={40000 * MIB}",))
    except NoRoomError:
        return

    assert overfull(plan) == []


def test_what_was_set_is_what_the_shares_add_up_to() -> None:
    """Up to a byte a card."""
    plan = cut(24000, 20000, overrides=(f"llm.memory_bytes={30000 * MIB}",))

    assert only(plan).memory_bytes == pytest.approx(30000 * MIB, abs=4)


def test_the_parts_of_a_device_add_up_to_the_share() -> None:
    """Weights, projector, cache and the rest: every byte of a share is in one part."""
    plan = cut(16000, 12000)

    for memory in plan.devices:
        share = next(one for one in only(plan).devices if one.device == memory.device)
        assert sum(part.memory_bytes for part in memory.parts) == share.memory_bytes
        assert memory.used_bytes == share.memory_bytes
        assert [part.part for part in memory.parts] == ["weights", "projector", "kv", "compute", "overhead"]


def test_a_whole_model_has_the_parts_of_its_need() -> None:
    """Exactly, on one device."""
    plan = cut(40000)
    one = only(plan)
    assert one.need is not None

    parts = {part.part: part.memory_bytes for part in plan.devices[0].parts}

    assert parts == {
        "weights": one.need.weights_bytes,
        "projector": 600 * MIB,
        "kv": one.need.kv_bytes,
        "compute": one.need.compute_bytes,
        "overhead": one.need.overhead_bytes,
    }


def test_the_weights_on_all_cards_are_the_model_s_weights() -> None:
    """A cut model is not larger in the picture than on the disk."""
    plan = cut(16000, 12000)
    need = only(plan).need
    assert need is not None

    drawn = sum(part.memory_bytes for one in plan.devices for part in one.parts if part.part == "weights")

    assert drawn == pytest.approx(need.weights_bytes, abs=8)


def turns() -> Plan:
    """Plan two models that take turns beside a resident one."""
    models = (
        deep("large", 9000),
        deep("less", 4000),
        encoder("vectors", role="embeddings", size_mib=600),
    )
    bundle = (
        replace_may(wish("llm", "large"), "wait"),
        replace_may(wish("code", "less"), "wait"),
        Wish(role="embeddings", models=("vectors",), may=()),
    )
    return planned_on(make_host(cards=(device(mib=14000),)), shelf_of(models, bundle))


def replace_may(one: Wish, *may: str) -> Wish:
    """Return a wish that may do something else."""
    return Wish(role=one.role, models=one.models, context=8192, min_context=2048, may=may)  # type: ignore[arg-type]


def test_a_group_takes_what_its_largest_member_takes() -> None:
    """The members lie over each other, beside what is resident."""
    plan = turns()
    sizes = {one.model: one.memory_bytes for one in plan.models}
    groups = {one.model: one.group for one in plan.models}

    assert groups["large"] == groups["less"] != ""
    assert groups["vectors"] == ""
    assert plan.devices[0].used_bytes == sizes["large"] + sizes["vectors"]
    assert overfull(plan) == []


def test_groups_are_named_in_the_parts() -> None:
    """So that a picture can draw them over each other."""
    plan = turns()

    assert {part.group for part in plan.devices[0].parts if part.model == "vectors"} == {""}
    assert {part.group for part in plan.devices[0].parts if part.model == "less"} == {plan.models[1].group}


def test_what_lies_in_main_memory_lies_on_a_shared_device() -> None:
    """The plan has one memory there, marked as shared, and counts both."""
    memory = main_memory(32768)
    facts = replace(make_host(), memory=memory, accelerators=(shared_device("nvidia", memory),))
    models = (
        decoder("chat", roles=("llm",), sizes_mib=(2000,)),
        encoder("ears", role="whisper", size_mib=400),
    )
    bundle = (wish("llm", "chat"), Wish(role="whisper", models=("ears",), may=("cpu",)))
    shelf = shelf_of(models, bundle)

    plan = planned_on(
        facts, shelf, Request("lab", overrides=parse_overrides(("whisper.residency=cpu",), shelf))
    )

    assert [(one.device, one.unified) for one in plan.devices] == [("gpu0", True)]
    assert plan.devices[0].used_bytes == sum(one.memory_bytes for one in plan.models)
    assert {part.model for part in plan.devices[0].parts} == {"chat", "ears"}


def test_main_memory_that_holds_nothing_is_not_listed() -> None:
    """It would only make the cards look small; alone, it is listed."""
    card, main = card_pool(0, 1000), main_pool(9000)

    assert [one.device for one in memory_of((card, main), ())] == ["gpu0"]
    assert [one.device for one in memory_of((main,), ())] == ["cpu"]
