"""Texts of many requests become calls into the engine, a call at a time.

What arrives while a call runs can go with the next one. Each call begins with a text of the job whose
turn it is and takes along texts of about the same length, so a long text never slows short ones, and
a job of thousands of texts never keeps a small one waiting for more than a call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tasks.serve.embedded.engine import Engine, EngineError, Vector
from tasks.serve.embedded.options import Limits

SHORT_TOKENS = 16
"""Texts below this length go with each other; padding them costs next to nothing."""
FAILURES_IN_A_ROW = 3


class Job:
    """The texts of one request, shortest first, and the vectors that are ready."""

    def __init__(self, texts: Sequence[str], tokens: Sequence[int]) -> None:
        self.texts = texts
        self.tokens = tokens
        self.vectors: list[Vector | None] = [None] * len(texts)
        self.waiting = deque(sorted(range(len(texts)), key=tokens.__getitem__))
        self.missing = len(texts)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, index: int, vector: Vector) -> None:
        """Keep the vector of one text."""
        self.vectors[index] = vector
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the job without an answer."""
        if not self.done.done():
            self.done.set_exception(error)


Item = tuple[Job, int]
"""A text: the job it belongs to, and its place there."""


class Call:
    """The texts that go into the engine together."""

    def __init__(self, limits: Limits) -> None:
        self.items: list[Item] = []
        self._limits = limits
        self._shortest = limits.call_tokens
        self._longest = 0

    @property
    def full(self) -> bool:
        """Whether not one more text may go along."""
        return len(self.items) >= self._limits.call_texts

    def take(self, job: Job) -> bool:
        """Take the next text of `job` out of its queue, if it may go along."""
        tokens = max(SHORT_TOKENS, job.tokens[job.waiting[0]])
        shortest, longest = min(self._shortest, tokens), max(self._longest, tokens)
        padded = (len(self.items) + 1) * longest
        if self.items and (self.full or padded > self._limits.call_tokens or longest > 2 * shortest):
            return False
        self._shortest, self._longest = shortest, longest
        self.items.append((job, job.waiting.popleft()))
        return True


def next_call(jobs: deque[Job], limits: Limits) -> Call:
    """Take the texts of the next call out of `jobs`, which is in the order of their turns.

    Only jobs with waiting texts are in `jobs`, before and after.
    """
    call = Call(limits)
    jobs.rotate(-1)
    call.take(jobs[-1])
    taken = True
    while taken and not call.full:
        taken = False
        for job in jobs:
            taken = (bool(job.waiting) and call.take(job)) or taken
    for job in {id(job): job for job, _ in call.items if not job.waiting}.values():
        jobs.remove(job)
    return call


class Batcher:
    """Feeds one engine from one thread.

    Args:
        engine: What embeds.
        limits: How large a call may be.
        broken: Called when several calls in a row have failed.
    """

    def __init__(self, engine: Engine, limits: Limits, broken: Callable[[str], None]) -> None:
        self._engine = engine
        self._limits = limits
        self._broken = broken
        self._jobs: deque[Job] = deque()
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "engine")
        self._failures = 0

    async def embed(self, texts: Sequence[str], tokens: Sequence[int]) -> list[Vector]:
        """Return the vectors of one request; a cancelled caller leaves the queue at once.

        Raises:
            EngineError: a call with a text of this request failed.
        """
        job = Job(texts, tokens)
        self._jobs.append(job)
        self._work.set()
        try:
            await job.done
        finally:
            if job.waiting:
                self._jobs.remove(job)
        return [vector for vector in job.vectors if vector is not None]

    async def run(self) -> None:
        """Make calls for as long as there is work; runs until it is cancelled."""
        try:
            while True:
                await self._work.wait()
                if self._jobs:
                    await self._answer(next_call(self._jobs, self._limits).items)
                else:
                    self._work.clear()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, items: Sequence[Item]) -> None:
        """Make one call. When it fails, the requests in it are tried apart: one may be the reason."""
        texts = [job.texts[index] for job, index in items]
        loop = asyncio.get_running_loop()
        try:
            vectors = await loop.run_in_executor(self._thread, self._engine.embed, texts)
        except EngineError as error:
            owners = tuple({id(job): job for job, _ in items}.values())
            if len(owners) == 1:
                self._fail(owners[0], error)
            else:
                for owner in owners:
                    await self._answer([item for item in items if item[0] is owner])
            return
        self._failures = 0
        for (job, index), vector in zip(items, vectors, strict=True):
            job.put(index, vector)

    def _fail(self, job: Job, error: EngineError) -> None:
        job.fail(error)
        self._failures += 1
        if self._failures == FAILURES_IN_A_ROW:
            self._broken(f"{FAILURES_IN_A_ROW} calls in a row failed, the last with: {error}")
