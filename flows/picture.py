"""What a plan's memory picture shows: each device's memory as segments from left to right. Pure.

    reserved | other programs | each resident model's parts | each group, as one | free | margin

`picture_svg.py` draws it for a page, `picture_text.py` for a terminal.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal, get_args

from tasks.contracts import DeviceMemory, MemoryPart, Part, Plan
from tasks.wording import gib

Kind = Literal["reserved", "others", "part", "group", "rest", "free", "margin"]
MAIN = "cpu"
PARTS: tuple[Part, ...] = get_args(Part)
PART_WORDS: dict[Part, str] = {
    "weights": "weights",
    "projector": "projector",
    "kv": "KV",
    "compute": "compute",
    "overhead": "process",
}
KIND_WORDS: dict[Kind, str] = {
    "reserved": "driver",
    "others": "other programs",
    "group": "one at a time",
    "rest": "planned, not itemised",
    "free": "free",
    "margin": "margin",
}


@dataclass(frozen=True, slots=True)
class Held:
    """What one model holds of one device: a part once, in the order of `Part`, none of them empty."""

    model: str
    group: str
    parts: tuple[MemoryPart, ...]

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        return sum(part.memory_bytes for part in self.parts)


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a device's bar. `held` is the model that a part is of, or a group's members."""

    kind: Kind
    memory_bytes: int
    part: Part | None = None
    group: str = ""
    held: tuple[Held, ...] = ()


def held(device: DeviceMemory) -> tuple[Held, ...]:
    """Return what each model holds, residents first, in the order in which the plan names them."""
    sizes: dict[tuple[str, str], dict[Part, int]] = {}
    for one in device.parts:
        parts = sizes.setdefault((one.group, one.model), {})
        parts[one.part] = parts.get(one.part, 0) + one.memory_bytes
    groups = list(dict.fromkeys(["", *(group for group, _ in sizes)]))
    return tuple(
        Held(
            model, group, tuple(MemoryPart(model, key, parts[key], group) for key in PARTS if parts.get(key))
        )
        for (group, model), parts in sorted(sizes.items(), key=lambda item: groups.index(item[0][0]))
        if any(parts.values())
    )


def segments(device: DeviceMemory) -> tuple[Segment, ...]:
    """Return the pieces of a device's bar that are not empty, from left to right.

    `used_bytes` decides what is free; what it counts and no part names is a piece of its own.
    """
    models = held(device)
    planned = [
        Segment("part", part.memory_bytes, part=part.part, held=(one,))
        for one in models
        if not one.group
        for part in one.parts
    ]
    for group in dict.fromkeys(one.group for one in models if one.group):
        members = tuple(one for one in models if one.group == group)
        planned.append(Segment("group", max(one.total_bytes for one in members), group=group, held=members))
    drawn = sum(one.memory_bytes for one in planned)
    every = (
        Segment("reserved", device.reserved_bytes),
        Segment("others", device.others_bytes),
        *planned,
        Segment("rest", device.used_bytes - drawn),
        Segment("free", device.budget_bytes - max(device.used_bytes, drawn)),
        Segment("margin", device.margin_bytes),
    )
    return tuple(one for one in every if one.memory_bytes > 0)


def extent_bytes(device: DeviceMemory) -> int:
    """Return how long a device's bar is: its total, or more where more is planned than it has."""
    return max(device.total_bytes, sum(one.memory_bytes for one in segments(device)))


def scale_bytes(plan: Plan, device: DeviceMemory) -> int:
    """Return how many bytes are as long as the picture is wide, for one device.

    Cards have one scale. Main memory beside them is often many times as large, and would make them thin,
    so it has a scale of its own where it is longer than they are.
    """
    longest = _longest_card(plan)
    return max(longest, extent_bytes(device)) if device.device == MAIN else longest


def own_scale(plan: Plan, device: DeviceMemory) -> bool:
    """Tell whether a device is drawn to another scale than the others."""
    return len(plan.devices) > 1 and device.device == MAIN and scale_bytes(plan, device) > _longest_card(plan)


def _longest_card(plan: Plan) -> int:
    return max((extent_bytes(one) for one in plan.devices if one.device != MAIN), default=0)


def hues(plan: Plan) -> dict[str, int]:
    """Number the models in order of appearance, so that a model looks the same on every device."""
    names = dict.fromkeys(one.model for device in plan.devices for one in held(device))
    return {name: number for number, name in enumerate(names)}


# --- words ---------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """Make a text from outside harmless: what does not print becomes a blank."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def cells(text: str) -> int:
    """Count the columns that a text takes in a terminal."""
    return sum(_cells(sign) for sign in text)


def _cells(sign: str) -> int:
    if unicodedata.category(sign) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(sign) in {"W", "F"} else 1


def cut(text: str, width: int, *, mark: str = "…") -> str:
    """Shorten a text to some columns; `mark` shows that something is missing."""
    if cells(text) <= width:
        return text
    while text and cells(text) + cells(mark) > width:
        text = text[:-1]
    return text.rstrip() + mark if width >= cells(mark) else ""


def title(plan: Plan) -> str:
    """Name the picture."""
    if plan.host == plan.profile:
        return clean(f"Memory of the example host of {plan.profile}, filled")
    return clean(f"Memory of {plan.host} as {plan.profile} fills it")


def about(device: DeviceMemory, *, scaled: bool = False) -> str:
    """Write what a device is: its name, its size, and whether its bar has a scale of its own."""
    kind = ", unified with main memory" if device.unified else ""
    kind += ", drawn to a scale of its own" if scaled else ""
    return clean(f"{device.name}, {gib(device.total_bytes)}{kind}")


def used(device: DeviceMemory) -> str:
    """Write how much of the budget is used."""
    return f"{gib(device.used_bytes)} of {gib(device.budget_bytes)} used"


def word(device: DeviceMemory, kind: Kind) -> str:
    """Name a piece that is no model's."""
    return "system" if kind == "reserved" and _is_main(device) else KIND_WORDS[kind]


def _is_main(device: DeviceMemory) -> bool:
    return device.unified or device.device == MAIN


def terms(one: Held) -> tuple[str, ...]:
    """Write a model's parts, "weights 18.5", with a unit only where it is not that of the total."""
    unit = gib(one.total_bytes).split(" ")[1]
    return tuple(
        f"{PART_WORDS[part.part]} {gib(part.memory_bytes).removesuffix(f' {unit}')}" for part in one.parts
    )


def sentence(device: DeviceMemory) -> str:
    """Write all figures of a device as text, for those who do not see the picture."""
    head = f"{device.device}, {about(device)}: {used(device)}"
    said = dict.fromkeys(_said(device, one) for one in segments(device))
    return clean("".join(f"{words}. " for words in (head, *said))).rstrip()


def _said(device: DeviceMemory, one: Segment) -> str:
    if one.kind == "part":
        return f"{one.held[0].model} {gib(one.held[0].total_bytes)} = {' + '.join(terms(one.held[0]))}"
    return group_words(one) if one.kind == "group" else f"{word(device, one.kind)} {gib(one.memory_bytes)}"


def group_words(one: Segment) -> str:
    """Write what a group takes and which models take turns in it."""
    members = ", ".join(f"{member.model} {gib(member.total_bytes)}" for member in one.held)
    return clean(f"one at a time, {gib(one.memory_bytes)} for the largest: {members}")
