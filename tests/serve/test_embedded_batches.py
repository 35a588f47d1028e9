"""Texts of many requests become calls, fairly."""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.serve.embedded.batches import SHORT_TOKENS, Batcher, Job, next_call
from tasks.serve.embedded.engine import EngineError, Vector
from tasks.serve.embedded.options import Limits

LIMITS = Limits(call_texts=4, call_tokens=256)


class Echo:
    """An engine whose vector is the number that the text is; "bad" makes a call fail."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Answer."""
        self.calls.append(list(texts))
        if "bad" in texts:
            raise EngineError("out of memory")
        return [array("f", (float(text),)) for text in texts]


def drain(lengths: list[list[int]]) -> list[list[tuple[int, int]]]:
    """Return the calls for jobs with texts of these lengths, each text as (job, index)."""

    async def calls() -> list[list[tuple[int, int]]]:
        jobs = [Job(["x"] * len(tokens), tokens) for tokens in lengths]
        waiting = deque(jobs)
        made = []
        while waiting:
            call = next_call(waiting, LIMITS)
            made.append([(jobs.index(job), index) for job, index in call.items])
        return made

    return asyncio.run(calls())


def run(*requests: Sequence[str], engine: Echo, broken: list[str] | None = None) -> list[Any]:
    """Send requests at once and return what each got, vectors or error."""

    async def all_of_them() -> list[Any]:
        batcher = Batcher(engine, LIMITS, (broken if broken is not None else []).append)
        running = asyncio.ensure_future(batcher.run())
        asked: list[Awaitable[list[Vector]]] = [batcher.embed(texts, [3] * len(texts)) for texts in requests]
        async with asyncio.timeout(30):
            answers = await asyncio.gather(*asked, return_exceptions=True)
        running.cancel()
        return answers

    return asyncio.run(all_of_them())


@given(st.lists(st.lists(st.integers(1, 256), min_size=1, max_size=9), min_size=1, max_size=5))
def test_every_text_is_called_once_within_the_limits(lengths: list[list[int]]) -> None:
    """No text is lost or doubled, and padding never makes a call larger than it may be."""
    calls = drain(lengths)

    every = [(job, index) for job, tokens in enumerate(lengths) for index in range(len(tokens))]
    assert every == sorted(item for call in calls for item in call)
    for call in calls:
        padded = [max(SHORT_TOKENS, lengths[job][index]) for job, index in call]
        assert len(call) <= LIMITS.call_texts
        assert len(call) * max(padded) <= LIMITS.call_tokens
        assert max(padded) <= 2 * min(padded)


def test_requests_share_a_call() -> None:
    """Short texts of different requests go together."""
    assert [[(0, 0), (1, 0), (2, 0)]] == [sorted(call) for call in drain([[3], [9], [14]])]


def test_a_long_text_goes_alone() -> None:
    """Texts of very different lengths are not padded to each other."""
    assert [[(0, 0), (0, 2)], [(0, 1)]] == drain([[3, 200, 5]])


def test_a_small_request_is_not_behind_a_large_one() -> None:
    """The first two calls serve both, though the large one came first and fills any call."""
    served = {job for call in drain([[60] * 40, [200]])[:2] for job, _ in call}

    assert {0, 1} == served


def test_requests_take_turns() -> None:
    """Each call begins with the request that has waited longest for a turn, the oldest first."""
    begun_by = [call[0][0] for call in drain([[20] * 20, [60] * 20, [200] * 20])[:6]]

    assert [0, 1, 2, 0, 1, 2] == begun_by


def test_results_belong_to_their_requests() -> None:
    """However texts are merged, each request gets its own vectors in its own order."""
    requests = [[str(100 * r + t) for t in range(r % 7 + 1)] for r in range(30)]

    answers = run(*requests, engine=(engine := Echo()))

    assert requests == [[str(int(vector[0])) for vector in answer] for answer in answers]
    assert len(engine.calls) < len(requests)


def test_a_failed_call_fails_its_requests_only() -> None:
    """The request with the bad text gets the error, later ones their vectors."""
    bad, good = run(["bad"] * 4, ["1"], engine=Echo())

    assert isinstance(bad, EngineError)
    assert [array("f", (1,))] == good


def test_three_failures_in_a_row_are_reported() -> None:
    """The server hears that the engine is broken, once."""
    broken: list[str] = []

    run(*[["bad"] * 4] * 5, engine=Echo(), broken=broken)

    assert ["3 calls in a row failed, the last with: out of memory"] == broken


def test_a_caller_who_left_is_not_served() -> None:
    """A cancelled request leaves the queue, and the next one is answered."""
    engine = Echo()

    async def leave() -> list[Vector]:
        batcher = Batcher(engine, LIMITS, print)
        gone = asyncio.ensure_future(batcher.embed(["7"] * 9, [3] * 9))
        await asyncio.sleep(0)
        gone.cancel()
        running = asyncio.ensure_future(batcher.run())
        vectors = await batcher.embed(["1"], [3])
        running.cancel()
        return vectors

    assert [array("f", (1,))] == asyncio.run(leave())
    assert [["1"]] == engine.calls


@pytest.mark.parametrize("count", [1, 4, 5, 33])
def test_all_texts_of_a_request_are_answered(count: int) -> None:
    """A request larger than a call takes several."""
    engine = Echo()

    (answer,) = run([str(number) for number in range(count)], engine=engine)

    assert list(range(count)) == [int(vector[0]) for vector in answer]
    assert -(-count // LIMITS.call_texts) == len(engine.calls)
