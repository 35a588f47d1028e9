"""After the switch: whether the new gateway fails more requests than the one before did.

The proxy counts how requests end. A gateway is given up when at least 20 requests came, more than 5 in 100 of
them ended with 500 or more, and that many would come by chance less than once in 1000 at the share of before
(which is taken for 1 in 100 at least). The three numbers are chosen; the chance is that of a binomial
distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_REQUESTS = 20
WORST_SHARE = 0.05
LEAST_BEFORE = 0.01
CHANCE = 0.001

Ended = tuple[int, int]
"""How many requests ended, and how many of them with 500 or more."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was seen, in one sentence, and whether the new gateway may stay."""

    text: str
    right: bool


def judge(green: Ended, blue: Ended, seconds: float) -> Verdict:
    """Compare what the new gateway did since the switch with what the one before did until then."""
    total, bad = green
    before = f"before it {blue[1]} of {blue[0]}" if blue[0] else "before it there were none"
    if not total:
        return Verdict(f"no request came in the {seconds:.3g} s after the switch", right=True)
    text = f"{bad} of {total} requests in the {seconds:.3g} s after the switch ended with 5xx, {before}"
    usual = max(LEAST_BEFORE, blue[1] / blue[0] if blue[0] else 0.0)
    worse = total >= LEAST_REQUESTS and bad / total > WORST_SHARE and at_least(bad, total, usual) < CHANCE
    return Verdict(text, right=not worse)


def at_least(bad: int, total: int, share: float) -> float:
    """Return the chance of `bad` or more failures among `total` requests that each fail with `share`."""
    if bad <= 0 or share >= 1:
        return 1.0
    logs = (
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * math.log(share)
        + (total - count) * math.log1p(-share)
        for count in range(bad, total + 1)
    )
    return min(1.0, math.fsum(math.exp(one) for one in logs))
