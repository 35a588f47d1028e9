"""A run's timeline as an SVG picture: a row a model, bars in time, the longest chain marked. Pure.

The picture stands alone, without script, font or link, and follows a light or dark page, as that of the
memory does. A page shows it as an image, where tooltips do not work: every bar's time stands in its
description, and in the table that the evidence has below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from flows.picture import clean, cut
from flows.picture_shapes import BOLD_EM, INDENT, px, shorten, swatch, text
from flows.picture_style import SMALL_PX, rules
from flows.timeline import CHAIN, NAME_LIMIT, Bar, Row, Timeline, spread, ticks, took
from tasks.contracts import Stage

WIDTH, PAD = 960, 24
INNER = WIDTH - 2 * PAD
BAR, ROW, LINE = 16, 24, 18
NAME_PX, TITLE_LIMIT = 230, 90
TOTAL_PX = 84
THINNEST = 2.0
LOOKS: dict[Stage, str] = {"pull": "hue-0", "serve": "hue-1", "verify": "hue-2"}
OTHER = "others"
MEANINGS: dict[Stage, str] = {"pull": "pull", "serve": "serve: start and load", "verify": "verify"}
WHOLE, LAST = "the whole run", "the chain that ended last"


@dataclass(frozen=True, slots=True)
class Axis:
    """Where time lies in the picture."""

    left: float
    width: float
    extent_s: float

    def px(self, at_s: float) -> float:
        """Return how far from the axis' beginning a time is."""
        return at_s / self.extent_s * self.width if self.extent_s else 0.0


def svg(shown: Timeline) -> str:
    """Draw a timeline as a picture that stands alone."""
    names = max([px(_name(row), em=BOLD_EM) for row in shown.rows], default=0.0)
    left = PAD + min(names, NAME_PX) + 14
    axis = Axis(left, WIDTH - PAD - TOTAL_PX - left, shown.extent_s)
    said = _wrapped(shown.said)
    body = [text(PAD, PAD + 12, cut(shown.title, TITLE_LIMIT), "title")]
    y = PAD + 36.0
    for line in said:
        body.append(text(PAD, y, line, "soft"))
        y += LINE
    top = y + 22
    bottom = top + ROW * len(shown.rows)
    body += _grid(axis, top, bottom) if shown.rows else []
    for number, row in enumerate(shown.rows):
        body += _row(row, axis, top + number * ROW)
    legend = _legend(shown, bottom + 24)
    height = bottom + 24 + (PAD if legend else 0)
    return "\n".join([*_head(shown, height), *body, *legend, "</svg>"]) + "\n"


def described(shown: Timeline) -> str:
    """Tell the whole timeline as text, for those who do not see the picture."""
    rows = (f"{clean(row.name)}: {', '.join(tip(bar) for bar in row.bars)}." for row in shown.rows)
    return " ".join([shown.said, *rows])


def tip(bar: Bar) -> str:
    """Write one bar: what, of what, how long, and when it began."""
    what = bar.stage if bar.stage in CHAIN else f"{bar.stage} {clean(bar.subject)}"
    return f"{what} {took(bar.seconds)}, from {took(bar.start_s)} on"


def _head(shown: Timeline, height: float) -> list[str]:
    """Begin the picture: its words for screen readers, its colours, its page."""
    size = f'width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="pm" role="img" {size}>',
        f"<title>{escape(shown.title)}</title>",
        f"<desc>{escape(described(shown))}</desc>",
        "<style>",
        *rules(),
        "</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8"/>',
    ]


def _grid(axis: Axis, top: float, bottom: float) -> list[str]:
    """Draw a line at each round time, and what time it is above it."""
    drawn = []
    for at_s, words in ticks(axis.extent_s):
        x = axis.left + axis.px(at_s)
        drawn += [
            f'<rect class="stripe" x="{x:.1f}" y="{top - 4:g}" width="1" height="{bottom - top + 4:g}"/>',
            f'<text class="small soft" text-anchor="middle" x="{x:.1f}" y="{top - 9:g}">{words}</text>',
        ]
    return drawn


def _wrapped(said: str) -> list[str]:
    """Break a sentence into lines that have room, between words; a longer word is cut."""
    lines = [""]
    for word in said.split():
        longer = f"{lines[-1]} {word}".strip()
        if px(longer) <= INNER:
            lines[-1] = longer
        else:
            lines.append(shorten(word, INNER))
    return list(filter(None, lines))


# --- rows ----------------------------------------------------------------------------------------


def _row(row: Row, axis: Axis, top: float) -> list[str]:
    """Draw one row: its name, its bars with a line where it waited between them, and how long it took."""
    base = top + ROW / 2 + 4
    look = "strong" if row.last else "" if row.chain else "soft"
    band = [_rect("rest", (PAD - 8, PAD + INNER + 8), (top + 1, ROW - 2))] if row.last else []
    places = [
        (axis.left + left, axis.left + right)
        for left, right in spread(
            [(axis.px(bar.start_s), axis.px(bar.end_s)) for bar in row.bars], axis.width, THINNEST
        )
    ]
    wait = _rect(OTHER, (places[0][0], places[-1][1]), (top + ROW / 2 - 0.5, 1))
    drawn = [*band, *([] if row.lane else [text(PAD, base, _name(row), look)]), wait]
    for bar, place in zip(row.bars, places, strict=True):
        drawn += _bar(bar, place, top + (ROW - BAR) / 2)
    return [*drawn, text(WIDTH - PAD, base, took(row.seconds), f"{look} end".strip())]


def _bar(bar: Bar, place: tuple[float, float], y: float) -> list[str]:
    """Draw one bar with its tooltip and, where it fits, its words."""
    left, right = place
    box = _rect(f"bar {LOOKS.get(bar.stage, OTHER)}", place, (y, BAR), tip(bar))
    edge = _rect("edge over", place, (y, BAR))
    for words in (f"{bar.stage} {took(bar.seconds)}", took(bar.seconds)):
        if px(words, size=SMALL_PX) + 8 <= right - left:
            return [box, edge, text(left + 4, y + 12, words, "small")]
    return [box, edge]


def _rect(look: str, across: tuple[float, float], down: tuple[float, float], tooltip: str = "") -> str:
    """Draw a box; `across` is from where to where, `down` where it begins and how high it is."""
    left, right = across
    lies = f'x="{left:.2f}" y="{down[0]:g}" width="{right - left:.2f}" height="{down[1]:g}"'
    return f'<rect class="{look}" {lies}' + (f"><title>{escape(tooltip)}</title></rect>" if tooltip else "/>")


def _name(row: Row) -> str:
    return shorten(cut(clean(row.name), NAME_LIMIT), NAME_PX * 0.6 / BOLD_EM)


def _legend(shown: Timeline, y: float) -> list[str]:
    """Explain the colours and the band, as far as the picture has them."""
    present = {bar.stage for row in shown.rows for bar in row.bars}
    items = [(LOOKS[stage], words) for stage, words in MEANINGS.items() if stage in present]
    items += [(OTHER, WHOLE)] if present - set(CHAIN) else []
    items += [("rest", LAST)] if any(r.last for r in shown.rows) else []
    drawn: list[str] = []
    x = float(PAD)
    for look, words in items:
        drawn += [*swatch(look, x, y), text(x + INDENT, y, words, "soft")]
        x += INDENT + px(words) + 14
    return drawn
