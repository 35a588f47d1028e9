"""A plan's memory as an SVG picture: a bar a device, cards to one scale, and its figures below. Pure.

The picture stands alone, without script, font or link, and follows a light or dark page. A label is printed
where it fits by an estimate of its width; every figure stands in the rows below a bar and in its tooltips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from xml.sax.saxutils import escape

from flows.picture import (
    PART_WORDS,
    PARTS,
    Held,
    about,
    clean,
    cut,
    group_words,
    held,
    hues,
    own_scale,
    scale_bytes,
    segments,
    sentence,
    terms,
    title,
    used,
    word,
)
from flows.picture_shapes import BOLD_EM, INDENT, Box, label, px, rect, shorten, swatch, text
from flows.picture_style import LIGHT, patterns, rules
from tasks.contracts import DeviceMemory, Plan
from tasks.wording import gib

WIDTH, PAD = 960, 24
INNER = WIDTH - 2 * PAD
BAR, ROW, GAP = 48, 18, 26
TOTAL_PX = 72
NAME_LIMIT, TITLE_LIMIT = 40, 90
LEAST_LANE = 13
"""A lane of a group that is lower than this has no room for a name."""
TURNS = "one at a time"
Row = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Frame:
    """What the devices of one picture share: the longest bar, a hue a model, how long names get."""

    longest_bytes: int
    hue: dict[str, int]
    name_px: float
    own: bool = False

    def px(self, size_bytes: int) -> float:
        """Return how wide some bytes are."""
        return INNER * size_bytes / self.longest_bytes if self.longest_bytes else 0.0

    def look(self, model: str) -> str:
        """Return the class that gives a model its hue."""
        return f"hue-{self.hue[model] % len(LIGHT.hues)}"


def svg(plan: Plan) -> str:
    """Draw a plan's memory as a picture that stands alone."""
    names = [cut(clean(one.model), NAME_LIMIT) for device in plan.devices for one in held(device)]
    frame = Frame(
        longest_bytes=0,
        hue=hues(plan),
        name_px=max(px(name) for name in [TURNS, *names]),
    )
    body = [text(PAD, PAD + 12, cut(title(plan), TITLE_LIMIT), "title")]
    y = PAD + 18.0 + GAP
    for device in plan.devices:
        scaled = replace(frame, longest_bytes=scale_bytes(plan, device), own=own_scale(plan, device))
        drawn, bottom = _device(device, scaled, y)
        body, y = [*body, *drawn], bottom + GAP
    drawn, bottom = _flow(_legend(plan), PAD, y)
    return "\n".join([*_head(plan, bottom + PAD - ROW / 2), *body, *drawn, "</svg>"]) + "\n"


def _head(plan: Plan, height: float) -> list[str]:
    """Begin the picture: its words for screen readers, its colours, its page."""
    said = " ".join(sentence(device) for device in plan.devices) or "The plan has no device."
    size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pm" role="img" {size}>',
        f"<title>{escape(title(plan))}</title>",
        f"<desc>{escape(said)}</desc>",
        "<style>",
        *rules(),
        "</style>",
        *patterns(),
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8"/>',
    ]


# --- a device ------------------------------------------------------------------------------------


def _device(device: DeviceMemory, frame: Frame, y: float) -> tuple[list[str], float]:
    """Draw one device below `y`: heading, bar and figures; return where it ends."""
    top = y + 10
    boxes = _boxes(device, frame)
    # What is thinner than a pixel is drawn last, or its neighbour would cover the pixel it is given.
    ordered = sorted(boxes, key=lambda box: frame.px(box.segment.memory_bytes) < 1)
    edge = max(1.0, frame.px(device.total_bytes))
    drawn = [
        *_heading(device, y, scaled=frame.own),
        *(line for box in ordered for line in _segment(device, box, frame, top)),
        *_names(boxes, top),
        f'<rect class="edge over" x="{PAD}" y="{top:g}" width="{edge:.3f}" height="{BAR}"/>',
    ]
    rows, bottom = _rows(device, frame, top + BAR + ROW + 2)
    return [*drawn, *rows], bottom


def _heading(device: DeviceMemory, y: float, *, scaled: bool) -> list[str]:
    """Write what a device is on the left, and how full it gets on the right."""
    name, figures = cut(clean(device.device), NAME_LIMIT // 2), used(device)
    x = PAD + px(name, em=BOLD_EM) + 8
    room = WIDTH - PAD - px(figures, em=BOLD_EM) - 16 - x
    return [
        text(PAD, y, name, "strong"),
        text(x, y, shorten(about(device, scaled=scaled), room), "soft"),
        text(WIDTH - PAD, y, figures, "strong end"),
    ]


def _boxes(device: DeviceMemory, frame: Frame) -> list[Box]:
    """Place a device's segments from left to right."""
    pieces = segments(device)
    ends = list(accumulate((one.memory_bytes for one in pieces), initial=0))
    right = max(1.0, frame.px(ends[-1]))
    boxes = []
    for one, start in zip(pieces, ends, strict=False):
        width = max(1.0, frame.px(one.memory_bytes))
        boxes.append(Box(one, PAD + min(frame.px(start), right - width), width))
    return boxes


def _segment(device: DeviceMemory, box: Box, frame: Frame, top: float) -> list[str]:
    """Draw one segment with its tooltip and, where it fits, its label."""
    one = box.segment
    size = gib(one.memory_bytes)
    if one.kind == "group":
        return _group(box, frame, top)
    if one.part is not None:
        look = f"part {frame.look(one.held[0].model)} shade-{PARTS.index(one.part)}"
        tip, name = f"{clean(one.held[0].model)}: {PART_WORDS[one.part]}, {size}", PART_WORDS[one.part]
        labels = label(box, top + 37, (f"{name} {size}", f"{name} {size.removesuffix(' GiB')}", name))
    else:
        look, name = str(one.kind), word(device, one.kind)
        tip = f"{name}, {size}"
        labels = [*label(box, top + 20, (name,)), *label(box, top + 37, (size,))]
        labels = labels if len(labels) > 1 else []
    striped = [rect(box, (top, BAR), "over striped")] if one.kind == "margin" else []
    return [rect(box, (top, BAR), f"segment {look}", tip), *striped, *labels]


def _group(box: Box, frame: Frame, top: float) -> list[str]:
    """Draw a group as one hatched segment, in it a lane a member: they lie over each other in memory."""
    lane = BAR / len(box.segment.held)
    drawn = [rect(box, (top, BAR), "segment group", group_words(box.segment))]
    labels = []
    for number, one in enumerate(box.segment.held):
        y = top + number * lane
        tip = f"{clean(one.model)}: {TURNS}, {gib(one.total_bytes)}"
        member = Box(box.segment, box.x, min(box.width, max(1.0, frame.px(one.total_bytes))))
        drawn.append(rect(member, (y, lane), f"member {frame.look(one.model)}", tip))
        labels += _lane_label(one, member, box, y + lane / 2 + 4) if lane >= LEAST_LANE else []
    return [*drawn, rect(box, (top, BAR), "over hatched"), *labels]


def _lane_label(one: Held, member: Box, box: Box, y: float) -> list[str]:
    """Print a member's name and size in its lane, or beside it where its segment is wider, or less of it."""
    name, size = clean(one.model), gib(one.total_bytes)
    beside = Box(box.segment, member.x + member.width, box.width - member.width)
    whole = (f"{name} {size}",)
    return label(member, y, whole) or label(beside, y, whole) or label(member, y, (name, size))


def _names(boxes: list[Box], top: float) -> list[str]:
    """Write a resident model's name and total over all its parts, where they fit."""
    spans: dict[Held, list[Box]] = {}
    for box in boxes:
        if box.segment.kind == "part":
            spans.setdefault(box.segment.held[0], []).append(box)
    drawn = []
    for one, parts in spans.items():
        width = parts[-1].x + parts[-1].width - parts[0].x
        name = clean(one.model)
        wordings = (f"{name} {gib(one.total_bytes)}", name, gib(one.total_bytes))
        drawn += label(Box(parts[0].segment, parts[0].x, width), top + 20, wordings, em=BOLD_EM)
    return drawn


# --- figures -------------------------------------------------------------------------------------


def _rows(device: DeviceMemory, frame: Frame, y: float) -> tuple[list[str], float]:
    """Write a row a model with its figures, below each group its members, and one for what is no model's."""
    pieces = segments(device)
    drawn = []
    for one in dict.fromkeys(one.held[0] for one in pieces if one.kind == "part"):
        drawn += _figures(_row(one, frame), frame, y, indent=0)
        y += ROW
    for group in (one for one in pieces if one.kind == "group"):
        head = ("hatched", TURNS, gib(group.memory_bytes), "the largest of them counts")
        drawn += _figures(head, frame, y, indent=0)
        for one in group.held:
            y += ROW
            drawn += _figures(_row(one, frame), frame, y, indent=INDENT)
        y += ROW
    others = [(one.kind, word(device, one.kind), one.memory_bytes) for one in pieces if not one.held]
    flowed, y = _flow([(kind, f"{name} {gib(size)}") for kind, name, size in others], PAD, y)
    return [*drawn, *flowed], y


def _row(one: Held, frame: Frame) -> Row:
    name = cut(clean(one.model), NAME_LIMIT)
    return frame.look(one.model), name, gib(one.total_bytes), " + ".join(terms(one))


def _figures(row: Row, frame: Frame, y: float, *, indent: int) -> list[str]:
    """Write one row: a swatch, a name, a total that ends where all totals end, and what it is made of."""
    look, name, total, made_of = row
    x = PAD + indent
    end = PAD + 2 * INDENT + frame.name_px + TOTAL_PX
    return [
        *swatch(look, x, y),
        text(x + INDENT, y, name, ""),
        text(end, y, total, "end"),
        text(end + 16, y, shorten(made_of, WIDTH - PAD - end - 16), "soft"),
    ]


def _legend(plan: Plan) -> list[tuple[str, str]]:
    """Explain the shades and the hatch, as far as the picture has them."""
    pieces = [one for device in plan.devices for one in segments(device)]
    parts = {part.part for piece in pieces for one in piece.held for part in one.parts}
    shades = [(f"shade shade-{PARTS.index(part)}", PART_WORDS[part]) for part in PARTS if part in parts]
    turns = [("hatched", f"{TURNS}: as wide as the largest of them")]
    return [*shades, *(turns if any(one.kind == "group" for one in pieces) else [])]


def _flow(items: Iterable[tuple[str, str]], x: float, y: float) -> tuple[list[str], float]:
    """Write swatches with their words beside each other; return where the next line goes."""
    drawn: list[str] = []
    at = x
    for look, words in items:
        if at > x and at + INDENT + px(words) > WIDTH - PAD:
            at, y = x, y + ROW
        drawn += [*swatch(look, at, y), text(at + INDENT, y, words, "soft")]
        at += INDENT + px(words) + 14
    return drawn, y + ROW if drawn else y
