"""Who fetches what: no block belongs to two connections, and what breaks together counts once."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.pull.fetch import crew as crews
from tasks.pull.fetch.blocks import ABSENT, BLOCK_BYTES
from tasks.pull.fetch.crew import KNOCKS, MOST_HANG_UPS, Crew
from tasks.pull.fetch.item import Item, Share, Wanted, new_hash

BLOCKS = 200


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the crew; its jitter is always the whole wait."""
    made = Clock()
    monkeypatch.setattr(crews, "time", made)
    monkeypatch.setattr(crews.random, "uniform", lambda _low, high: high)
    return made


class Crews:
    """Makes crews over files that are not there yet, and lets go of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Item] = []

    def __call__(self, *blocks: int, tries: int = 6, target: int = 4) -> Crew:
        """Return a crew with files of so many blocks; 0 is a small file."""
        items = [self._item(number, count) for number, count in enumerate(blocks)]
        self.made += items
        made = Crew(items, target=target, tries=tries)
        made.measured = True
        return made

    def _item(self, number: int, blocks: int) -> Item:
        size_bytes = blocks * BLOCK_BYTES or 10
        part = self.folder / f"{len(self.made)}-{number}.part"
        return Item(Wanted(f"file {number}", "http://hub/x", size_bytes, "sha256:" + "0" * 64, part))


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crews]:
    """Return what makes crews."""
    made = Crews(tmp_path)
    yield made
    for item in made.made:
        item.close()


def take(crew: Crew) -> Share:
    """Take a share that must be there."""
    share = crew.next_share()
    assert share is not None
    return share


def blocks_of(shares: list[Share]) -> list[int]:
    """Return all blocks of some shares."""
    return sorted(block for share in shares for block in range(share.at, share.end))


# --- shares ----------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "progress", "done", "shed", "tail", "restart"]),
        st.integers(0, 9),
        st.integers(0, 60),
    ),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(STEPS)
def test_each_block_belongs_to_one(crew: Crews, steps: list[tuple[str, int, int]]) -> None:
    """Whatever connections do: each absent block waits, or is in one share; none that is there is in any."""
    made = crew(BLOCKS)
    item = made.items[0]
    assert item.queue.blocks == BLOCKS
    for kind, which, number in steps:
        share = made.shares[which % len(made.shares)] if made.shares else None
        if kind == "take" or share is None:
            made.next_share()
        elif kind == "progress" and share.left:
            made.progressed(share, BLOCK_BYTES, share.at + min(number, share.left))
        elif kind == "done":
            made.done(share)
        elif kind == "shed":
            made.shed()
        elif kind == "tail":
            share.started, share.got_bytes = 0.0, 0
            made.next_share()
        elif kind == "restart" and not share.cut:
            made.restarts(share, f"etag {number % 2}")
        assert item.partial is not None
        absent = [at for at, state in enumerate(item.partial.states) if state == ABSENT]
        waiting = [at for first, end in item.queue._runs for at in range(first, end)]
        assert sorted(waiting + blocks_of(made.shares)) == absent
        assert item.busy == len(made.shares)


def test_nothing_is_written_beyond_what_was_given_away(crew: Crews) -> None:
    """What is still on its way when the end of a share is given to another is not written any more."""
    made = crew(BLOCKS)
    share = take(made)
    share.shorten(share.at + 1)

    written = share.write(b"x" * BLOCK_BYTES, BLOCK_BYTES - 10)

    assert written == 10
    assert share.write(b"x", BLOCK_BYTES) == 0
    assert share.item.partial is not None
    buffer = memoryview(bytearray(20))
    share.item.partial.read_into(buffer, BLOCK_BYTES - 10)
    assert bytes(buffer) == b"x" * 10 + bytes(10)


def test_nothing_is_written_after_the_end(crew: Crews) -> None:
    """Once the crew is closed, no share writes, and none is handed out."""
    made = crew(0, BLOCKS)
    small, large = take(made), take(made)

    made.close()

    assert large.write(b"x", 0) == 0
    small.keep(b"0123456789")
    assert not small.item.whole.is_set()
    assert not small.item.wanted.part.exists()
    assert made.next_share() is None


def test_close_waits_for_a_write(crew: Crews, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end waits for a write that is under way, so that no file is closed under it."""
    made = crew(BLOCKS)
    share = take(made)
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(_data: memoryview, _offset: int) -> None:
        begun.set()
        assert go_on.wait(20)

    monkeypatch.setattr(share.item.partial, "write", slow)
    threading.Thread(target=share.write, args=(b"x", 0), daemon=True).start()
    assert begun.wait(20)
    threading.Thread(target=lambda: (made.close(), ended.set()), daemon=True).start()

    assert not ended.wait(0.1)
    go_on.set()
    assert ended.wait(20)


def test_done_hands_out_the_rest(crew: Crews) -> None:
    """What a broken connection did not bring is handed out again, first."""
    made = crew(BLOCKS)
    share = take(made)
    made.progressed(share, 5, 3)
    end = share.end

    made.done(share)

    again = take(made)
    assert (again.at, again.end) == (3, end)
    assert share.moved
    assert made.crossed_bytes == 5


def test_tail_is_halved(crew: Crews) -> None:
    """Whoever has nothing to do takes half of the longest share, if that is long."""
    made = crew(100)
    made.target = 1
    first = take(made)
    assert (first.at, first.end) == (0, 50)
    take(made)
    take(made)
    assert made.items[0].queue.blocks == 0 or take(made)

    while made.next_share():
        pass

    assert max(share.left for share in made.shares) < 64


def test_tail_of_a_slow_share_is_halved_too(crew: Crews, clock: Clock) -> None:
    """A short share is halved as well once it is clear that it needs long; the last block stays."""
    made = crew(20)
    share = take(made)
    share.got_bytes = BLOCK_BYTES // 4
    assert made.next_share() is None

    clock.now += 1.9
    assert made.next_share() is None
    clock.now += 1
    taken = take(made)

    assert (share.end, taken.at, taken.end) == (10, 10, 20)


def test_fast_share_is_not_halved(crew: Crews, clock: Clock) -> None:
    """A short share that will soon be done is left alone."""
    made = crew(20)
    share = take(made)
    clock.now += 5
    share.got_bytes = 20 * BLOCK_BYTES

    assert made.next_share() is None


def test_tail_waits_for_a_file_that_stumbled(crew: Crews) -> None:
    """While a file backs off, nobody takes a share of another of its connections either."""
    made = crew(300, target=1)
    while made.items[0].queue.blocks:
        take(made)
    made.items[0].ready_at = time.monotonic() + 100
    assert max(share.left for share in made.shares) == 150

    assert made.next_share() is None
    made.items[0].ready_at = 0.0
    assert take(made).left == 75


def test_shed_gives_back_the_longest(crew: Crews) -> None:
    """A connection that is to come free ends with its block; the rest waits."""
    made = crew(BLOCKS)
    share = take(made)
    before = made.items[0].queue.blocks

    made.shed()

    assert share.left == 1
    assert made.items[0].queue.blocks == before + 31
    made.shed()
    assert share.left == 1


# --- what goes wrong -------------------------------------------------------------------------


def test_failures_in_a_row_end_the_whole(crew: Crews, clock: Clock) -> None:
    """The last of `tries` failures of one file without progress between is the error."""
    made = crew(BLOCKS, tries=3)
    made.answered = True
    for number in range(3):
        assert made.error is None
        clock.now += 100
        share = take(made)
        made.stumbled(share, 0.0, ValueError(number))
        made.done(share)

    assert isinstance(made.error, ValueError)
    assert made.error.args == (2,)
    assert made.idle()


def test_what_breaks_together_counts_once(crew: Crews, clock: Clock) -> None:
    """Sixteen connections that break at one moment are one failure."""
    made = crew(2000, tries=3, target=16)
    made.answered = True
    shares = [take(made) for _ in range(16)]
    clock.now += 1

    for share in shares:
        clock.now += 0.001
        made.stumbled(share, 0.0, ValueError())

    assert made.error is None
    assert made.items[0].failures == 1


def test_progress_forgives_failures(crew: Crews, clock: Clock) -> None:
    """A connection that brought a block before it broke is a first failure."""
    made = crew(BLOCKS, tries=2)
    made.answered = True
    made.items[0].failures = 1
    made.progressed(take(made), 5, 1)
    assert made.items[0].failures == 0
    for _ in range(5):
        clock.now += 100
        share = take(made)
        made.progressed(share, 5, share.at + 1)
        made.stumbled(share, 0.0, ValueError())
        made.done(share)

    assert made.error is None


def test_backoff_grows_and_ends(crew: Crews, clock: Clock) -> None:
    """Waits double up to a limit; what the server asked for is kept to."""
    made = crew(BLOCKS, tries=100)
    made.answered = True
    waits = []
    for _ in range(9):
        clock.now = max(clock.now, made.items[0].ready_at)
        share = take(made)
        made.stumbled(share, 0.0, ValueError())
        made.done(share)
        assert made.next_share() is None
        assert not made.waiting()
        waits.append(made.items[0].ready_at - clock.now)
    clock.now = made.items[0].ready_at
    share = take(made)
    made.stumbled(share, 77.0, ValueError())

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert made.items[0].ready_at - clock.now == 77


def test_host_that_never_answered_is_knocked_at_a_few_times(crew: Crews, clock: Clock) -> None:
    """A host that has not answered once is given up after a few tries, over all its files."""
    made = crew(0, 0, BLOCKS, 0, 0, tries=100)
    knocks = 0
    while made.error is None and knocks < 10:
        share = take(made)
        made.stumbled(share, 0.0, ValueError())
        made.done(share)
        knocks += 1
        assert made.next_share() is None, "it waits between two knocks"
        clock.now += 2

    assert knocks == KNOCKS


def test_restart_forgets_everything_once(crew: Crews) -> None:
    """Another ETag makes the file start anew, for all its connections; a third is not minded."""
    made = crew(BLOCKS)
    one, two = take(made), take(made)
    assert not made.restarts(one, '"a"')
    made.progressed(one, 5, 3)

    assert made.restarts(two, '"b"')

    assert one.cut
    assert two.cut
    assert one.write(b"x", 0) == 0
    assert made.items[0].held_bytes == 0
    assert made.items[0].queue.blocks == BLOCKS
    made.progressed(one, 5, 20)
    assert made.items[0].held_bytes == 0
    made.done(one)
    made.done(two)
    assert made.items[0].queue.blocks == BLOCKS
    assert not made.restarts(take(made), '"b"')
    assert not made.restarts(take(made), '"c"')


@pytest.mark.parametrize("right", ["old", "new"])
def test_late_bytes_do_not_reach_the_digest(crew: Crews, monkeypatch: pytest.MonkeyPatch, right: str) -> None:
    """Bytes that were marked before a restart, and arrive at the digest after it, are not hashed:
    the digest is that of what is on disk.
    """
    made = crew(8)
    old, new = b"o" * BLOCK_BYTES, b"n" * 8 * BLOCK_BYTES
    pinned = new if right == "new" else old + new[BLOCK_BYTES:]
    item = made.items[0]
    item.wanted = replace(item.wanted, digest="sha256:" + hashlib.sha256(pinned).hexdigest())
    first = take(made)
    made.restarts(first, "a")
    original = Share.hand_over

    def late(share: Share, run: tuple[int, int], restarts: int) -> None:
        if share is first:
            made.restarts(first, "b")
            time.sleep(0.1)
        original(share, run, restarts)

    monkeypatch.setattr(Share, "hand_over", late)
    first.write(old, 0)
    made.progressed(first, len(old), 1)
    made.done(first)
    second = take(made)
    second.write(new, 0)
    made.progressed(second, len(new), 8)

    assert item.whole.wait(20)
    assert item.wanted.part.read_bytes() == new
    assert item.rightly == (right == "new")


def test_no_etag_is_no_other_etag(crew: Crews) -> None:
    """An answer without ETag says nothing."""
    made = crew(BLOCKS)
    share = take(made)
    made.restarts(share, '"a"')

    assert not made.restarts(share, "")
    assert made.items[0].etag == '"a"'


def test_without_ranges_the_last_one_takes_all(crew: Crews) -> None:
    """Of the connections that find out that there are no ranges, all but the last let go."""
    made = crew(BLOCKS)
    one, two = take(made), take(made)

    assert not made.alone(one)
    assert one.cut
    made.done(one)
    assert made.alone(two)
    runs = []
    while made.goes_on(two):
        runs.append((two.at, two.end))
        made.progressed(two, 1, two.end)
    made.done(two)

    assert blocks_of([Share(two.item, *run) for run in runs]) == list(range(BLOCKS))
    assert made.next_share() is None
    assert made.items[0].held_bytes == BLOCKS * BLOCK_BYTES


def test_without_ranges_nobody_else_comes(crew: Crews) -> None:
    """While one connection brings a whole file, no other asks for it."""
    made = crew(BLOCKS)
    share = take(made)
    made.alone(share)

    assert made.next_share() is None


def test_slow_connections_are_ended(crew: Crews, clock: Clock) -> None:
    """A connection that drips is ended, a moving one is not, and a file not more than a few times."""
    made = crew(2000)
    ended: list[Share] = []
    for number in range(MOST_HANG_UPS + 2):
        slow, good = take(made), take(made)
        slow.hang_up = lambda slow=slow: ended.append(slow)  # type: ignore[misc]  # a default argument
        for _ in range(3):
            clock.now += 5
            made.progressed(slow, 100)
            made.progressed(good, 1 << 16)
            made.hang_up(12.0, 1 << 16)
        assert len(ended) == min(number + 1, MOST_HANG_UPS)
        assert slow.cut == (number < MOST_HANG_UPS)
        assert not good.cut
        made.done(slow)
        made.done(good)


def test_waiting_connections_are_not_slow(crew: Crews, clock: Clock) -> None:
    """While nothing has to come, nobody is slow; the time counts from then on."""
    made = crew(BLOCKS)
    share = take(made)
    clock.now += 100
    made.hang_up(12.0, 0)
    clock.now += 11
    made.hang_up(12.0, 1 << 16)
    assert not share.cut

    clock.now += 2
    made.hang_up(12.0, 1 << 16)

    assert share.cut


def test_idle_when_only_the_digest_is_left(crew: Crews) -> None:
    """When all bytes are there, connections may go home, before the file is whole."""
    made = crew(5)
    assert not made.idle()
    share = take(made)
    made.progressed(share, 5, 5)
    assert not made.idle()
    made.done(share)

    assert made.idle()
    assert not made.waiting()


def test_first_error_counts(crew: Crews) -> None:
    """What went wrong first is the error."""
    made = crew(0)
    made.fail(ValueError("first"))
    made.fail(ValueError("second"))

    assert made.idle()
    assert str(made.error) == "first"


# --- one file --------------------------------------------------------------------------------


def test_digests() -> None:
    """A digest is a sha256, or the name that git gives to the bytes."""
    git, sha256 = new_hash("git:", 5), new_hash("sha256:", 5)
    git.update(b"hello")
    sha256.update(b"hello")

    assert git.hexdigest() == "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
    assert sha256.hexdigest() == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def test_part_that_another_program_cut_short(crew: Crews) -> None:
    """A part that ends before what was written to it is an error, not an endless wait."""
    made = crew(8)
    share = take(made)
    os.truncate(share.item.wanted.part, BLOCK_BYTES)

    made.progressed(share, 5, 8)

    assert share.item.whole.wait(20)
    assert isinstance(share.item.error, OSError)
    assert share.item.error.errno == errno.EIO


def test_error_of_the_digest_is_kept(crew: Crews, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the thread of the digest ends the wait for it."""
    made = crew(8)
    share = take(made)
    monkeypatch.setattr(share.item.partial, "sync", lambda: next(iter(())))

    made.progressed(share, 5, 8)

    assert share.item.whole.wait(20)
    assert isinstance(share.item.error, StopIteration)


def test_closing_an_item_ends_its_thread(crew: Crews, monkeypatch: pytest.MonkeyPatch) -> None:
    """When an item is closed, its thread is gone, though a disk took its time."""
    made = crew(8)
    share = take(made)
    begun = threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.2)

    monkeypatch.setattr(share.item.partial, "sync", slow)
    made.progressed(share, 5, 8)
    assert begun.wait(20)

    share.item.close()

    assert share.item._follower is not None
    assert not share.item._follower.is_alive()


def test_small_file_that_does_not_fit_leaves_nothing(crew: Crews, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a small file is of no use, and is removed when the disk is full."""
    share = take(crew(0))

    def full(path: Path, data: bytes) -> int:
        path.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device", data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        share.keep(b"0123456789")

    assert not share.item.wanted.part.exists()
    assert share.left == 1


def test_first_shares_are_short(crew: Crews) -> None:
    """Before it is known how fast it goes, a share is short, so that the front does not wait for one."""
    made = crew(1000, target=1)
    made.measured = False

    first = take(made)
    made.measured = True
    second = take(made)

    assert (first.at, first.end) == (0, 32)
    assert second.left > 32
