"""Timelines: in time, complete, and harmless whatever a model is called."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import picture, timeline_svg, timeline_text
from flows.timeline import STAGES, Timeline, spread, ticks, timeline, took
from tasks.contracts import RunRecord, Stage, Timing

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "</text><script>alert(1)</script>&\"'\x00\x1b[31m\n模型\ufffe"


def run(*timings: Timing, seconds: float = 0.0) -> RunRecord:
    """Return a run of which some stages were timed."""
    return RunRecord("r1", "0", "lab-host", "", seconds, "changed", "", "", "auto", timings=timings)


def chain(name: str, start_s: float, *seconds: float) -> list[Timing]:
    """Return a model's stages, each after the one before."""
    timings = []
    stages: tuple[Stage, ...] = ("pull", "serve", "verify")
    for stage, took_s in zip(stages, seconds, strict=False):
        timings.append(Timing(stage, name, start_s, took_s))
        start_s += took_s
    return timings


HEAD = (
    Timing("detect", "lab-host", 0.0, 0.4),
    Timing("plan", "auto", 0.4, 0.1),
    Timing("plan", "pins", 0.5, 0.5),
)
FIVE = run(
    *HEAD,
    *chain("nomic-embed-text-v1.5", 1, 4, 2, 1),
    *chain("qwen2.5-32b-instruct", 1, 45, 12, 3),
    *chain("qwen3-reranker-0.6b", 1, 9, 6, 2),
    Timing("route", "gateway", 61, 1),
    seconds=62,
)
AFTER = run(*chain("a", 0, 60), *chain("b", 50, 20), seconds=71)
BEFORE = run(*chain("a", 0, 5), *chain("b", 5, 3), *chain("c", 5, 6), seconds=11)
SINGLE = run(*chain("mini", 0, 0.2, 1), seconds=1.2)
HOSTILE = run(*chain(NASTY, 0, 1, 1, 1), *chain("| ![x](y) `" * 20, 0, 2), seconds=3)
SAMPLES = {
    "five": FIVE,
    "hostile": HOSTILE,
    "nothing": run(),
    "one": run(*chain("mini", 0.01, 0.01, 0.1, 0.02)),
}
EACH = pytest.mark.parametrize("record", SAMPLES.values(), ids=SAMPLES.keys())

# --- what it shows -------------------------------------------------------------------------------


def test_there_is_a_row_a_model_and_a_row_a_stage() -> None:
    """In the order of the line; models by their beginning. The chain that ended last is marked."""
    shown = timeline(FIVE)

    assert [(row.name, [bar.stage for bar in row.bars], row.chain, row.last) for row in shown.rows] == [
        ("detect", ["detect"], False, False),
        ("plan", ["plan", "plan"], False, False),
        ("nomic-embed-text-v1.5", ["pull", "serve", "verify"], True, False),
        ("qwen3-reranker-0.6b", ["pull", "serve", "verify"], True, False),
        ("qwen2.5-32b-instruct", ["pull", "serve", "verify"], True, True),
        ("route", ["route"], False, False),
    ]
    assert shown.extent_s == 62


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (FIVE, "its longest chain, qwen2.5-32b-instruct, took 60 s (pull 45 s, serve 12 s, verify 3.0 s);"),
        (FIVE, "The run took 62 s; "),
        (FIVE, "; the other 2 (24 s of work) hid behind it."),
        (AFTER, "The run took 71 s; the chain that ended last, b, took 20 s (pull 20 s); "),
        (AFTER, "; the other one did 10 s of its 60 s of work meanwhile."),
        (BEFORE, "; the other 2 did 3.0 s of their 8.0 s of work meanwhile."),
        (SINGLE, "The run took 1.2 s; its one chain, mini, took 1.2 s (pull 200 ms, serve 1.0 s)."),
        (run(*HEAD, seconds=1), "The run took 1.0 s."),
        (run(), "The run took 0 ms."),
    ],
)  # fmt: skip
def test_one_sentence_tells_what_hid_behind_what(record: RunRecord, said: str) -> None:
    """Nothing is said to have hidden that was done before or after."""
    assert said in timeline(record).said


def test_of_chains_that_end_together_the_longest_counts() -> None:
    """Whatever their order."""
    for pair in ((chain("a", 2, 8), chain("b", 0, 10)), (chain("b", 0, 10), chain("a", 2, 8))):
        assert "longest chain, b," in timeline(run(*pair[0], *pair[1])).said


def test_bars_of_a_model_that_overlap_get_a_row_each() -> None:
    """A millisecond of rounding is no overlap."""
    shown = timeline(
        run(Timing("pull", "a", 0, 5), Timing("pull", "a", 2, 5), Timing("serve", "a", 4.999, 1))
    )

    assert [(row.name, row.lane, [bar.start_s for bar in row.bars]) for row in shown.rows] == [
        ("a", 0, [0, 4.999]),
        ("a", 1, [2]),
    ]
    assert all(row.last for row in shown.rows)


def test_what_cannot_be_is_not_drawn() -> None:
    """A time before the run begins at its beginning; what is no time is left out."""
    strange = (Timing("pull", "a", -1, 3), Timing("serve", "a", math.inf, 1), Timing("verify", "a", 5, -2))
    shown = timeline(run(*strange))

    assert [(bar.start_s, bar.end_s) for row in shown.rows for bar in row.bars] == [(0, 2), (5, 5)]
    assert timeline(run(seconds=math.inf)).extent_s == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"), (0.0854, "85 ms"), (0.9996, "1.0 s"), (2.44, "2.4 s"), (9.96, "10 s"), (119, "119 s"),
        (119.6, "2 min"), (725, "12 min 5 s"), (3600, "1 h"), (11100, "3 h 5 min"), (43200, "12 h"),
    ],
)  # fmt: skip
def test_times_are_words(seconds: float, words: str) -> None:
    """As people say them."""
    assert words == took(seconds)


@pytest.mark.parametrize(
    ("extent_s", "words"),
    [
        (0.2, "0 s, 0.05 s, 0.1 s, 0.15 s, 0.2 s"),
        (62, "0 s, 10 s, 20 s, 30 s, 40 s, 50 s, 60 s"),
        (200, "0 s, 30 s, 60 s, 90 s, 120 s, 150 s, 180 s"),
        (1500, "0 min, 5 min, 10 min, 15 min, 20 min, 25 min"),
        (4 * 3600, "0 h, 0.5 h, 1 h, 1.5 h, 2 h, 2.5 h, 3 h, 3.5 h, 4 h"),
        (12 * 3600, "0 h, 2 h, 4 h, 6 h, 8 h, 10 h, 12 h"),
        (20 * 86400, "0 h, 72 h, 144 h, 216 h, 288 h, 360 h, 432 h"),
        (0.0, "0 s"),
    ],
)
def test_an_axis_has_round_times(extent_s: float, words: str) -> None:
    """In one unit, from 0.2 s to days."""
    assert words == ", ".join(label for _, label in ticks(extent_s))


def test_what_is_thin_is_widened_and_moves_nothing_else() -> None:
    """As long as there is room; at the end of the axis it grows to the left."""
    assert spread([(0, 0.5), (5, 9)], 10, 2) == [(0, 2), (5, 9)]
    assert spread([(4, 9.9), (9.9, 10)], 10, 2) == [(4, 8), (8, 10)]
    assert spread([(1, 1), (1, 1), (1, 1)], 3, 2) == [(0, 1), (1, 2), (2, 3)]
    assert spread([], 10, 2) == []


# --- the page ------------------------------------------------------------------------------------


def drawn(record: RunRecord) -> ET.Element:
    """Return a picture as a browser would read it: not well-formed is an error."""
    return ET.fromstring(timeline_svg.svg(timeline(record)))  # noqa: S314 - made here


def bars(root: ET.Element) -> list[tuple[float, float, float]]:
    """Return where each bar lies: its row, its left and its right end."""
    found = [one for one in root.iter(f"{SVG}rect") if "bar" in (one.get("class") or "").split()]
    places = [tuple(float(one.get(name) or "nan") for name in ("y", "x", "width")) for one in found]
    return [(y, x, x + width) for y, x, width in places]


@EACH
def test_a_picture_stands_alone(record: RunRecord) -> None:
    """It is an image for screen readers, has no script, and refers to nothing outside itself."""
    text = timeline_svg.svg(timeline(record))
    root = drawn(record)

    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == timeline(record).title
    assert timeline(record).said in (root.findtext(f"{SVG}desc") or "")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|href|@import|http(?!://www\.w3\.org/2000/svg\")|url\((?!#)", text)


def test_every_bar_is_described() -> None:
    """A page shows the picture as an image, where no tooltip helps."""
    said = drawn(FIVE).findtext(f"{SVG}desc") or ""
    long = "pull 45 s, from 1.0 s on, serve 12 s, from 46 s on, verify 3.0 s, from 58 s on"

    assert "plan: plan auto 100 ms, from 400 ms on, plan pins 500 ms, from 500 ms on." in said
    assert f"qwen2.5-32b-instruct: {long}." in said


def test_bars_are_in_time() -> None:
    """To scale: one that takes a quarter of another's time is a quarter as wide."""
    root = drawn(FIVE)
    long = bars(root)[9]
    wide = {round(right - left, 1) for _, left, right in bars(root)}

    assert round((long[2] - long[1]) * 12 / 45, 1) in wide
    assert {"pull 45 s", "serve 12 s"} <= {one.text for one in root.iter(f"{SVG}text")}


def test_the_chain_that_ended_last_is_seen_without_colour() -> None:
    """Its name is bold, a band lies behind it, and a legend says what that means."""
    root = drawn(FIVE)
    bold = [one.text for one in root.iter(f"{SVG}text") if "strong" in (one.get("class") or "").split()]

    assert bold == ["qwen2.5-32b-instruct", "60 s"]
    assert timeline_svg.LAST in {one.text for one in root.iter(f"{SVG}text")}


# --- the terminal --------------------------------------------------------------------------------


def test_a_chart_reads_as_intended() -> None:
    """The axis, a line a row with its time, and what the signs mean."""
    assert timeline_text.chart(timeline(FIVE), 80, ascii_only=True).splitlines() == [
        "                         0 s                  30 s                 60 s",
        "  detect                 :                                                400 ms",
        "  plan                   ::                                               600 ms",
        "  nomic-embed-text-v1.5   ##==+                                            7.0 s",
        "  qwen3-reranker-0.6b     ######====+                                       17 s",
        "* qwen2.5-32b-instruct    ###############################========++         60 s",
        "  route                                                            :       1.0 s",
        "  # pull  = serve  + verify  : whole run  * ended last",
    ]
    assert timeline_text.chart(timeline(run())) == "The run took 0 ms."


@EACH
@pytest.mark.parametrize("width", [60, 80, 200])
def test_colours_are_not_needed(record: RunRecord, width: int) -> None:
    """Without blocks, all is ASCII; no sign of a name reaches the terminal's own."""
    plain = timeline_text.chart(timeline(record), width, ascii_only=True)

    assert plain.isascii()
    assert all(sign.isprintable() or sign == "\n" for sign in timeline_text.chart(timeline(record), width))


# --- any run -------------------------------------------------------------------------------------

NAMES = st.one_of(st.sampled_from(["mini", "qwen2.5-32b-instruct", "模型", NASTY]), st.text(max_size=120))
SECONDS = st.one_of(st.floats(0, 1), st.floats(0, 43200), st.just(0.0))
TIMINGS = st.builds(Timing, st.sampled_from(STAGES), NAMES, SECONDS, SECONDS)
RUNS = st.builds(
    lambda timings, seconds: run(*timings, seconds=seconds), st.lists(TIMINGS, max_size=40), SECONDS
)
UNHURRIED = settings(deadline=None)  # a cold start is no failure


@UNHURRIED
@given(RUNS)
def test_bars_never_leave_the_axis_nor_lie_over_each_other(record: RunRecord) -> None:
    """Each timing has one bar that can be seen; rows do not touch, and all is within the picture."""
    root = drawn(record)
    placed = bars(root)
    rows: dict[float, list[tuple[float, float]]] = {}
    for y, left, right in placed:
        rows.setdefault(y, []).append((left, right))
    height = float(root.get("height") or "nan")
    right_end = timeline_svg.WIDTH - timeline_svg.PAD - timeline_svg.TOTAL_PX

    assert len(placed) == len(record.timings)
    assert all(one + timeline_svg.BAR < other for one, other in pairwise(sorted(rows)))
    assert all(0 <= y and y + timeline_svg.BAR <= height for y in rows)
    for row in rows.values():
        assert all(one[1] <= other[0] + 0.02 for one, other in pairwise(sorted(row)))
        assert all(timeline_svg.PAD <= left < right <= right_end + 0.02 for left, right in row)


@UNHURRIED
@given(RUNS)
def test_texts_never_leave_the_picture_nor_touch(record: RunRecord) -> None:
    """By the estimate of their widths, as in the picture of the memory."""
    lines: dict[float, list[tuple[float, float]]] = {}
    for one in drawn(record).iter(f"{SVG}text"):
        look = (one.get("class") or "").split()
        size_px = 15 if "title" in look else 11 if "small" in look else 12
        long = picture.cells(one.text or "") * size_px * 0.6
        x = float(one.get("x") or "nan")
        middle = one.get("text-anchor") == "middle"
        left = x - (long if "end" in look else long / 2 if middle else 0)
        lines.setdefault(float(one.get("y") or "nan"), []).append((left, left + long))

    for line in lines.values():
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(line)))
        assert min(line)[0] >= 0
        assert max(right for _, right in line) <= timeline_svg.WIDTH - timeline_svg.PAD


@UNHURRIED
@given(RUNS, st.integers(0, 300), st.booleans())
def test_any_run_fits_a_terminal(record: RunRecord, width: int, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    """No line is wider than the terminal; each row has a cell a bar, in its own columns."""
    shown: Timeline = timeline(record)
    text = timeline_text.chart(shown, width, ascii_only=ascii_only)
    lines = text.splitlines()

    assert not ascii_only or text.isascii()
    if shown.rows:
        assert len(lines) == len(shown.rows) + 2
        assert max(map(picture.cells, lines)) <= min(max(width, 60), 200)
