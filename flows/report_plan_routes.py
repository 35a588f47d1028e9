"""The routes of a plan as text: a function a row, then what is left out and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from flows.report import Rows, columns
from tasks.contracts import PlannedRoute
from tasks.wording import listed, plural

HEAD = ("FUNCTION", "ANSWERED BY, IN THIS ORDER", "FIRST WHERE MARKED AS COMPLEX")
NOTE = "why: pmoves plan --explain"


def route_rows(routes: Sequence[PlannedRoute]) -> Rows:
    """Return a row a function: its tiers in order, and those that go before them for complex requests."""
    return [
        (
            one.function,
            ", ".join(tier.by for tier in one.tiers),
            ", ".join(tier.by for tier in one.complex_tiers if tier.tier == "premium"),
        )
        for one in sorted(routes, key=lambda one: one.function)
    ]


def routes_table(routes: Sequence[PlannedRoute], most: int | None = None) -> list[str]:
    """Write a table of the functions, or nothing where there are none.

    Args:
        routes: those of a plan.
        most: how many characters a line may have, on a sheet that holds no wider table: a function is then
            a line, and its models are those below it.
    """
    rows = route_rows(routes)
    if not rows:
        return []
    used = [at for at in range(len(HEAD)) if at < len(HEAD) - 1 or any(row[at] for row in rows)]
    table = columns([HEAD[at] for at in used], [[row[at] for at in used] for row in rows])
    if most is None or max(map(len, table.splitlines())) <= most:
        return [table]
    return [line for row in rows for line in _below(row)]


def _below(row: Sequence[str]) -> list[str]:
    function, answers, difficult = row
    models = [f"  {name}" for name in answers.split(", ") if name]
    marked = [f"  where marked as complex: {name}" for name in difficult.split(", ") if name]
    return [function, *(models or ["  nobody"]), *marked]


def left_out_lines(routes: Sequence[PlannedRoute], *, explain: bool) -> list[str]:
    """Say what no route has: a line each with the functions it is about, or how many there are."""
    found: dict[str, list[str]] = {}
    for one in sorted(routes, key=lambda one: one.function):
        for sentence in one.left_out:
            found.setdefault(sentence, []).append(one.function)
    if explain:
        return [f"{listed(functions)}: {sentence}." for sentence, functions in found.items()]
    are = "are" if len(found) > 1 else "is"
    return [f"{plural(len(found), 'step')} of these routes {are} left out; {NOTE}"] if found else []
