"""How far downloads are, each and all together."""

from __future__ import annotations

import pytest

from flows.tally import ALL, Row, Tally, span
from tasks.contracts import Event

MIB = 1 << 20


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def told(tally: Tally, subject: str, done: int, total: int, message: str = "fetching org/name") -> None:
    """Tell a tally of bytes."""
    tally.take(Event("pull", subject, message, done, total))


def test_rate_and_time_left() -> None:
    """The rate is that of the last ten seconds, and what is left follows from it."""
    clock = Clock()
    tally = Tally(clock)
    told(tally, "a", 0, 100 * MIB)
    clock.now += 30
    told(tally, "a", 10 * MIB, 100 * MIB)
    clock.now += 5
    told(tally, "a", 30 * MIB, 100 * MIB)

    row = tally.row("a")
    assert (row.bytes_per_s, row.left_s) == (4 * MIB, 17.5)
    assert str(row) == "30.0 MiB of 100.0 MiB, 4.0 MiB/s, 18 s left"


def test_what_was_there_before_is_no_speed() -> None:
    """Bytes that an earlier pull left do not count as fetched within the first second."""
    clock = Clock()
    tally = Tally(clock)
    told(tally, "a", 90 * MIB, 100 * MIB)
    clock.now += 2
    told(tally, "a", 92 * MIB, 100 * MIB)

    assert tally.row("a").bytes_per_s == MIB


def test_a_stall_is_named_and_has_no_time_left() -> None:
    """A download that stands still says so, and promises nothing."""
    clock = Clock()
    tally = Tally(clock)
    told(tally, "a", 5 * MIB, 10 * MIB)
    clock.now += 60
    told(tally, "a", 5 * MIB, 10 * MIB, "stalled: no byte from hub for 60 s")

    row = tally.row("a")
    assert (row.bytes_per_s, row.left_s) == (0.0, None)
    assert str(row) == "5.0 MiB of 10.0 MiB, stalled: no byte from hub for 60 s"
    assert tally.total().note == "stalled: no byte from hub for 60 s"


def test_all_downloads_together() -> None:
    """The total adds bytes and rates of all, those that are whole among them."""
    clock = Clock()
    tally = Tally(clock)
    for name in ("a", "b", "c"):
        told(tally, name, 0, 10 * MIB)
    clock.now += 2
    told(tally, "a", 10 * MIB, 10 * MIB)
    told(tally, "b", 2 * MIB, 10 * MIB)
    told(tally, "c", 4 * MIB, 10 * MIB)

    total = tally.total()
    assert total == Row(ALL, 16 * MIB, 30 * MIB, 3 * MIB, 14 / 3)
    assert total.percent == pytest.approx(53.33, abs=0.01)


def test_events_without_bytes_count_nothing() -> None:
    """What is only said is no download."""
    tally = Tally()
    tally.take(Event("pull", "a", "asking the hub"))

    assert tally.rows() == ()
    assert tally.total() == Row(ALL, 0, 0, 0.0, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (140, "2 min 20 s"), (3599, "59 min 59 s"),
     (3600, "1 h 0 min"), (11100, "3 h 5 min")],
)  # fmt: skip
def test_times(seconds: float, text: str) -> None:
    """Times are written as people say them."""
    assert text == span(seconds)
