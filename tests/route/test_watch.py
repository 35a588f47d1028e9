"""When a new gateway that fails requests is given up."""

from __future__ import annotations

import math

import pytest

from tasks.route.watch import Ended, at_least, judge


@pytest.mark.parametrize(
    ("green", "blue", "right"),
    [
        ((0, 0), (1000, 0), True),
        ((100, 0), (1000, 0), True),
        ((19, 19), (1000, 0), True),  # too few to tell
        ((20, 20), (1000, 0), False),
        ((20, 2), (1000, 0), True),  # by chance less than once in 50
        ((20, 3), (1000, 0), True),
        ((20, 4), (1000, 0), False),
        ((100, 5), (1000, 0), True),  # no more than 5 in 100
        ((100, 6), (1000, 0), False),
        ((2000, 101), (1000, 0), False),
        ((100, 60), (1000, 600), True),  # no worse than before
        ((100, 70), (1000, 600), True),
        ((100, 78), (1000, 600), False),
        ((100, 100), (50, 50), True),  # all failed before
        ((100, 50), (0, 0), False),  # nothing is known of before
        ((20, 1), (3, 3), True),
        ((12000, 700), (120_000, 7000), True),
        ((12000, 500), (1000, 0), True),  # surely worse, and still no more than 5 in 100
        ((12000, 900), (120_000, 7000), False),
    ],
)
def test_judge(green: Ended, blue: Ended, *, right: bool) -> None:
    """It takes enough requests, a share that is bad by itself, and one that is clearly worse than before."""
    assert judge(green, blue, 10.0).right is right


@pytest.mark.parametrize(
    ("green", "blue", "text"),
    [
        ((0, 0), (9, 1), "no request came in the 10 s after the switch"),
        (
            (1, 0),
            (0, 0),
            "0 of 1 requests in the 10 s after the switch ended with 5xx, before it there were none",
        ),
        (
            (57, 2),
            (1031, 3),
            "2 of 57 requests in the 10 s after the switch ended with 5xx, before it 3 of 1031",
        ),
    ],
)
def test_text(green: Ended, blue: Ended, text: str) -> None:
    """The sentence has every number."""
    assert judge(green, blue, 10.0).text == text


@pytest.mark.parametrize(("bad", "total", "share"), [(1, 5, 0.3), (4, 20, 0.01), (3, 3, 0.5), (7, 40, 0.2)])
def test_chance(bad: int, total: int, share: float) -> None:
    """It is the tail of a binomial distribution."""
    exact = sum(
        math.comb(total, count) * share**count * (1 - share) ** (total - count)
        for count in range(bad, total + 1)
    )

    assert at_least(bad, total, share) == pytest.approx(exact)


def test_certain() -> None:
    """No failure at all, or a share of one, is no surprise."""
    assert (at_least(0, 10, 0.1), at_least(10, 10, 1.0)) == (1.0, 1.0)
