"""As good as before? What was measured now, against earlier runs of this host and against the plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tasks.contracts import Measured, Performance, PlannedModel, Unknown
from tasks.wording import gib

FALL_PERCENT = 30
"""By how much a pace may fall below what this host measured before. Chosen: two runs differ by less."""
SHORT_PERCENT = 60
"""By how much it may fall below an estimate, which itself is rough. Chosen."""
MORE_PERCENT = 10
"""By how much memory may go above the plan. Chosen: measured footprints are planned with as much."""
UNITS: tuple[tuple[str, Callable[[Performance], float]], ...] = (
    ("tokens/s", lambda now: now.tokens_per_s),
    ("texts/s", lambda now: now.texts_per_s),
    ("x real time", lambda now: now.realtime),
)
"""What a pace is counted in, best first: a model has the first that is not 0."""


def pace(now: Performance) -> tuple[float, str]:
    """Return the pace of a model, and in what it is counted; 0 where nothing was measured."""
    return next(((read(now), unit) for unit, read in UNITS if read(now)), (0.0, ""))


def before(planned: PlannedModel, earlier: Sequence[Measured]) -> Measured | None:
    """Return the newest earlier measure of the same model, quantisation, runtime and kind of place."""
    on_gpu = "cpu" not in planned.device.split("+")
    same = (planned.model, planned.quantisation, planned.runtime, on_gpu)
    found = [one for one in earlier if (one.model, one.quantisation, one.runtime, one.on_gpu) == same]
    return found[-1] if found else None


def findings(
    planned: PlannedModel,
    now: Performance,
    memory_bytes: int | Unknown,
    earlier: Sequence[Measured],
) -> Iterator[str]:
    """Yield a sentence for everything that is worse than it was, or than planned."""
    per_s, unit = pace(now)
    last = before(planned, earlier)
    if last is not None and last.per_s and last.unit == unit and _fell(per_s, last.per_s, FALL_PERCENT):
        yield f"{per_s:.3g} {unit}, and {last.per_s:.3g} {unit} in an earlier run on this host"
    speed = planned.speed
    estimated = speed is not None and not speed.measured and speed.unit == unit
    if speed is not None and estimated and _fell(per_s, speed.per_s, SHORT_PERCENT):
        yield f"{per_s:.3g} {unit}, and {speed.per_s:.3g} {unit} are planned ({speed.basis})"
    if isinstance(memory_bytes, int) and 0 < planned.memory_bytes * (100 + MORE_PERCENT) < memory_bytes * 100:
        yield f"it takes {gib(memory_bytes)} of memory, and {gib(planned.memory_bytes)} are planned"


def _fell(now: float, then: float, percent: int) -> bool:
    return now * 100 < then * (100 - percent)
