"""Which blocks are there, and which range is asked for next: no byte twice, none forgotten."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tasks.pull.fetch.blocks import (
    ABSENT,
    BLOCK_BYTES,
    LONGEST_BLOCKS,
    SHORT_BLOCKS,
    SHORTEST_BLOCKS,
    SYNCED,
    WRITTEN,
    Queue,
    absent_runs,
    count,
    held_bytes,
    span,
)

STATES = st.lists(st.sampled_from([ABSENT, WRITTEN, SYNCED]), max_size=200).map(bytes)
LONG = st.integers(0, 5000)


def test_count_rounds_up() -> None:
    """A file has a block for each begun piece."""
    sizes = (0, 1, BLOCK_BYTES, BLOCK_BYTES + 1)

    assert [count(size) for size in sizes] == [0, 1, 1, 2]


def test_last_block_may_be_short() -> None:
    """The span of the last run ends with the file."""
    assert span((1, 3), 2 * BLOCK_BYTES + 5) == (BLOCK_BYTES, 2 * BLOCK_BYTES + 5)
    assert span((0, 1), 2 * BLOCK_BYTES + 5) == (0, BLOCK_BYTES)


@given(STATES, st.integers(1, BLOCK_BYTES))
def test_held_bytes_are_the_sum_of_the_spans(states: bytes, last: int) -> None:
    """What is held is what the blocks that are there span."""
    size_bytes = max(0, (len(states) - 1) * BLOCK_BYTES + last) if states else 0
    spans = [span((at, at + 1), size_bytes) for at, state in enumerate(states) if state != ABSENT]

    assert held_bytes(states, size_bytes) == sum(end - first for first, end in spans)


@given(STATES)
def test_absent_runs_are_the_absent_blocks(states: bytes) -> None:
    """Runs are in order, apart from each other, and hold the absent blocks."""
    runs = list(absent_runs(states))

    blocks = [at for first, end in runs for at in range(first, end)]
    assert blocks == [at for at, state in enumerate(states) if state == ABSENT]
    assert all(one[1] < two[0] for one, two in pairwise(runs))


@given(STATES, st.lists(st.tuples(st.integers(1, 40), st.integers(0, 100)), max_size=60))
def test_queue_gives_each_block_once(states: bytes, steps: list[tuple[int, int]]) -> None:
    """Whatever is taken and given back in part: what is out and what waits are the absent blocks, once."""
    queue, got = Queue(states), list[int]()
    for shares, kept in steps:
        run = queue.take(shares)
        if run is None:
            break
        middle = min(run[1], run[0] + kept)
        got += range(run[0], middle)
        queue.give_back((middle, run[1]))
    while (run := queue.take(1)) is not None:
        got += range(*run)

    assert sorted(got) == [at for at, state in enumerate(states) if state == ABSENT]
    assert queue.blocks == 0


@given(LONG, st.integers(0, 64))
def test_runs_are_of_a_useful_length(blocks: int, shares: int) -> None:
    """A request asks for 8 to 128 MiB, or for all there is."""
    run = Queue(bytes(blocks)).take(shares)

    if blocks == 0:
        assert run is None
    else:
        assert run is not None
        assert run[0] == 0
        assert min(blocks, SHORTEST_BLOCKS) <= run[1] <= LONGEST_BLOCKS


def test_runs_get_shorter_towards_the_end() -> None:
    """Four connections get a part of what is left each, the last ones less."""
    queue = Queue(bytes(1000))

    assert queue.take(4) == (0, 125)
    assert queue.take(4) == (125, 234)
    assert Queue(bytes(100_000)).take(1) == (0, LONGEST_BLOCKS)
    assert Queue(bytes(100_000)).take(4) == (0, LONGEST_BLOCKS // 4)
    assert Queue(bytes(100_000)).take(16) == (0, SHORT_BLOCKS)


def test_queue_goes_from_the_front() -> None:
    """What comes back goes out before what lies behind it, so that the digest can follow."""
    queue = Queue(bytes(200))
    first = queue.take(1)
    assert first == (0, 100)
    assert queue.take(1) == (100, 150)

    queue.give_back((40, 100))

    assert queue.blocks == 110
    assert queue.take(100) == (40, 72)


def test_cleared_queue_is_empty() -> None:
    """Nothing waits any more."""
    queue = Queue(bytes(5))
    queue.clear()

    assert queue.take(1) is None
    assert queue.blocks == 0
