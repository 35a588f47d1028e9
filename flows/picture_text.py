"""A plan's memory as text: a bar a device, cards to one scale, and its figures below. Pure.

    cuda:0  NVIDIA GeForce RTX 3090, 24.0 GiB: 22.2 GiB of 22.9 GiB used
      ░██████████████████████████████████▓▓▒█▒█▒··│
       a                                    b c
      a qwen2.5-32b-instruct  20.4 GiB = weights 18.5 + KV 1.1 + compute 0.4 + process 0.4

Letters tie a model to its place in the bar. Colour is added to the same text, never in place of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from string import ascii_lowercase

from flows.picture import (
    Held,
    Segment,
    about,
    cells,
    clean,
    cut,
    extent_bytes,
    hues,
    own_scale,
    scale_bytes,
    segments,
    used,
    word,
)
from flows.picture import terms as terms_of
from tasks.contracts import DeviceMemory, Plan
from tasks.wording import gib

NARROWEST, WIDEST = 60, 200
INDENT = "  "
LETTERS = ascii_lowercase + ascii_lowercase.upper()
TURNS = "one at a time"
NAME_LIMIT = 34
HALF = 0.5
Letters = dict[tuple[Held, ...], str]
GREY, HUES = "90", ("36", "33", "32", "35", "34", "31", "96", "93")


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters of a bar, and the mark of a text that was cut."""

    weights: str
    kv: str
    compute: str
    group: str
    taken: str
    rest: str
    free: str
    margin: str
    more: str

    def of(self, segment: Segment) -> str:
        """Return what a segment is drawn with."""
        parts = {"weights": self.weights, "projector": self.weights, "kv": self.kv}
        kinds = {"group": self.group, "rest": self.rest, "free": self.free, "margin": self.margin}
        if segment.part is not None:
            return parts.get(segment.part, self.compute)
        return kinds.get(segment.kind, self.taken)


BLOCKS = Signs("█", "▓", "▒", "▚", "░", "▪", "·", "│", "…")
ASCII = Signs("#", "=", "+", "/", ":", "o", ".", "|", "...")


@dataclass(frozen=True, slots=True)
class Page:
    """How to write: how wide, with which signs, in colour or not; the longest bar, and a hue a model."""

    width: int
    signs: Signs
    colour: bool
    longest_bytes: int
    hue: dict[str, int]
    own: bool = False

    def say(self, text: str) -> str:
        """Make a text from outside printable here."""
        return clean(text) if self.signs is BLOCKS else clean(text).encode("ascii", "replace").decode()

    def cut(self, text: str, width: int) -> str:
        """Shorten a text to some columns."""
        return cut(text, width, mark=self.signs.more)

    def paint(self, text: str, colour: str) -> str:
        """Give a text its colour, where there is any."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour and text.strip() else text

    def look(self, segment: Segment) -> str:
        """Return a segment's colour: that of its model, or of the largest one in turn."""
        if not segment.held:
            return GREY
        return HUES[self.hue[max(segment.held, key=_total).model] % len(HUES)]


@dataclass(frozen=True, slots=True)
class Run:
    """Equal signs beside each other in a bar, and whose they are."""

    sign: str
    colour: str
    held: tuple[Held, ...]
    count: int


def blocks(plan: Plan, width: int = 100, *, colour: bool = False, ascii_only: bool = False) -> str:
    """Draw a plan's memory in text of at most `width` columns, which is held between 60 and 200."""
    page = Page(
        width=min(max(width, NARROWEST), WIDEST),
        signs=ASCII if ascii_only else BLOCKS,
        colour=colour,
        longest_bytes=0,
        hue=hues(plan),
    )
    pages = {
        device.device: replace(page, longest_bytes=scale_bytes(plan, device), own=own_scale(plan, device))
        for device in plan.devices
    }
    drawn = ["\n".join(_device(device, pages[device.device])) for device in plan.devices]
    legend = "\n".join(_wrap(INDENT, _legend(plan, page), page, gap="  "))
    return "\n\n".join(filter(None, [*drawn, legend]))


def _device(device: DeviceMemory, page: Page) -> list[str]:
    """Write a device's lines: what it is, its bar, its models, and what is no model's."""
    pieces = segments(device)
    runs = _runs(pieces, _length(device, page), page)
    letters = dict(
        zip(dict.fromkeys(run.held for run in runs if run.held and run.count), LETTERS, strict=False)
    )
    others = [
        f"{page.signs.of(one)} {word(device, one.kind)} {gib(one.memory_bytes)}"
        for one in pieces
        if one.kind not in {"part", "group"}
    ]
    owners = {one.held: one for one in pieces if one.held}
    return [
        *_heading(device, page),
        *_bar(runs, letters, page),
        *(line for key, one in owners.items() for line in _figures(one, letters.get(key, " "), page)),
        *_wrap(INDENT, others, page, gap="  "),
    ]


def _heading(device: DeviceMemory, page: Page) -> list[str]:
    """Write what a device is and how full it gets, in one line or, where that is too long, in two."""
    place = page.cut(page.say(device.device), NARROWEST // 3)
    room = page.width - cells(place) - 2
    what, filled = page.say(about(device, scaled=page.own)), used(device)
    if cells(what) + 2 + len(filled) <= room:
        return [f"{place}  {what}: {filled}"]
    return [f"{place}  {page.cut(what, room)}", f"{INDENT}{filled}"]


# --- the bar -------------------------------------------------------------------------------------


def _length(device: DeviceMemory, page: Page) -> int:
    """Return how many cells a device's bar has: none only where it has no memory."""
    extent, room = extent_bytes(device), page.width - len(INDENT)
    return max(1, round(room * extent / page.longest_bytes)) if extent else 0


def share_cells(quotas: Sequence[float], least: Sequence[int]) -> list[int]:
    """Round cells so that they add up: the whole ones first, the rest to the largest remainders.

    None gets less than its `least`, unless there are fewer cells than that needs.
    """
    order, length = range(len(quotas)), round(sum(quotas))
    counts = [max(int(quota), lowest) for quota, lowest in zip(quotas, least, strict=True)]
    while sum(counts) < length:
        counts[max(order, key=lambda at: quotas[at] - counts[at])] += 1
    while sum(counts) > length:
        # A sign that would vanish yields last.
        counts[max(order, key=lambda at: (min(counts[at], 2), counts[at] - quotas[at]))] -= 1
    return counts


def _runs(pieces: Sequence[Segment], length: int, page: Page) -> list[Run]:
    """Share a bar's cells out: what fills half a cell is seen, and so is a model whose parts do together."""
    sizes: dict[tuple[str, str, tuple[Held, ...]], int] = {}
    for one in pieces:
        key = (page.signs.of(one), page.look(one), one.held)
        sizes[key] = sizes.get(key, 0) + one.memory_bytes
    total = sum(sizes.values())
    quotas = {key: size * length / total for key, size in sizes.items()}
    least = {key: int(quota >= HALF) for key, quota in quotas.items()}
    for owner in {key[2] for key in sizes if key[2]}:
        mine = [key for key in sizes if key[2] == owner]
        if sum(quotas[key] for key in mine) >= HALF and not any(least[key] for key in mine):
            least[max(mine, key=lambda key: quotas[key])] = 1
    counts = share_cells(list(quotas.values()), list(least.values()))
    return [Run(*key, count) for key, count in zip(sizes, counts, strict=True)]


def _bar(runs: Sequence[Run], letters: Letters, page: Page) -> list[str]:
    """Draw the bar and, below it, the letter of each model where it begins."""
    bar = "".join(page.paint(run.sign * run.count, run.colour) for run in runs)
    marks = [" "] * sum(run.count for run in runs)
    for run, start in zip(runs, accumulate((run.count for run in runs), initial=0), strict=False):
        letter = letters.get(run.held, " ")
        if run.count and letter not in marks:
            marks[start] = letter
    return [INDENT + bar, *([(INDENT + "".join(marks)).rstrip()] if letters else [])]


# --- figures -------------------------------------------------------------------------------------


def _figures(segment: Segment, letter: str, page: Page) -> list[str]:
    """Write what a model takes and of what, or what a group takes and who takes turns in it."""
    if segment.kind == "part":
        return _model(segment.held[0], f"{INDENT}{letter} ", page, page.look(segment))
    head = page.paint(TURNS, page.look(segment))
    lines = [f"{INDENT}{letter} {head}  {gib(segment.memory_bytes)} = the largest of"]
    for one in segment.held:
        lines += _model(one, INDENT * 3, page, HUES[page.hue[one.model] % len(HUES)])
    return lines


def _model(one: Held, head: str, page: Page, colour: str) -> list[str]:
    name = page.cut(page.say(one.model), NAME_LIMIT)
    first, *more = _wrap(f"{head}{name}  {gib(one.total_bytes)} = ", terms_of(one), page, gap=" + ")
    return [head + page.paint(name, colour) + first[len(head) + len(name) :], *more]


def _legend(plan: Plan, page: Page) -> list[str]:
    """Explain the signs of models, as far as they occur."""
    pieces = [one for device in plan.devices for one in segments(device)]
    present = {page.signs.of(one) for one in pieces}
    meanings = (
        (page.signs.weights, "weights, projector"),
        (page.signs.kv, "KV"),
        (page.signs.compute, "compute, process"),
        (page.signs.group, TURNS),
    )
    return [f"{sign} {meaning}" for sign, meaning in meanings if sign in present]


def _wrap(head: str, items: Iterable[str], page: Page, *, gap: str) -> list[str]:
    """Join items after a head; what is too long for a line goes on below, further in."""
    lines: list[str] = []
    line, room = head, page.width - cells(gap.rstrip())
    start = True
    for item in items:
        joined = item if start else gap + item
        if line.strip() and cells(line + joined) > room:
            lines.append((line if start else line + gap).rstrip())
            line, joined = INDENT * (4 if gap.strip() else 1), item
        line, start = line + joined, False
    return lines if start else [*lines, line]


def _total(one: Held) -> int:
    return one.total_bytes
