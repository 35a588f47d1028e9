"""What the gateway serves, tier by tier: a route, what answers now and what was counted -> text. Pure.

FUNCTION  FOR         TIER       BY            NOW         LAST DAY    LAST PROBE
chat      open-webui  1 local    qwen2.5-32b   up          97% (194)   right in 0.2 s
2 venice   venice/llama  has a key   3% (6)
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from flows.picture import clean
from flows.report import columns
from flows.timeline import took
from tasks.contracts import Answer, PlannedRoute, Role, Route, RouteTier, RunRecord, VerifiedServer
from tasks.route.config.names import FUNCTION
from tasks.route.proxy.contract import SERVER_ERROR, Count
from tasks.wording import listed

OUTSIDE: tuple[Role, ...] = ("reranker", "whisper")
"""Roles that the gateway does not know; services call their servers directly."""
DAY_HOURS = 24
HASH_SHOWN = 12
FEWEST_PERCENT = 0.5
BLANK = " "
"""A cell that says nothing, where an empty one would print as "-"."""
Live = tuple[bool, str]
"""Whether a tier could answer now, and why, in a few words."""


@dataclass(frozen=True, slots=True)
class TierNow:
    """A tier of a function, in its place. `share` is its part of what the function's tiers answered."""

    place: int
    tier: str
    name: str
    by: str
    live: bool
    why: str
    requests: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class FunctionNow:
    """A function: its tiers in the order in which they are tried, and those for what is marked as complex.

    `requests` counts all of the last day, `failed` those that ended with 500 or more.
    """

    function: str
    service: str
    role: str
    purpose: str
    tiers: tuple[TierNow, ...]
    complex_tiers: tuple[TierNow, ...]
    probe: Answer | None
    requests: int
    failed: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """What was asked by another name than a function's: how often in the last day."""

    name: str
    requests: int
    failed: int


@dataclass(frozen=True, slots=True)
class Address:
    """A server that services call without the gateway."""

    role: str
    model: str
    url: str
    live: bool
    why: str


@dataclass(frozen=True, slots=True)
class RoutesNow:
    """All of it. `active` is the generation that the proxy sends to; `trouble` says what does not fit.

    `by_name` are the models of this host that clients may ask without a function, `yours` the functions that
    the operator wrote.
    """

    run: str
    base_url: str
    proxy: str
    generation: str
    active: str
    config_hash: str
    serving: bool
    functions: tuple[FunctionNow, ...]
    others: tuple[Named, ...]
    outside: tuple[Address, ...]
    left_out: tuple[str, ...]
    trouble: tuple[str, ...]
    by_name: tuple[str, ...] = ()
    yours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at now: the proxy, what it counted, and what answers.

    `active` is "" where the proxy was never pointed; `proxy_runs` whether it takes requests.
    """

    proxy_runs: bool
    active: str
    counts: tuple[Count, ...]
    live: Callable[[RouteTier], Live]
    up: Callable[[VerifiedServer], Live]


def gather(record: RunRecord, route: Route, seen: Seen, now: datetime) -> RoutesNow:
    """Put together what the last good run left and what is there now."""
    since = (now - timedelta(hours=DAY_HOURS - 1)).strftime("%Y-%m-%dT%H")
    counts = tuple(one for one in seen.counts if one.hour >= since)
    names = {one.function for one in route.functions}
    others = sorted({one.function for one in counts} - names)
    return RoutesNow(
        run=record.run,
        base_url=route.base_url,
        proxy=route.proxy,
        generation=route.generation,
        active=seen.active,
        config_hash=route.config_hash,
        serving=seen.proxy_runs and seen.active == route.generation,
        functions=tuple(_function(one, route.answers, counts, seen.live) for one in route.functions),
        others=tuple(Named(name, *_total(counts, name)) for name in others),
        outside=tuple(
            Address(one.server.planned.role, one.server.planned.model, one.server.base_url, *seen.up(one))
            for one in record.verified
            if one.server.planned.role in OUTSIDE
        ),
        left_out=route.left_out,
        trouble=tuple(_troubles(route, seen)),
        by_name=tuple(one for one in route.models if not one.startswith(FUNCTION)),
        yours=_yours(route),
    )


def _yours(route: Route) -> tuple[str, ...]:
    """Return the functions of a config that no service has."""
    ours = {one.function for one in route.functions if one.tiers}
    try:
        found = tomllib.loads(route.config).get("functions", {})
    except tomllib.TOMLDecodeError:  # of an earlier version, or torn
        return ()
    return tuple(sorted(set(found) - ours))


def _troubles(route: Route, seen: Seen) -> Iterable[str]:
    if not seen.proxy_runs:
        proxy = route.proxy or "of an earlier version"
        yield f"the proxy ({proxy}) does not run, so {route.base_url} is closed"
    elif seen.active != route.generation:
        where = seen.active or "no gateway"
        yield f"the proxy sends to {where}, and the last good run left {route.generation or 'another one'}"


def _function(
    one: PlannedRoute, answers: Sequence[Answer], counts: Sequence[Count], live: Callable[[RouteTier], Live]
) -> FunctionNow:
    requests, failed = _total(counts, one.function)
    answered: dict[str, int] = {}
    for count in counts:
        if count.function == one.function and count.variant:
            answered[count.variant] = answered.get(count.variant, 0) + count.requests
    whole = sum(answered.values())

    def tier(place: int, what: RouteTier) -> TierNow:
        mine = answered.get(what.name, 0)
        return TierNow(
            place, what.tier, what.name, what.by, *live(what), mine, mine / whole if whole else 0.0
        )

    return FunctionNow(
        function=one.function,
        service=one.service,
        role=one.role,
        purpose=one.purpose,
        tiers=tuple(tier(place, what) for place, what in enumerate(one.tiers, 1)),
        complex_tiers=tuple(tier(place, what) for place, what in enumerate(one.complex_tiers, 1)),
        probe=next((answer for answer in answers if answer.question.endswith(f"::{one.function}")), None),
        requests=requests,
        failed=failed,
        left_out=one.left_out,
    )


def _total(counts: Sequence[Count], name: str) -> tuple[int, int]:
    mine = [one for one in counts if one.function == name]
    failed = sum(one.requests for one in mine if one.status >= SERVER_ERROR)
    return sum(one.requests for one in mine), failed


class Left(Protocol):
    """What says which steps a function does not have."""

    @property
    def function(self) -> str:
        """Its name."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence each."""


def left_out_lines(functions: Iterable[Left], more: Sequence[str]) -> list[str]:
    """Return a line for each thing that is left out, with the functions that it is left out of."""
    found: dict[str, list[str]] = {}
    for one in functions:
        for sentence in one.left_out:
            found.setdefault(sentence, []).append(one.function)
    return [
        *(f"{listed(names)}: {sentence}" for sentence, names in found.items()),
        *(one for one in dict.fromkeys(more) if one not in found),
    ]


# --- text ----------------------------------------------------------------------------------------

NONE = "No function is served: no service of the bundle has one that a model here or a cloud could answer."
HEAD = ("FUNCTION", "FOR", "TIER", "BY", "NOW", "LAST DAY", "LAST PROBE")


def format_routes(found: RoutesNow) -> str:
    """Write all of it for a terminal."""
    behind = f"behind {found.proxy}" if found.proxy else "without a proxy"
    serves = f"generation {found.generation or '-'}, config sha256 {found.config_hash[:HASH_SHOWN]}, {behind}"
    parts = [f"{found.base_url}  {serves} (run {found.run})", *found.trouble]
    silent = [one.function for one in found.functions if not (one.tiers or one.requests)]
    rows = [row for one in found.functions if one.function not in silent for row in _rows(one)]
    parts += ["", columns(HEAD, rows)] if rows else ["", NONE]
    if silent and rows:
        parts += ["", f"Nobody answers {listed(silent)}."]
    if found.yours:
        parts += ["", f"Written by you: {listed(found.yours)}."]
    if found.by_name:
        parts += ["", "By name, answered by this host:", *(f"  {one}" for one in found.by_name)]
    if found.others:
        named = [(one.name, str(one.requests), str(one.failed) if one.failed else "") for one in found.others]
        parts += ["", columns(("OTHER REQUESTS OF THE LAST DAY", "ALL", "FAILED"), named)]
    if found.outside:
        outside = [(one.role, one.model, one.url, one.why) for one in found.outside]
        parts += ["", columns(("BESIDE THE GATEWAY", "MODEL", "ADDRESS", "NOW"), outside)]
    if lines := left_out_lines(found.functions, found.left_out):
        parts += ["", "Left out:", *(f"  {line}" for line in lines)]
    return "\n".join(clean(line) for part in parts for line in part.split("\n"))


def _rows(one: FunctionNow) -> list[tuple[str, ...]]:
    always = {tier.name for tier in one.tiers}
    tiers = [
        *((tier, "", _share(tier)) for tier in one.tiers),
        # What a tier answered is counted as a whole, whether a request was marked as complex or not.
        *((tier, "complex ", "" if tier.name in always else _share(tier)) for tier in one.complex_tiers),
    ]
    rows = [(f"{when}{tier.place} {tier.name}", tier.by, tier.why, share) for tier, when, share in tiers]
    first, *more = rows or [("none", "", "", "")]
    if one.failed:
        more.append((BLANK, BLANK, BLANK, f"{one.failed} of {one.requests} failed"))
    head = (one.function, one.service, *first, _probe(one.probe))
    return [head, *((BLANK, BLANK, *row, BLANK) for row in more)]


def _probe(answer: Answer | None) -> str:
    return f"{'right' if answer.right else 'wrong'} in {took(answer.seconds)}" if answer else ""


def _share(tier: TierNow) -> str:
    if not tier.requests:
        return ""
    percent = 100 * tier.share
    return f"{'under 1' if percent < FEWEST_PERCENT else f'{percent:.0f}'}% ({tier.requests})"
