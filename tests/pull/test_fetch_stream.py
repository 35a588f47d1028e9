"""The front of a file reaches its digest in order, once, and from memory only where it is on disk too."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from tasks.pull.fetch import stream
from tasks.pull.fetch.stream import Stream


def views(*pieces: bytes) -> list[memoryview]:
    """Return bytes as they are handed over."""
    return [memoryview(piece) for piece in pieces]


def taken(made: Stream) -> bytes:
    """Take all that is there."""
    found = b""
    while piece := made.take(0):
        found += piece
    return found


def test_bytes_come_in_order_and_once() -> None:
    """What follows on is taken, what does not is left to the disk."""
    made = Stream()
    made.offer(0, views(b"ab", b"c"))
    made.offer(9, views(b"later"))
    made.offer(0, views(b"again"))
    made.offer(3, views(b"de"))

    assert taken(made) == b"abcde"


def test_nothing_is_taken_while_the_disk_is_read() -> None:
    """Between leaving and rejoining, nothing is handed over that the disk gives as well."""
    made = Stream()
    assert made.leave()
    made.offer(0, views(b"lost"))
    assert made.take(0) is None
    made.rejoin(4)
    made.offer(0, views(b"old"))
    made.offer(4, views(b"new"))

    assert taken(made) == b"new"


def test_what_is_here_is_taken_before_the_disk_is_read() -> None:
    """Whoever would read the disk is told that bytes wait."""
    made = Stream()
    made.offer(0, views(b"here"))

    assert not made.leave()
    assert taken(made) == b"here"


def test_a_fast_connection_waits() -> None:
    """No more than a bound is on its way; a closed stream lets everybody go."""
    made, through = Stream(), threading.Event()
    made.offer(0, views(bytes(stream.MOST_BYTES + 1)))

    def more() -> None:
        made.offer(stream.MOST_BYTES + 1, views(b"x"))
        through.set()

    thread = threading.Thread(target=more)
    thread.start()
    assert not through.wait(0.1)
    made.close()
    thread.join(10)

    assert through.is_set()
    assert made.take(0) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6), st.booleans()), max_size=40))
def test_whatever_is_offered(offers: list[tuple[int, int, bool]]) -> None:
    """With the disk between, the digest gets every byte once, in order."""
    data, made, got, at = bytes(range(36)), Stream(), b"", 0
    for first, size, by_disk in offers:
        made.offer(first, views(data[first : first + size]))
        if by_disk and made.leave():
            got += data[at : at + 2]
            at = len(got)
            made.rejoin(at)
        while piece := made.take(0):
            got += piece
            at = len(got)

    assert got == data[: len(got)]
