"""What downloads share: bandwidth over all of them, quiet hours, and connections for everybody."""

from __future__ import annotations

from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.pull.fetch import line as lines
from tasks.pull.fetch.line import (
    BURST_S,
    PAUSE_POLL_S,
    PIECE_BYTES,
    SMALLEST_PIECE_BYTES,
    Line,
    QuietHours,
    limit_at,
    minute_of_day,
)

MINUTES = st.integers(0, 1439)


class Clock:
    """A clock that goes on only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


class Waiter(Event):
    """A stop that lets the clock go on."""

    def __init__(self, clock: Clock, *, stops_after: int = 1_000_000) -> None:
        super().__init__()
        self.clock, self.stops_after = clock, stops_after

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass."""
        assert timeout is not None
        self.clock.now += timeout
        self.clock.waits.append(timeout)
        return len(self.clock.waits) >= self.stops_after


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the line."""
    made = Clock()
    monkeypatch.setattr(lines, "time", made)
    return made


@given(MINUTES, MINUTES, MINUTES)
def test_quiet_hours_and_the_others_make_a_day(start: int, end: int, minute: int) -> None:
    """Each minute lies in the hours from one time to another, or in those back, and not in both."""
    one, two = QuietHours(start, end, 0), QuietHours(end, start, 0)

    assert start == end or one.holds(minute) != two.holds(minute)


@pytest.mark.parametrize(
    ("minute", "holds"), [(1319, False), (1320, True), (0, True), (359, True), (360, False)]
)
def test_quiet_hours_over_midnight(minute: int, *, holds: bool) -> None:
    """From 22:00 to 06:00 means the night."""
    assert QuietHours(22 * 60, 6 * 60, 0).holds(minute) == holds


@pytest.mark.parametrize(
    ("minute", "limit", "want"),
    [(0, None, 5), (0, 3, 3), (0, 9, 5), (90, None, None), (90, 9, 9), (30, None, 0), (30, 9, 0)],
)
def test_the_tightest_limit_holds(minute: int, limit: int | None, want: int | None) -> None:
    """Of all limits that hold at a minute the smallest counts; 0 is a pause."""
    quiet = (QuietHours(0, 60, 5), QuietHours(30, 31, 0), QuietHours(30, 40, 7))

    assert limit_at(minute, limit, quiet) == want


def test_minute_of_the_day() -> None:
    """A minute of a day."""
    assert 0 <= minute_of_day() < 1440


@pytest.mark.parametrize(
    ("limit", "size"),
    [(None, PIECE_BYTES), (10**9, PIECE_BYTES), (800_000, 100_000), (1, SMALLEST_PIECE_BYTES)],
)
def test_pieces_are_small_on_a_slow_line(limit: int | None, size: int) -> None:
    """A slow line reads less at once."""
    assert Line(limit_bytes_per_s=limit).piece_bytes() == size


def test_no_limit_waits_for_nothing(clock: Clock) -> None:
    """Without a limit nobody waits."""
    Line().take(10**12, Waiter(clock))

    assert clock.waits == []


@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=60))
def test_limit_holds(sizes: list[int]) -> None:
    """Bytes never cross faster than the limit, but for a fifth of a second at the start."""
    clock, limit = Clock(), 100_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "time", clock)
        line, waiter = Line(limit_bytes_per_s=limit), Waiter(clock)
        for size in sizes:
            line.take(size, waiter)

    needed_s = sum(sizes) / limit
    assert needed_s - BURST_S - 1e-6 <= clock.now - 1000 <= needed_s + 1e-6


def test_idle_time_is_not_saved_up(clock: Clock) -> None:
    """A line that was idle for long does not make up for it."""
    line, waiter = Line(limit_bytes_per_s=100), Waiter(clock)
    line.take(100, waiter)
    clock.now += 1000

    line.take(100, waiter)

    assert clock.waits[-1] == pytest.approx(1 - BURST_S)


def test_pause_ends_with_the_hour(clock: Clock) -> None:
    """In quiet hours with a limit of 0 all wait, and go on when they are over."""
    line = Line(quiet=(QuietHours(0, 60, 0),), minute=lambda: 0 if len(clock.waits) < 5 else 60)

    line.take(10**9, Waiter(clock))

    assert clock.waits == [PAUSE_POLL_S] * 5
    assert line.limit() is None


def test_stop_ends_a_pause(clock: Clock) -> None:
    """Who is stopped does not wait for the hour."""
    line = Line(quiet=(QuietHours(0, 60, 0),), minute=lambda: 0)

    line.take(1, Waiter(clock, stops_after=1))

    assert len(clock.waits) == 1


def test_connections_are_counted_by_host() -> None:
    """A host has so many connections for all users together, and each host its own."""
    line = Line(connections=2)
    with line.user("a") as one, line.user("a") as two, line.user("b") as other:
        assert [line.open("a", one), line.open("a", two), line.open("a", two)] == [True, True, False]
        assert line.open("b", other)
        line.close("a", one)
        assert line.open("a", two)


def test_user_that_goes_gives_all_back() -> None:
    """Whoever ends without closing leaves nothing taken, and closes late without harm."""
    line = Line(connections=2)
    with line.user("a") as gone:
        assert line.open("a", gone)
        assert line.open("a", gone)
    line.close("a", gone)
    line.close("b", gone)

    with line.user("a") as one:
        assert [line.open("a", one) for _ in range(3)] == [True, True, False]


def test_close_of_nothing_gives_nothing() -> None:
    """Closing more than was opened makes no connections."""
    line = Line(connections=1)
    with line.user("a") as one:
        line.close("a", one)
        assert [line.open("a", one), line.open("a", one)] == [True, False]


def test_who_has_more_than_one_gives_to_who_has_none(clock: Clock) -> None:
    """A user yields while another asks in vain, not for one that wants nothing, and not its last."""
    line = Line(connections=2)
    with line.user("a") as large, line.user("a") as small:
        line.open("a", large)
        line.open("a", large)
        assert not line.must_yield("a", large), "nobody asked"
        assert not line.open("a", small)
        assert line.must_yield("a", large)
        assert not line.must_yield("a", small)
        clock.now += 5
        assert not line.must_yield("a", large), "that was long ago"
        assert not line.open("a", small)
        line.close("a", large)
        assert not line.must_yield("a", large), "one is free"
        assert line.open("a", small)
        assert not line.must_yield("a", large)
        assert not line.must_yield("a", small)


def test_what_was_yielded_is_not_taken_back(clock: Clock) -> None:
    """The connection that came free is for the one who has none, whoever asks first."""
    line = Line(connections=2)
    with line.user("a") as large, line.user("a") as small:
        line.open("a", large)
        line.open("a", large)
        assert not line.open("a", small)
        line.close("a", large)

        assert not line.open("a", large)
        assert line.open("a", small)
        assert clock.waits == []


def test_host_that_asked_to_wait_is_left_alone(clock: Clock) -> None:
    """The longest wait that a host asked for counts; other hosts are not concerned."""
    line = Line()
    assert line.paused_s("a") == 0

    line.pause("a", 30)
    line.pause("a", 10)
    clock.now += 12

    assert line.paused_s("a") == 18
    assert line.paused_s("b") == 0
    clock.now += 100
    assert line.paused_s("a") == 0
