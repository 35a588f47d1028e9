"""Our block inside a text that a person wrote: where it begins and ends, how it is put in and taken out.

    what the person wrote, byte for byte
    <one line end that is ours>
    # >>> pmoves-provisioner: …
    what we write
    # <<< pmoves-provisioner: …

The line end before the first marker is always ours, so that a text without a final one comes back without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tasks.errors import HandWrittenError, RouteError

BEGIN = "# >>> pmoves-provisioner: what stands from here to the end marker is managed, changes to it are lost"
END = "# <<< pmoves-provisioner: end of what is managed"
BOM = "\N{BYTE ORDER MARK}"
INTACT = "the routes in use are unchanged"

_MARKER = re.compile(rf"(?:^|(?<=\A{BOM}))# (>>>|<<<) pmoves-provisioner\b[^\n]*(?:\n|\Z)", re.MULTILINE)

Outside = Callable[[str, int], bool]
"""Whether a place in a text is outside of any value that goes on for more than one line."""


@dataclass(frozen=True, slots=True)
class Parted:
    """A text taken apart: what a person wrote before and after our block, and the block with its markers."""

    before: str
    block: str
    after: str

    @property
    def hand(self) -> str:
        """What the person wrote."""
        if not self.after or not self.before or self.before.endswith("\n"):
            return self.before + self.after
        return self.before + line_end(self.before + self.after) + self.after

    def in_hand(self, place: int) -> int:
        """Return where a place of the whole text that is behind the block is in `hand`."""
        return len(self.hand) - len(self.after) + place - len(self.before) - len(self.block)

    @property
    def first_line_after(self) -> int:
        """The number of the line, from 1, with which `after` begins."""
        return (self.before + self.block).count("\n") + 1


def line_end(text: str) -> str:
    r"""Return how a text ends its lines: "\r\n" where its first line does."""
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def lines_of(text: str) -> list[str]:
    """Return the lines without their ends. Unlike `str.splitlines`, as TOML counts them."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def put_in(hand: str, ours: str) -> str:
    """Return a text that holds no block of ours with one at its end."""
    end = line_end(hand)
    lines = (BEGIN, *lines_of(ours), END, "")
    between = "\r\n" if hand.endswith("\r") else end
    return hand + (between if hand else "") + end.join(lines)


def take_apart(text: str, name: str, outside: Outside) -> Parted:
    """Find our block. Markers inside of a value, such as a string of many lines, are the person's.

    Raises:
        RouteError: one marker is missing, or there is more than one block.
    """
    found = [match for match in _MARKER.finditer(text) if outside(text, match.start())]
    if not found:
        return Parted(text, "", "")
    begin = found[0]
    if begin[1] == "<<<":
        raise _damaged(text, begin, name, "ends a block that nothing begins")
    # Not asked whether it is outside: a change to our block may have broken it, and is lost anyhow.
    end = next((match for match in _MARKER.finditer(text, begin.end()) if match[1] == "<<<"), None)
    if end is None:
        raise _damaged(text, begin, name, "begins a block that nothing ends")
    second = _MARKER.search(text, begin.end(), end.start())
    if second:
        raise _damaged(text, second, name, "stands inside of a block")
    before = text[: begin.start()]
    own = 2 if before.endswith("\r\n") else min(1, len(before.removeprefix(BOM)))
    cut = len(before) - own
    parted = Parted(before[:cut], text[cut : end.end()], text[end.end() :])
    for again in _MARKER.finditer(text, end.end()):
        if outside(parted.hand, parted.in_hand(again.start())):
            raise _damaged(text, again, name, "stands behind a block")
    return parted


def _damaged(text: str, marker: re.Match[str], name: str, what: str) -> RouteError:
    line = text.count("\n", 0, marker.start()) + 1
    return HandWrittenError(
        f"a marker of pmoves-provisioner in {name} (line {line}) {what}",
        INTACT,
        f"delete that line in {name}, and what is not yours around it",
    )
