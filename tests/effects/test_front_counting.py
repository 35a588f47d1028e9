"""How the front counts what passes: by a word that stands in the answers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from tasks.effects.front.counting import HOURS, LONGEST_WORD, MOST_KEYS, Tallies, Tally, Watched

MARK = '"model":"'
DAY_S = 86_400.0


def passed(*parts: bytes, status: int = 200) -> tuple[Watched, bytes]:
    """Return what was seen of an answer, and what the client got."""
    got = bytearray()

    async def send(message: Message) -> None:
        got.extend(message.get("body", b""))

    async def run() -> Watched:
        watched = Watched(send, MARK)
        await watched({"type": "http.response.start", "status": status})
        for part in parts:
            await watched({"type": "http.response.body", "body": part, "more_body": True})
        return watched

    return asyncio.run(run()), bytes(got)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b'{"id":1,"model":"local","usage":{}}', "local"),
        (b'data: {"model":"local"}\n\ndata: {"model":"other"}\n\n', "local"),
        (b'{"error":"no"}', ""),
        (b'{"content":"say \\"model\\":\\"cloud\\"","model":"local"}', "local"),
        (b'{"model":"never ends', ""),
        (b'{"model":"' + b"x" * 500 + b'"}', "x" * LONGEST_WORD),
        (b'{"model":"\xff"}', "�"),
        (b"", ""),
    ],
)
def test_the_word(answer: bytes, word: str) -> None:
    """It is the first between the mark and the next quotation mark; text that quotes the mark is escaped."""
    watched, got = passed(answer)

    assert (watched.word, got, watched.status) == (word, answer, 200)


@given(st.lists(st.integers(1, 60), max_size=8), st.integers(0, 300), st.integers(0, 300))
def test_wherever_it_is_cut(cuts: list[int], before: int, after: int) -> None:
    """The word is found however the answer is cut into parts, and the client gets the same bytes."""
    answer = b"a" * before + b'"model":"tensorzero::x::local"' + b"b" * after
    parts, rest = [], answer
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]

    watched, got = passed(*parts, rest)

    assert (watched.word, got) == ("tensorzero::x::local", answer)


def test_tallies() -> None:
    """Equal ends are counted together, by the hour."""
    now = 20 * DAY_S
    tallies = Tallies(lambda: now)
    for word, status in (("local", 200), ("local", 200), ("", 502)):
        tallies.add("g1", word, status)
    now += 3600
    tallies.add("g2", "local", 200)

    assert tallies.all() == (
        Tally("1970-01-21T00", "g1", "", 502, 1),
        Tally("1970-01-21T00", "g1", "local", 200, 2),
        Tally("1970-01-21T01", "g2", "local", 200, 1),
    )


def test_old_hours_go() -> None:
    """What is older than the hours that are kept is forgotten when a new hour begins."""
    now = 20 * DAY_S
    tallies = Tallies(lambda: now)
    for _ in range(2 * HOURS):
        tallies.add("g1", "local", 200)
        now += 3600

    assert len(tallies.all()) == HOURS


def test_it_does_not_grow_without_end() -> None:
    """New words beyond the limit are not counted; known ones are."""
    tallies = Tallies(lambda: 0.0)
    for number in range(MOST_KEYS + 10):
        tallies.add("g1", str(number), 200)
    tallies.add("g1", "0", 200)

    assert len(tallies.all()) == MOST_KEYS
    assert Tally("1970-01-01T00", "g1", "0", 200, 2) in tallies.all()
