"""Memory pictures: to scale, complete, and harmless whatever a device or a model is called."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import picture, picture_svg, picture_text
from flows.picture_style import DARK, LIGHT, SHADES, Scheme
from tasks.contracts import DeviceMemory, MemoryPart, Part, Plan

GIB = 1 << 30
SVG = "{http://www.w3.org/2000/svg}"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def size(gib: float) -> int:
    """Return GiB as bytes."""
    return int(gib * GIB)


def parts(model: str, group: str = "", **sizes: float) -> tuple[MemoryPart, ...]:
    """Return a model's parts from their sizes in GiB."""
    keys: dict[str, Part] = {part: part for part in picture.PARTS}
    return tuple(MemoryPart(model, keys[name], size(gib), group) for name, gib in sizes.items())


def taken_bytes(held: tuple[MemoryPart, ...]) -> int:
    """Return what parts take: residents together, of each group its largest member."""
    models: dict[tuple[str, str], int] = {}
    for one in held:
        models[one.group, one.model] = models.get((one.group, one.model), 0) + one.memory_bytes
    groups = {group for group, _ in models} - {""}
    turns = sum(max(total for (its, _), total in models.items() if its == group) for group in groups)
    return turns + sum(total for (group, _), total in models.items() if not group)


def device(
    place: str, name: str, total: float, *, taken: tuple[float, float, float] = (0.4, 0.0, 0.5),
    held: tuple[MemoryPart, ...] = (), unified: bool = False,
) -> DeviceMemory:  # fmt: skip
    """Return a device from GiB; `taken` is what the driver, others and the margin have."""
    reserved, others, margin = map(size, taken)
    return DeviceMemory(
        device=place,
        name=name,
        total_bytes=size(total),
        reserved_bytes=reserved,
        others_bytes=others,
        margin_bytes=margin,
        budget_bytes=size(total) - reserved - others - margin,
        used_bytes=taken_bytes(held),
        parts=held,
        unified=unified,
    )


def plan(*devices: DeviceMemory, profile: str = "rtx-3090-ti") -> Plan:
    """Return a plan that fills some devices."""
    return Plan(
        host="lab-host",
        profile=profile,
        profile_why="",
        models=(),
        decisions=(),
        download_bytes=0,
        disk_needed_bytes=0,
        disk_free_bytes=0,
        store="",
        advice=(),
        devices=devices,
    )


WHISPER = parts("whisper-large-v3-turbo", weights=1.5, compute=0.4, overhead=0.2)
MAIN = device("cpu", "main memory", 62.7, taken=(3.9, 9.6, 0.5), held=WHISPER)
ONE_CARD = plan(
    device(
        "cuda:0", "NVIDIA GeForce RTX 3090 Ti", 24.0, taken=(0.4, 0.6, 0.5),
        held=(
            *parts("nomic-embed-text-v1.5", weights=0.3, compute=0.1, overhead=0.2),
            *parts("qwen3-reranker-0.6b", weights=0.6, kv=0.4, compute=0.2, overhead=0.4),
            *parts("qwen2.5-32b-instruct", "turns", weights=17.2, kv=0.8, compute=0.3, overhead=0.3),
            *parts("qwen2.5-vl-7b", "turns", weights=4.4, projector=1.3, kv=0.4, compute=0.5, overhead=0.3),
        ),
    ),
    MAIN,
)  # fmt: skip
TWO_CARDS = plan(
    device(
        "cuda:0", "NVIDIA GeForce RTX 4090", 24.0,
        held=(
            *parts("llama-3.3-70b-instruct", weights=19.8, kv=1.3, compute=0.5, overhead=0.4),
            *parts("nomic-embed-text-v1.5", weights=0.2, compute=0.1),
        ),
    ),
    device(
        "cuda:1", "NVIDIA GeForce RTX 4090", 24.0, taken=(0.4, 0.02, 0.5),
        held=parts("llama-3.3-70b-instruct", weights=19.2, kv=1.2, compute=0.4, overhead=0.4),
    ),
    device("cuda:2", "NVIDIA GeForce GTX 1650", 4.0, taken=(0.3, 0.0, 0.5)),
    profile="rtx-4090-x2",
)  # fmt: skip
JETSON = plan(
    device(
        "cuda:0", "NVIDIA Jetson Orin Nano", 7.4, taken=(0.5, 0.7, 0.5), unified=True,
        held=(
            *parts("all-minilm-l6-v2", weights=0.04, compute=0.06),
            *parts("llama-3.2-3b-instruct", "turns", weights=1.9, kv=0.4, compute=0.3, overhead=0.3),
            *parts("moondream-2", "turns", weights=1.6, projector=0.8, kv=0.2, compute=0.3, overhead=0.2),
            *parts("qwen2.5-coder-7b-instruct", "turns", weights=4.4, kv=0.4, compute=0.3, overhead=0.2),
        ),
    ),
    profile="jetson-orin-nano-8gb",
)  # fmt: skip
NASTY = plan(
    device(
        'cuda:0"', "<&>\"' \x1b[31m\x00\ufffe\ud800 card", 24.0,
        held=parts('<script>&"\'\n', weights=3.0, kv=1.0),
    ),
    profile="<&>",
)  # fmt: skip
SAMPLES = {"one card": ONE_CARD, "two cards": TWO_CARDS, "jetson": JETSON, "nasty": NASTY, "nothing": plan()}
EACH = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())

# --- what the tests see --------------------------------------------------------------------------


def drawn(sample: Plan) -> ET.Element:
    """Return a picture as a browser would read it: not well-formed is an error."""
    return ET.fromstring(picture_svg.svg(sample))  # noqa: S314 - made here


def named(root: ET.Element, look: str) -> list[ET.Element]:
    """Return the boxes of a class."""
    return [one for one in root.iter(f"{SVG}rect") if look in (one.get("class") or "").split()]


def tip(box: ET.Element) -> str:
    """Return a box's tooltip."""
    return box.findtext(f"{SVG}title") or ""


def number(element: ET.Element, name: str) -> float:
    """Return an attribute as a number."""
    return float(element.get(name) or "0")


def bars(root: ET.Element) -> list[list[ET.Element]]:
    """Return the segments of each bar, from left to right."""
    rows: dict[float, list[ET.Element]] = {}
    for one in named(root, "segment"):
        rows.setdefault(number(one, "y"), []).append(one)
    return [sorted(row, key=lambda one: number(one, "x")) for row in rows.values()]


def words(root: ET.Element) -> list[str]:
    """Return all printed texts."""
    return ["".join(one.itertext()) for one in root.iter(f"{SVG}text")]


def spans(root: ET.Element) -> list[tuple[float, float, float]]:
    """Return where each printed text lies by an estimate: its line, its left and its right end."""
    found = []
    for one in root.iter(f"{SVG}text"):
        look = (one.get("class") or "").split()
        size_px = 15 if "title" in look else 11 if "small" in look else 12
        long = picture.cells("".join(one.itertext())) * size_px * 0.6
        left = number(one, "x") - (long if "end" in look else 0)
        found.append((number(one, "y"), left, left + long))
    return found


def bar_lines(text: str) -> list[str]:
    """Return the bars of a picture in blocks."""
    signs = set("█▓▒▚░▪·│#=+/:o.|")
    return [line.strip() for line in text.splitlines() if line.strip() and set(line.strip()) <= signs]


# --- the page ------------------------------------------------------------------------------------


@EACH
def test_a_picture_stands_alone(sample: Plan) -> None:
    """A picture is well-formed, an image for screen readers, and refers to nothing outside itself."""
    text = picture_svg.svg(sample)
    root = drawn(sample)

    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == picture.title(sample)
    assert root.findtext(f"{SVG}desc")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|href|@import|http(?!://www\.w3\.org/2000/svg\")|url\((?!#)", text)


def test_widths_are_to_scale() -> None:
    """The largest card is as wide as there is room; main memory beside it has a scale of its own."""
    card, main = bars(drawn(ONE_CARD))
    pixel = 24 * GIB / picture_svg.INNER

    assert "drawn to a scale of its own" in picture_svg.svg(ONE_CARD)

    assert sum(number(one, "width") for one in card) == pytest.approx(24 * GIB / pixel, abs=0.05)
    assert sum(number(one, "width") for one in main) == pytest.approx(picture_svg.INNER, abs=0.05)
    assert number(card[2], "width") == pytest.approx(0.3 * GIB / pixel, abs=0.01)


def test_the_order_is_that_of_the_contract() -> None:
    """Driver, others, residents' parts, the group, what is free, the margin."""
    tips = [tip(one) for one in bars(drawn(ONE_CARD))[0]]

    assert tips == [
        "driver, 0.4 GiB",
        "other programs, 0.6 GiB",
        "nomic-embed-text-v1.5: weights, 0.3 GiB",
        "nomic-embed-text-v1.5: compute, 0.1 GiB",
        "nomic-embed-text-v1.5: process, 0.2 GiB",
        "qwen3-reranker-0.6b: weights, 0.6 GiB",
        "qwen3-reranker-0.6b: KV, 0.4 GiB",
        "qwen3-reranker-0.6b: compute, 0.2 GiB",
        "qwen3-reranker-0.6b: process, 0.4 GiB",
        "one at a time, 18.6 GiB for the largest: qwen2.5-32b-instruct 18.6 GiB, qwen2.5-vl-7b 6.9 GiB",
        "free, 1.7 GiB",
        "margin, 0.5 GiB",
    ]


def test_a_group_is_as_wide_as_its_largest_member() -> None:
    """Members lie over each other in one segment, each as wide as it is large, from the same left edge."""
    root = drawn(ONE_CARD)
    [group] = named(root, "group")[:1]
    members = named(root, "member")
    pixel = 24 * GIB / picture_svg.INNER

    assert number(group, "width") == pytest.approx(18.6 * GIB / pixel, abs=0.01)
    assert [number(one, "width") for one in members] == [
        pytest.approx(18.6 * GIB / pixel, abs=0.01),
        pytest.approx(6.9 * GIB / pixel, abs=0.01),
    ]
    assert {group.get("x")} == {one.get("x") for one in members}


def test_a_split_model_has_one_colour() -> None:
    """A model looks the same on every device that it lies on, and unlike its neighbours."""
    looks: dict[str, set[str]] = {}
    for one in named(drawn(TWO_CARDS), "part"):
        hue = next(look for look in (one.get("class") or "").split() if look.startswith("hue-"))
        looks.setdefault(tip(one).split(":")[0], set()).add(hue)

    assert {"llama-3.3-70b-instruct": {"hue-0"}, "nomic-embed-text-v1.5": {"hue-1"}} == looks


def test_what_is_thin_is_still_seen() -> None:
    """20 MiB of 24 GiB are less than a pixel: they get one, on top, and nothing else moves."""
    root = drawn(TWO_CARDS)
    everything = named(root, "segment")
    [thin] = [one for one in everything if tip(one) == "other programs, 20.5 MiB"]
    [after] = [one for one in everything if tip(one) == "llama-3.3-70b-instruct: weights, 19.2 GiB"]
    pixel = 24 * GIB / picture_svg.INNER

    assert number(thin, "width") == 1
    assert number(after, "x") == pytest.approx(picture_svg.PAD + 0.42 * GIB / pixel, abs=0.01)
    assert everything.index(thin) > everything.index(after)


def test_an_idle_device_has_a_bar() -> None:
    """A device on which nothing is planned shows what it has."""
    assert ["driver, 0.3 GiB", "free, 3.2 GiB", "margin, 0.5 GiB"] == [
        tip(one) for one in bars(drawn(TWO_CARDS))[2]
    ]
    assert "0 bytes of 3.2 GiB used" in words(drawn(TWO_CARDS))
    assert bar_lines(picture_text.blocks(TWO_CARDS, 80))[2] == "░··········││"


def test_every_figure_is_printed() -> None:
    """What has no room in a bar stands in the rows below it, and in the description."""
    root = drawn(ONE_CARD)
    made_of = "weights 0.3 + compute 0.1 + process 0.2"

    assert {"nomic-embed-text-v1.5", "0.6 GiB", made_of, "driver 0.4 GiB"} <= set(words(root))
    assert f"nomic-embed-text-v1.5 0.6 GiB = {made_of}." in (root.findtext(f"{SVG}desc") or "")


def test_names_stay_text() -> None:
    """Markup and control characters in a name cannot break, or break out of, a picture."""
    root = drawn(NASTY)

    assert "<&>\"'  [31m    card, 24.0 GiB" in words(root)
    assert tip(named(root, "part")[0]) == "<script>&\"' : weights, 3.0 GiB"
    assert root.findtext(f"{SVG}title") == "Memory of lab-host as <&> fills it"
    assert "\x1b" not in picture_text.blocks(NASTY, 80)


def test_memory_that_no_part_names_is_shown() -> None:
    """`used_bytes` is the truth: what it counts beyond the parts is a piece of its own, and is not free."""
    held = parts("mini", weights=1.0)
    one = device("cuda:0", "card", 8.0, held=held)
    more = plan(DeviceMemory(**{**{k: getattr(one, k) for k in one.__slots__}, "used_bytes": size(3.0)}))

    assert [tip(box) for box in bars(drawn(more))[0]][2:4] == [
        "planned, not itemised, 2.0 GiB",
        "free, 4.1 GiB",
    ]


def luminance(colour: tuple[float, float, float]) -> float:
    """Return how light a colour is, as WCAG 2 defines it."""
    red, green, blue = (
        one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in (v / 255 for v in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def mixed(over: str, under: str, opacity: float) -> str:
    """Lay one colour over another."""
    pairs = ((int(over[at : at + 2], 16), int(under[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(top * opacity + below * (1 - opacity)):02x}" for top, below in pairs)


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, as WCAG 2 defines it."""
    one, other = sorted(
        luminance((int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16))) for c in (first, second)
    )
    return (other + 0.05) / (one + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(scheme: Scheme) -> None:
    """Text has a contrast of at least 4.5 on every shade of every hue, hatched or not, and on the greys."""
    fills = dict(scheme.fills)
    shades = {mixed(hue, scheme.page, shade) for hue in scheme.hues for shade in SHADES}
    plain = {*scheme.hues, fills["group"]}
    hatched = {mixed(fills["hatch"], one, scheme.hatch_opacity) for one in plain}
    grounds = {*shades, *plain, *hatched, *(fills[name] for name in ("reserved", "others", "rest", "free"))}

    assert [] == [ground for ground in grounds if contrast(scheme.ink, ground) < 4.5]
    assert contrast(scheme.soft, scheme.page) >= 4.5


# --- the terminal --------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_lines_fit_the_terminal(sample: Plan, width: int) -> None:
    """No line is wider than the terminal, in blocks as in ASCII, which is ASCII."""
    text = picture_text.blocks(sample, width)
    plain = picture_text.blocks(sample, width, ascii_only=True)

    assert max(map(picture.cells, text.splitlines()), default=0) <= width
    assert max(map(len, plain.splitlines()), default=0) <= width
    assert plain.isascii()


def test_blocks_read_as_intended() -> None:
    """A bar, letters below it where models begin, a line a model, what is no model's, and a legend."""
    bar = "░░░█▒██▓▒▒" + "▚" * 60 + "······││"

    assert picture_text.blocks(plan(ONE_CARD.devices[0]), 80).splitlines() == [
        "cuda:0  NVIDIA GeForce RTX 3090 Ti, 24.0 GiB: 20.8 GiB of 22.5 GiB used",
        f"  {bar}",
        "     a b    c",
        "  a nomic-embed-text-v1.5  0.6 GiB = weights 0.3 + compute 0.1 + process 0.2",
        "  b qwen3-reranker-0.6b  1.6 GiB = weights 0.6 + KV 0.4 + compute 0.2 +",
        "        process 0.4",
        "  c one at a time  18.6 GiB = the largest of",
        "      qwen2.5-32b-instruct  18.6 GiB = weights 17.2 + KV 0.8 + compute 0.3 +",
        "        process 0.3",
        "      qwen2.5-vl-7b  6.9 GiB = weights 4.4 + projector 1.3 + KV 0.4 +",
        "        compute 0.5 + process 0.3",
        "  ░ driver 0.4 GiB  ░ other programs 0.6 GiB  · free 1.7 GiB  │ margin 0.5 GiB",
        "",
        "  █ weights, projector  ▓ KV  ▒ compute, process  ▚ one at a time",
    ]


def test_cells_add_up() -> None:
    """Whole cells first, the rest to the largest remainders; what fills half a cell is seen."""
    assert picture_text.share_cells([8.6, 0.7, 0.7], [1, 1, 1]) == [8, 1, 1]
    assert picture_text.share_cells([1.6, 1.6, 0.8], [1, 1, 1]) == [2, 1, 1]
    assert picture_text.share_cells([9.4, 0.5, 0.1], [1, 1, 0]) == [9, 1, 0]
    assert picture_text.share_cells([4.2, 0.6, 0.6, 0.6], [1, 1, 1, 1]) == [3, 1, 1, 1]
    assert picture_text.share_cells([0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1]).count(1) == 2


def test_a_model_is_seen_although_none_of_its_parts_is() -> None:
    """At 30 cells, the parts of 0.6 GiB fill less than half a cell each, and more than half together."""
    card = ONE_CARD.devices[0]
    second = DeviceMemory("gpu1", "Larger card", int(62.7 * GIB), 0, 0, 0, int(62.7 * GIB), 0)

    assert bar_lines(picture_text.blocks(plan(card, second), 80))[0] == "░██▒" + "▚" * 23 + "··│"


def test_long_rows_go_on_below() -> None:
    """What is no model's goes on in a second row where one is too narrow for it."""
    huge = device("cpu", "main memory", 9e6, taken=(1e6, 1e6, 1e6), held=parts("mini", weights=1e6))
    more = DeviceMemory(**{**{k: getattr(huge, k) for k in huge.__slots__}, "used_bytes": size(2e6)})
    ends = [right for _, _, right in spans(drawn(plan(more)))]

    assert max(ends) <= picture_svg.WIDTH - picture_svg.PAD


@EACH
def test_colour_changes_nothing_else(sample: Plan) -> None:
    """Without its escape codes, the coloured picture is the plain one."""
    plain = picture_text.blocks(sample, 100)
    coloured = picture_text.blocks(sample, 100, colour=True)

    assert ANSI.sub("", coloured) == plain
    assert not sample.devices or coloured != plain


# --- any plan ------------------------------------------------------------------------------------

BYTES = st.one_of(st.integers(0, 1 << 22), st.integers(0, 200 * GIB))
NAMES = st.one_of(
    st.sampled_from(["mini", "qwen2.5-32b-instruct", "模型"]),
    st.text(max_size=60),
    st.text(min_size=100, max_size=120),
)


@st.composite
def devices(draw: st.DrawFn) -> DeviceMemory:
    """Draw a device that its parts do not overfill."""
    found = draw(
        st.lists(
            st.builds(
                MemoryPart,
                NAMES,
                st.sampled_from(picture.PARTS),
                BYTES,
                st.sampled_from(["", "", "turns", "b"]),
            ),
            max_size=12,
        )
    )
    used = taken_bytes(tuple(found))
    reserved, others, margin, free = (draw(BYTES) for _ in range(4))
    return DeviceMemory(
        device=draw(NAMES),
        name=draw(NAMES),
        total_bytes=reserved + others + margin + used + free,
        reserved_bytes=reserved,
        others_bytes=others,
        margin_bytes=margin,
        budget_bytes=used + free,
        used_bytes=used,
        parts=tuple(found),
        unified=draw(st.booleans()),
    )


UNHURRIED = settings(deadline=None)  # a cold start is no failure
PLANS = st.lists(devices(), max_size=4).map(lambda found: plan(*found))


@UNHURRIED
@given(PLANS)
def test_any_plan_is_drawn_to_scale(sample: Plan) -> None:
    """Whatever the sizes and names: a bar's pieces are the device's total, to scale, inside the picture."""
    root = drawn(sample)
    height = number(root, "height")

    assert all(sum(s.memory_bytes for s in picture.segments(d)) == d.total_bytes for d in sample.devices)
    for box in root.iter(f"{SVG}rect"):
        edge = 0 if box.get("class") == "page" else 0.01 - picture_svg.PAD
        assert 0 <= number(box, "x") <= number(box, "x") + number(box, "width") <= picture_svg.WIDTH + edge
        assert 0 <= number(box, "y") <= number(box, "y") + number(box, "height") <= height
    for one, bar in zip([d for d in sample.devices if d.total_bytes], bars(root), strict=True):
        scale = picture_svg.INNER / picture.scale_bytes(sample, one)
        wide = [s.memory_bytes * scale for s in picture.segments(one)]
        assert sorted(number(box, "width") for box in bar) == pytest.approx(
            sorted(max(1.0, px) for px in wide), abs=0.01
        )


@UNHURRIED
@given(PLANS)
def test_labels_never_overlap(sample: Plan) -> None:
    """By the estimate of their widths, no two texts of a line touch, and none leaves the picture."""
    lines: dict[float, list[tuple[float, float]]] = {}
    for y, left, right in spans(drawn(sample)):
        lines.setdefault(y, []).append((left, right))

    for line in lines.values():
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(line)))
        assert min(line)[0] >= picture_svg.PAD
        assert max(right for _, right in line) <= picture_svg.WIDTH - picture_svg.PAD


@UNHURRIED
@given(PLANS, st.integers(0, 300), st.booleans())
def test_any_plan_fits_a_terminal(sample: Plan, width: int, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever the sizes and names: no line is too wide, and the longest bar fills the width."""
    text = picture_text.blocks(sample, width, ascii_only=ascii_only)
    room = min(max(width, 60), 200)

    assert max(map(picture.cells, text.splitlines()), default=0) <= room
    assert text.isascii() or not ascii_only
    if any(one.total_bytes for one in sample.devices):
        assert max(map(len, bar_lines(text))) == room - 2
