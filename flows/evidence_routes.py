"""What the evidence says of the gateway: functions and tiers, what changed, what was seen after it. Pure."""

from __future__ import annotations

from flows.evidence_text import escape, fenced, paragraph
from flows.report_routes import left_out_lines
from tasks.contracts import Route, RouteTier
from tasks.wording import plural

HASH_SHOWN = 12
LONGEST_DIFF = 16_000
"""Signs of a diff; pages above 100 KB are slow to read, and the record has all of it."""
TIER_HEAD = ("Function", "For", "Tiers, in order", "Tiers for complex requests")
Row = tuple[str, ...]


def tier_rows(route: Route) -> list[Row]:
    """Return a row a function: who calls it, and who answers."""
    return [
        (
            one.function,
            f"{one.service}: {one.purpose}",
            _tiers(one.tiers),
            _tiers(one.complex_tiers) or "the same",
        )
        for one in route.functions
    ]


def _tiers(tiers: tuple[RouteTier, ...]) -> str:
    return ", then ".join(f"{one.name} ({one.by})" for one in tiers)


def gateway_parts(route: Route) -> list[str]:
    """Return the sentences and blocks below the table of functions, each a part of the page.

    What the gateway serves comes first, then what changed in its config and what was seen after the switch.
    """
    behind = f", behind {escape(route.proxy)}" if route.proxy else ""
    named = f", generation {escape(route.generation)}" if route.generation else ""
    where = f" in container {escape(route.container)}" if route.container else ""
    serves = f"{paragraph(route.base_url)} serves config sha256 {escape(route.config_hash[:HASH_SHOWN])}"
    parts = [f"{serves}{named}{where}{behind}.", paragraph(route.watched)]
    parts += ["\n".join(f"- {paragraph(line)}" for line in route.chosen)]
    if left := left_out_lines(route.functions, route.left_out):
        parts += ["### Left out of the gateway", _bullets(left)]
    if answers := [
        f"{'right' if one.right else 'WRONG'}: {one.question}: expected {one.expected}, got {one.got}"
        for one in route.answers
    ]:
        parts += ["### Asked before the switch", _bullets(answers)]
    if block := fenced(_cut(route.diff), kind="diff", longest=2 * LONGEST_DIFF):
        parts += ["### What changed in its config", block]
    if route.environment:
        values = "\n".join(f"{name}={value}" for name, value in route.environment)
        parts += ["### What services are told", fenced(values)]
    return [part for part in parts if part]


def _cut(diff: str) -> str:
    """Return the beginning of a diff, in whole lines."""
    if len(diff) <= LONGEST_DIFF:
        return diff
    kept = diff[:LONGEST_DIFF].rpartition("\n")[0]
    more = len(diff[len(kept) + 1 :].splitlines())
    return f"{kept}\n… {plural(more, 'more line')}: `pmoves history --json` has them"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {paragraph(line)}" for line in lines)
