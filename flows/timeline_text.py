"""A run's timeline as text for a terminal: a line a row, a sign a stage, the last chain marked. Pure.

0 s                  30 s                 60 s
detect                 :                                                400 ms
nomic-embed-text-v1.5   ##==+                                            7.0 s
* qwen2.5-32b-instruct    ###############################========++         60 s
route                                                            :       1.0 s
# pull  = serve  + verify  : whole run  * ended last
"""

from __future__ import annotations

from flows.picture import cells, clean, cut
from flows.timeline import Bar, Row, Timeline, spread, ticks, took
from tasks.contracts import Stage

NARROWEST, WIDEST = 60, 200
NAME_PART = 3
"""Names take at most a third of the width."""
TOTAL = 12
BLOCKS: dict[Stage, str] = {"pull": "█", "serve": "▓", "verify": "▒"}
ASCII: dict[Stage, str] = {"pull": "#", "serve": "=", "verify": "+"}
WHOLE, LAST = "whole run", "ended last"


def chart(shown: Timeline, width: int = 100, *, ascii_only: bool = False) -> str:
    """Draw a timeline in text of at most `width` columns, which is held between 60 and 200.

    Without rows there is nothing to draw but the sentence.
    """
    width = min(max(width, NARROWEST), WIDEST)
    if not shown.rows:
        return _said(shown.said, ascii_only=ascii_only)
    signs, other, more = (ASCII, ":", "...") if ascii_only else (BLOCKS, "░", "…")
    longest = max(cells(_said(clean(row.name), ascii_only=ascii_only)) for row in shown.rows)
    names = min(longest, width // NAME_PART)
    room = width - names - 2 - 2 - TOTAL
    lines = [" " * (names + 4) + _axis(shown.extent_s, room)]
    for row in shown.rows:
        name = "" if row.lane else cut(_said(clean(row.name), ascii_only=ascii_only), names, mark=more)
        bars = _bars(row, shown.extent_s, room, {bar: signs.get(bar.stage, other) for bar in row.bars})
        mark = "*" if row.last else " "
        padded = name + " " * (names - cells(name))
        lines.append(f"{mark} {padded}  {bars:<{room}}{took(row.seconds):>{TOTAL}}")
    return "\n".join(line.rstrip() for line in [*lines, _legend(shown, signs, other)])


def _bars(row: Row, extent_s: float, room: int, signs: dict[Bar, str]) -> str:
    """Write a row's bars: each has a cell at least, as long as there are cells."""
    extent_s = extent_s or 1.0
    rounded = [(round(bar.start_s / extent_s * room), round(bar.end_s / extent_s * room)) for bar in row.bars]
    line = ""
    for bar, (left, right) in zip(row.bars, spread(rounded, room, int(len(row.bars) <= room)), strict=True):
        line = line.ljust(int(left)) + signs[bar] * (int(right) - int(left))
    return line


def _axis(extent_s: float, room: int) -> str:
    """Write the round times over their cells; one that has no room is left out."""
    line = ""
    for at_s, words in ticks(extent_s, most=max(2, room // TOTAL)):
        cell = round(at_s / extent_s * room) if extent_s else 0
        if cell + len(words) <= room + TOTAL:
            line = line.ljust(cell) + words
    return line


def _legend(shown: Timeline, signs: dict[Stage, str], other: str) -> str:
    present = {bar.stage for row in shown.rows for bar in row.bars}
    items = [f"{sign} {stage}" for stage, sign in signs.items() if stage in present]
    items += [f"{other} {WHOLE}"] if present - set(signs) else []
    items += [f"* {LAST}"] if any(row.last for row in shown.rows) else []
    return "  " + "  ".join(items)


def _said(text: str, *, ascii_only: bool) -> str:
    return text.encode("ascii", "replace").decode() if ascii_only else text
