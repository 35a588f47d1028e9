"""The colours of a memory picture, for light and dark pages, as the rules of an SVG's <style>. Pure.

Written out in both schemes, without CSS variables, which some SVG readers do not know.
"""

from __future__ import annotations

from dataclasses import dataclass

TEXT_PX, SMALL_PX, TITLE_PX = 12, 11, 15


@dataclass(frozen=True, slots=True)
class Scheme:
    """Colours for one kind of page. Text has a contrast of at least 4.5 on everything it is printed on."""

    page: str
    line: str
    ink: str
    soft: str
    fills: tuple[tuple[str, str], ...]
    hues: tuple[str, ...]
    hatch_opacity: float


LIGHT = Scheme(
    page="#ffffff",
    line="#d0d7de",
    ink="#1f2328",
    soft="#59636e",
    fills=(
        ("reserved", "#cdd3da"),
        ("others", "#b1b9c3"),
        ("group", "#e4e8ed"),
        ("rest", "#d9dee4"),
        ("free", "#f6f8fa"),
        ("margin", "#f6f8fa"),
        ("stripe", "#c3cad2"),
        ("hatch", "#1f2328"),
        ("shade", "#6e7781"),
    ),
    hues=("#7eb3f2", "#f3b069", "#7ccd97", "#c0a3ee", "#64cccd", "#f19cba", "#e2cb55", "#cdac8c"),
    hatch_opacity=0.15,
)
DARK = Scheme(
    page="#0d1117",
    line="#3d444d",
    ink="#f0f6fc",
    soft="#a0a9b4",
    fills=(
        ("reserved", "#454c55"),
        ("others", "#5d6570"),
        ("group", "#343b44"),
        ("rest", "#373d45"),
        ("free", "#161b22"),
        ("margin", "#161b22"),
        ("stripe", "#3d444d"),
        ("hatch", "#010409"),
        ("shade", "#8b949e"),
    ),
    hues=("#2c68ad", "#9c5b13", "#297845", "#6d4ab0", "#1c7576", "#a23b66", "#7f6b11", "#7b573a"),
    hatch_opacity=0.4,
)
SHADES = (1.0, 0.84, 0.7, 0.54, 0.38)
"""How opaque a model's hue is, for each `Part` in its order."""


def rules() -> list[str]:
    """Return the lines of the <style>."""
    return [
        f".pm text {{ font: {TEXT_PX}px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }}",
        f".pm text.small {{ font-size: {SMALL_PX}px; }}",
        f".pm text.title {{ font-size: {TITLE_PX}px; font-weight: 600; }}",
        ".pm text.strong { font-weight: 600; }",
        ".pm text.end { text-anchor: end; }",
        ".pm text, .pm .over { pointer-events: none; }",
        ".pm .hatched { fill: url(#pm-hatch); }",
        ".pm .striped { fill: url(#pm-stripes); }",
        ".pm .edge { fill: none; }",
        *(f".pm .shade-{number} {{ fill-opacity: {shade}; }}" for number, shade in enumerate(SHADES)),
        *_colours(LIGHT),
        "@media (prefers-color-scheme: dark) {",
        *_colours(DARK),
        "}",
    ]


def _colours(scheme: Scheme) -> list[str]:
    return [
        f".pm .page {{ fill: {scheme.page}; stroke: {scheme.line}; }}",
        f".pm .edge {{ stroke: {scheme.soft}; }}",
        f".pm text {{ fill: {scheme.ink}; }}",
        f".pm text.soft {{ fill: {scheme.soft}; }}",
        f".pm .hatch {{ fill-opacity: {scheme.hatch_opacity}; }}",
        *(f".pm .{name} {{ fill: {colour}; }}" for name, colour in scheme.fills),
        *(f".pm .hue-{number} {{ fill: {colour}; }}" for number, colour in enumerate(scheme.hues)),
    ]


def patterns() -> list[str]:
    """Return the two patterns: a hatch over what takes turns, stripes over the margin."""
    return [
        "<defs>",
        _pattern("pm-hatch", "hatch", (7, 2), turned=True),
        _pattern("pm-stripes", "stripe", (5, 1), turned=False),
        "</defs>",
    ]


def _pattern(name: str, look: str, step_and_line_px: tuple[int, int], *, turned: bool) -> str:
    step, line = step_and_line_px
    turn = ' patternTransform="rotate(45)"' if turned else ""
    return (
        f'<pattern id="{name}" width="{step}" height="{step}" patternUnits="userSpaceOnUse"{turn}>'
        f'<rect class="{look}" width="{line}" height="{step}"/></pattern>'
    )
