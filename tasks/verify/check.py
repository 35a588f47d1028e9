"""ModelServer -> VerifiedServer: wait until it is ready, ask what has a known answer, measure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tasks.contracts import Answer, Event, ModelServer, Sink, Unknown, VerifiedServer, silent
from tasks.effects.http import OK, Http, HttpError
from tasks.effects.openai import Embeddings, embed, models
from tasks.effects.resident import resident_bytes
from tasks.errors import StoppedError, VerifyError
from tasks.verify.probes import PROBES, TEXTS, Evidence, judge

POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0
SINGLES = 5
BATCH = tuple(f"the quick brown fox jumps over the lazy dog number {number}" for number in range(32))
BATCHES = 3
BATCHES_BUDGET_S = 0.5
"""No further batch begins after this time, so that a whole run stays short."""
INTACT = "its weights stay on the disk and the routes that were in use stay in use"


@dataclass(frozen=True, slots=True)
class VerifyContext:
    """What verifying needs from outside.

    `deadline_s` is for waiting and for all questions together. `light` leaves the measuring out:
    speed then comes from the questions themselves.
    """

    http: Http
    deadline_s: float = 60.0
    light: bool = False
    health_path: str = "/health"
    memory: Callable[[int], int | Unknown] = resident_bytes
    stop: threading.Event | None = None
    sink: Sink = silent


def verify(server: ModelServer, ctx: VerifyContext) -> VerifiedServer:
    """Return the server as verified when it is ready, lists its model and answers every question right.

    Raises:
        VerifyError: it answers wrongly, too late or not at all, or its role has no questions.
        StoppedError: the run was asked to stop.
    """
    return _Check(server, ctx).run()


class _Check:
    """One verification, with its clock."""

    def __init__(self, server: ModelServer, ctx: VerifyContext) -> None:
        self._server = server
        self._ctx = ctx
        self._model = server.planned.model
        self._deadline = time.monotonic() + ctx.deadline_s

    def run(self) -> VerifiedServer:
        role = self._server.planned.role
        if role not in PROBES:
            known = ", ".join(PROBES)
            raise self._error(f"has the role {role}, for which there are no questions (only for {known})")
        self._wait_until_ready()
        listed = self._listed()
        evidence = self._ask()
        answers = (listed, *judge(PROBES[role], evidence))
        for answer in answers:
            self._refuse_wrong(answer)
        latency_s, texts_per_s = self._speed(evidence)
        self._say(
            f"{len(answers)} right answers, {latency_s * 1000:.0f} ms a text, {texts_per_s:.0f} texts/s"
        )
        return VerifiedServer(
            server=self._server,
            answers=answers,
            latency_s=latency_s,
            texts_per_s=texts_per_s,
            memory_bytes=self._ctx.memory(self._server.process.pid),
        )

    def _wait_until_ready(self) -> None:
        url = self._server.base_url.rstrip("/").removesuffix("/v1") + self._ctx.health_path
        self._say(f"asks {url}")
        last = "no answer"
        while (left := self._deadline - time.monotonic()) > 0:
            self._refuse_stop()
            try:
                reply = self._ctx.http.get(url, timeout_s=min(HEALTH_TIMEOUT_S, left))
            except HttpError as error:
                last = str(error)
            else:
                if reply.status == OK:
                    return
                last = reply.shown()
            time.sleep(min(POLL_S, max(0.0, self._deadline - time.monotonic())))
        raise self._error(f"was not ready within {self._ctx.deadline_s:g} s (last answer: {last})")

    def _listed(self) -> Answer:
        begun = time.monotonic()
        question = "which models are listed"
        try:
            names = models(self._ctx.http, self._server.base_url, self._left_s())
        except HttpError as error:
            raise self._wrong(question, self._model, str(error)) from None
        got = ", ".join(names) or "none"
        return Answer(question, self._model, got, self._model in names, time.monotonic() - begun)

    def _ask(self) -> Evidence:
        alone, again = self._embed(TEXTS[:1]), self._embed(TEXTS[:1])
        together = self._embed(TEXTS)
        return Evidence(self._server.planned.dimensions, together, alone, again)

    def _embed(self, texts: Sequence[str]) -> Embeddings:
        self._refuse_stop()
        try:
            return embed(self._ctx.http, self._server.base_url, self._model, texts, self._left_s())
        except HttpError as error:
            count = f"{len(texts)} text{'s' * (len(texts) > 1)}"
            raise self._wrong(f"what are the vectors of {count}", "a vector for each", str(error)) from None

    def _speed(self, evidence: Evidence) -> tuple[float, float]:
        """Return the seconds of a request of one text, and the texts/s of full batches."""
        if self._ctx.light:
            return evidence.latency_s, len(TEXTS) / max(evidence.together.seconds, 1e-9)
        singles = [self._embed(TEXTS[:1]).seconds for _ in range(SINGLES)]
        batches: list[float] = []
        while len(batches) < BATCHES and sum(batches) < BATCHES_BUDGET_S:
            batches.append(self._embed(BATCH).seconds)
        return median(singles), len(BATCH) / max(min(batches), 1e-9)

    # --- saying ----------------------------------------------------------------------------------

    def _left_s(self) -> float:
        return max(0.1, self._deadline - time.monotonic())

    def _refuse_wrong(self, answer: Answer) -> None:
        if not answer.right:
            raise self._wrong(answer.question, answer.expected, answer.got)

    def _refuse_stop(self) -> None:
        if self._ctx.stop is not None and self._ctx.stop.is_set():
            raise StoppedError(
                f"stopped while {self._model} was being verified", "it still runs", "start the run again"
            )

    def _wrong(self, question: str, expected: str, got: str) -> VerifyError:
        return self._error(f"answers wrongly: {question}? expected {expected}, got {got}")

    def _error(self, what: str) -> VerifyError:
        log = self._server.process.log
        return VerifyError(
            f"{self._model} on {self._server.base_url} {what}",
            INTACT,
            f"read {log}, then run `pmoves provision` again" if log else "run `pmoves provision` again",
        )

    def _say(self, message: str) -> None:
        self._ctx.sink(Event("verify", self._model, message))
