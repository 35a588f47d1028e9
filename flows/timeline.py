"""RunRecord -> what a run's timeline shows: a row a model, a row for each other stage, bars in time. Pure.

    detect                 |▪
    qwen2.5-32b-instruct   | pull ------------- serve ------ verify --     the longest chain
    nomic-embed-text-v1.5  | pull -- serve - verify -
    route                  |                                          --

`timeline_svg.py` draws it for a page, `timeline_text.py` for a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from flows.picture import clean, cut
from flows.tally import span
from tasks.contracts import RunRecord, Stage, Timing

STAGES: tuple[Stage, ...] = get_args(Stage)
CHAIN: tuple[Stage, ...] = ("pull", "serve", "verify")
"""The stages of one model. Each model has a chain of its own; the others are stages of the whole run."""

SAME_S = 0.005
"""Times are kept to the millisecond: what overlaps by less follows upon each other."""
ALL = 0.99
"""Work hid behind the longest chain when so much of it lies within its time."""
STEPS_S = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30,
    60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200,
)  # fmt: skip
MOST_TICKS = 8
NAME_LIMIT = 40
MINUTE_S, HALF_HOUR_S, DAY_S = 60, 1800, 86400
Spans = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """One stage of one subject, from when to when."""

    stage: Stage
    subject: str
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Row:
    """Bars that follow upon each other. Those of a name that overlap are in further rows, `lane` 1 and on.

    `chain` marks a model's row, `last` the chain that ended last: what comes after had to wait for it.
    """

    name: str
    bars: tuple[Bar, ...]
    chain: bool = False
    lane: int = 0
    last: bool = False

    @property
    def seconds(self) -> float:
        """From the beginning of its first bar to the end of its last."""
        return self.bars[-1].end_s - self.bars[0].start_s


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything a picture shows. `extent_s` is how long its axis is; `said` tells it in one sentence."""

    title: str
    extent_s: float
    rows: tuple[Row, ...]
    said: str


@dataclass(frozen=True, slots=True)
class _Chain:
    """All bars of one model, whatever their lanes."""

    name: str
    bars: tuple[Bar, ...]

    @property
    def start_s(self) -> float:
        return self.bars[0].start_s

    @property
    def end_s(self) -> float:
        return max(bar.end_s for bar in self.bars)

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    @property
    def work_s(self) -> float:
        return sum(bar.seconds for bar in self.bars)

    def work_within_s(self, other: _Chain) -> float:
        """Return how much of its work was done in another chain's time."""
        return sum(
            max(0.0, min(bar.end_s, other.end_s) - max(bar.start_s, other.start_s)) for bar in self.bars
        )


def timeline(record: RunRecord) -> Timeline:
    """Return what a run's timeline shows; a run without timings has no rows."""
    bars = sorted(_bars(record.timings), key=lambda one: (one.start_s, one.end_s))
    chains = _chains(bars)
    last = _last(chains)
    before, after = CHAIN[0], CHAIN[-1]
    first = [one for stage in STAGES[: STAGES.index(before)] for one in _stage_rows(bars, stage)]
    then = [one for stage in STAGES[STAGES.index(after) + 1 :] for one in _stage_rows(bars, stage)]
    models = [
        replace(row, chain=True, last=one is last) for one in chains for row in _lanes(one.name, one.bars)
    ]
    took_s = record.seconds if math.isfinite(record.seconds) else 0.0
    extent_s = max([took_s, *(one.end_s for one in bars)])
    return Timeline(
        title=clean(f"Timeline of run {record.run} on {record.host}: {record.outcome} in {took(extent_s)}"),
        extent_s=extent_s,
        rows=(*first, *models, *then),
        said=clean(_sentence(extent_s, chains, last)),
    )


def _bars(timings: Iterable[Timing]) -> Iterable[Bar]:
    """Return timings as bars that a picture can have: none begins before the run, or ends before it began."""
    for one in timings:
        if math.isfinite(one.start_s) and math.isfinite(one.seconds):
            start_s = max(0.0, one.start_s)
            yield Bar(one.stage, one.subject, start_s, max(start_s, one.start_s + one.seconds))


def _chains(bars: Sequence[Bar]) -> tuple[_Chain, ...]:
    names = dict.fromkeys(one.subject for one in bars if one.stage in CHAIN)
    return tuple(
        _Chain(name, tuple(one for one in bars if one.subject == name and one.stage in CHAIN))
        for name in names
    )


def _last(chains: Sequence[_Chain]) -> _Chain | None:
    """Return the chain that ended last, of several the longest: the gateway waited for it."""
    return max(chains, key=lambda one: (one.end_s, one.seconds), default=None)


def _stage_rows(bars: Sequence[Bar], stage: Stage) -> list[Row]:
    return _lanes(stage, [one for one in bars if one.stage == stage])


def _lanes(name: str, bars: Sequence[Bar]) -> list[Row]:
    """Put bars into as few rows as they need for not lying over each other."""
    lanes: list[list[Bar]] = []
    for bar in bars:
        free = (lane for lane in lanes if lane[-1].end_s <= bar.start_s + SAME_S)
        lane = next(free, None)
        if lane is None:
            lanes.append([bar])
        else:
            lane.append(bar)
    return [Row(name, tuple(lane), lane=number) for number, lane in enumerate(lanes)]


# --- words ---------------------------------------------------------------------------------------


def took(seconds: float) -> str:
    """Write how long something took: "85 ms", "2.4 s", "62 s", "12 min 5 s", "3 h"."""
    if seconds < 0.9995:  # noqa: PLR2004  # what rounds to 1000 ms is a second
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:  # noqa: PLR2004  # what rounds to 10.0 s needs no decimal
        return f"{seconds:.1f} s"
    if round(seconds) < 2 * MINUTE_S:
        return f"{seconds:.0f} s"
    return span(seconds).removesuffix(" 0 s").removesuffix(" 0 min")


def _sentence(extent_s: float, chains: Sequence[_Chain], last: _Chain | None) -> str:
    """Say how long the run took, which chain it waited for, and what was done meanwhile."""
    if last is None:
        return f"The run took {took(extent_s)}."
    longest = last.seconds >= max(one.seconds for one in chains) - SAME_S
    which = "its longest chain" if longest else "the chain that ended last"
    which = "its one chain" if len(chains) == 1 else which
    stages = ", ".join(
        f"{stage} {took(sum(bar.seconds for bar in last.bars if bar.stage == stage))}"
        for stage in dict.fromkeys(bar.stage for bar in last.bars)
    )
    name = cut(last.name, NAME_LIMIT)
    return (
        f"The run took {took(extent_s)}; {which}, {name}, took {took(last.seconds)} ({stages})"
        f"{_meanwhile(last, [one for one in chains if one is not last])}."
    )


def _meanwhile(last: _Chain, others: Sequence[_Chain]) -> str:
    """Say how much of the other chains' work was done in the time of the last one."""
    if not others:
        return ""
    work_s = sum(one.work_s for one in others)
    within_s = sum(one.work_within_s(last) for one in others)
    who, their = ("the other one", "its") if len(others) == 1 else (f"the other {len(others)}", "their")
    if within_s >= ALL * work_s:
        return f"; {who} ({took(work_s)} of work) hid behind it"
    return f"; {who} did {took(within_s)} of {their} {took(work_s)} of work meanwhile"


# --- the axis ------------------------------------------------------------------------------------


def ticks(extent_s: float, most: int = MOST_TICKS) -> tuple[tuple[float, str], ...]:
    """Return the marks of an axis from 0: round times, at most `most` steps, each with its words."""
    step = next((one for one in STEPS_S if extent_s <= one * most), 0.0)
    step = step or DAY_S * math.ceil(extent_s / most / DAY_S)
    unit_s, unit = (1, "s") if step < MINUTE_S else (MINUTE_S, "min") if step < HALF_HOUR_S else (3600, "h")
    count = int(extent_s / step + 1e-9)
    return tuple((number * step, f"{number * step / unit_s:g} {unit}") for number in range(count + 1))


def spread(spans: Sequence[tuple[float, float]], room: float, least: float) -> Spans:
    """Widen what is too thin to be seen, so that nothing lies over its neighbour or leaves the axis.

    Args:
        spans: from where to where, in order; within `room`.
        room: how long the axis is.
        least: how wide each is at least, where there is room for that.
    """
    least = min(least, room / len(spans)) if spans else least
    placed: Spans = []
    edge = 0.0
    for left, right in spans:
        begin = max(left, edge)
        edge = max(right, begin + least)
        placed.append((begin, edge))
    limit = room
    for at in range(len(placed) - 1, -1, -1):
        left, right = placed[at]
        right = min(right, limit)
        left = max(0.0, min(left, right - least))
        placed[at] = (left, right)
        limit = left
    return placed
