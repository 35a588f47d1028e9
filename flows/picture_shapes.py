"""The shapes of a memory picture in SVG: boxes, swatches, and text with an estimate of its width. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from flows.picture import Segment, cells, cut
from flows.picture_style import SMALL_PX, TEXT_PX

INDENT, SWATCH = 18, 10
EM, BOLD_EM = 0.6, 0.66
"""A character's estimated width, in parts of the font's size."""
INSET_PX = 5


@dataclass(frozen=True, slots=True)
class Box:
    """A segment where it lies: to scale, but never thinner than a pixel, nor outside its bar."""

    segment: Segment
    x: float
    width: float


def rect(box: Box, place: tuple[float, float], look: str, tip: str = "") -> str:
    """Draw a box at a height; `place` is where it begins and how high it is."""
    lies = f'x="{box.x:.3f}" y="{place[0]:g}" width="{box.width:.3f}" height="{place[1]:g}"'
    return f'<rect class="{look}" {lies}' + (f"><title>{escape(tip)}</title></rect>" if tip else "/>")


def swatch(look: str, x: float, y: float) -> list[str]:
    """Draw the little square before a word."""
    square = f'x="{x:g}" y="{y - SWATCH + 1:g}" width="{SWATCH}" height="{SWATCH}"'
    pattern = {"hatched": "hatched", "margin": "striped"}.get(look)
    drawn = [f'<rect class="{"group" if look == "hatched" else look}" {square}/>']
    drawn += [f'<rect class="{pattern}" {square}/>'] if pattern else []
    return [*drawn, f'<rect class="edge" {square} stroke-opacity="0.4"/>']


def text(x: float, y: float, words: str, look: str) -> str:
    """Write words at a place."""
    return f'<text class="{look}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def px(words: str, *, size: int = TEXT_PX, em: float = EM) -> float:
    """Estimate how wide a text is."""
    return cells(words) * size * em


def shorten(words: str, room_px: float) -> str:
    """Cut a text to the room there is."""
    return cut(words, int(room_px / (TEXT_PX * EM)))


def label(box: Box, y: float, wordings: tuple[str, ...], *, em: float = EM) -> list[str]:
    """Print the first wording that fits into a box, or nothing."""
    room = box.width - 2 * INSET_PX
    fitting = [words for words in wordings if px(words, size=SMALL_PX, em=em) <= room]
    look = "small strong" if em == BOLD_EM else "small"
    return [text(box.x + INSET_PX, y, words, look) for words in fitting[:1]]
