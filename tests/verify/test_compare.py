"""A server that is worse than before, or than planned, is verified with a sentence about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.contracts import Measured, Performance, Speed, Unknown
from tasks.verify.compare import findings
from tests.conftest import planned
from tests.lab.answering import Model

PLAN = replace(
    planned(), runtime="ollama", device="gpu0", quantisation="q4_k_m", model="m", memory_bytes=1000
)
BEFORE = Measured("m", "q4_k_m", "ollama", on_gpu=True, memory_bytes=1000, per_s=100.0, unit="tokens/s")
ESTIMATE = Speed(100.0, "tokens/s", "estimated")


def found(
    per_s: float, *earlier: Measured, speed: Speed | None = None, memory: int | Unknown = 1000
) -> list[str]:
    """Return the findings for a pace."""
    return list(findings(replace(PLAN, speed=speed), Performance(tokens_per_s=per_s), memory, earlier))


@pytest.mark.parametrize(
    ("per_s", "earlier", "count"),
    [
        (69, [BEFORE], 1),
        (71, [BEFORE], 0),
        (69, [replace(BEFORE, model="other")], 0),
        (69, [replace(BEFORE, quantisation="q8_0")], 0),
        (69, [replace(BEFORE, runtime="vllm")], 0),
        (69, [replace(BEFORE, on_gpu=False)], 0),
        (69, [replace(BEFORE, unit="texts/s")], 0),
        (69, [BEFORE, replace(BEFORE, per_s=80.0)], 0),
        (69, [replace(BEFORE, per_s=80.0), BEFORE], 1),
        (69, [replace(BEFORE, per_s=0.0)], 0),
        (0, [BEFORE], 0),
    ],
)
def test_slower_than_before(per_s: float, earlier: list[Measured], count: int) -> None:
    """The newest measure of the same thing counts, and a fall of more than 30%."""
    assert count == len(found(per_s, *earlier))


def test_both_numbers_are_said() -> None:
    """So that a person can judge."""
    assert ["41.2 tokens/s, and 100 tokens/s in an earlier run on this host"] == found(41.2, BEFORE)


@pytest.mark.parametrize(
    ("per_s", "speed", "count"),
    [
        (39, ESTIMATE, 1),
        (41, ESTIMATE, 0),
        (39, replace(ESTIMATE, measured=True), 0),
        (39, replace(ESTIMATE, unit="texts/s"), 0),
        (39, None, 0),
    ],
)
def test_slower_than_planned(per_s: float, speed: Speed | None, count: int) -> None:
    """An estimate is rough, so the fall must be of more than 60%."""
    assert count == len(found(per_s, speed=speed))


@pytest.mark.parametrize(("memory", "count"), [(1101, 1), (1100, 0), (0, 0), (Unknown("no view"), 0)])
def test_more_memory_than_planned(memory: int | Unknown, count: int) -> None:
    """A tenth is let pass."""
    assert count == len(found(100, memory=memory))


def test_a_light_look_compares_nothing(checked: Callable[..., object]) -> None:
    """Its numbers are those of a few questions."""
    plan = {"role": "llm", "model": "m", "quantisation": "q4_k_m", "device": "cpu"}
    fast = replace(BEFORE, runtime="external", on_gpu=False, per_s=1e6)

    assert any("in an earlier run" in one for one in checked(Model(), **plan, earlier=(fast,)).findings)
    assert not any(
        "in an earlier run" in one for one in checked(Model(), **plan, light=True, earlier=(fast,)).findings
    )
