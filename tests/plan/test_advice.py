"""Warnings: a device that is filled to the last on the strength of estimates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import DeviceMemory, Measured, Plan, PlannedModel, Share, Wish
from tasks.plan.advice import warnings
from tasks.plan.budget import Pools
from tasks.plan.request import Request
from tests.lab.bundles import decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

MIB = 1 << 20
SHELF = shelf_of(
    (
        decoder("chat", roles=("llm",), sizes_mib=(4000,)),
        encoder("vectors", role="embeddings", size_mib=600),
    ),
    (
        Wish(role="llm", models=("chat",), context=8192, may=()),
        Wish(role="embeddings", models=("vectors",), may=()),
    ),
)


def full(*measured: Measured) -> Plan:
    """Return a plan that fills its only card to the last, with what was measured there."""
    card = device(mib=6290)
    return planned_on(make_host(cards=(card,)), SHELF, Request("lab", measured=measured))


def footprint(one: PlannedModel) -> Measured:
    """Return a planned model's footprint as a run would measure it, were the estimate exact."""
    return Measured(
        one.model,
        one.quantisation,
        one.runtime,
        on_gpu=True,
        memory_bytes=one.memory_bytes,
        context=one.context,
        kv_type=one.kv_type,
        parallel=one.parallel,
    )


def test_a_full_card_is_no_warning_once_all_that_lies_there_was_measured() -> None:
    """The same plan, byte for byte; one model that is still estimated is enough for the warning."""
    estimated = full()
    chat, vectors = map(footprint, estimated.models)
    half, whole = full(chat), full(chat, vectors)

    assert [(one.model, one.device, one.memory_bytes) for one in whole.models] == [
        (one.model, one.device, one.memory_bytes) for one in estimated.models
    ]
    assert [line.split()[0] for line in estimated.warnings] == ["gpu0"]
    assert estimated.warnings == half.warnings
    assert whole.warnings == ()


def placed(name: str, where: str, *, measured: bool) -> PlannedModel:
    """Return a model that the plan places on one device."""
    return PlannedModel(
        role="llm",
        model=name,
        runtime="ollama",
        residency="resident",
        device=where,
        port=7990,
        memory_bytes=900 * MIB,
        memory_measured=measured,
        download_bytes=0,
        devices=(Share(where, 900 * MIB),),
    )


@pytest.mark.parametrize(("measured", "named"), [((True, False), ["gpu1"]), ((False, True), ["gpu0"])])
def test_only_the_card_with_an_estimated_model_is_named(
    measured: tuple[bool, bool], named: list[str]
) -> None:
    """Two cards are as full, and what lies on one of them was measured."""
    first = DeviceMemory("gpu0", "Card", 1024 * MIB, 0, 0, 74 * MIB, 950 * MIB, 900 * MIB)
    cards = first, replace(first, device="gpu1")
    models = [placed(f"m{at}", f"gpu{at}", measured=one) for at, one in enumerate(measured)]

    assert [line.split()[0] for line in warnings(Pools(()), cards, models)] == named
