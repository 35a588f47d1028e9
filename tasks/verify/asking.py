"""One server while it is asked: its clock, its wish to stop, and the sentences about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tasks.contracts import Answer, Event, ModelServer, Performance, PlannedModel, Sink, silent
from tasks.effects.http import Http, HttpError
from tasks.effects.rerank import root_of
from tasks.effects.wire import printable
from tasks.errors import StoppedError, VerifyError
from tasks.verify import deadlines, probe_files

INTACT = "its weights stay on the disk and the routes that were in use stay in use"
SHOWN = 200
LOOK_S = 0.2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """What one kind of questions brought to light. `findings` are no failures."""

    answers: tuple[Answer, ...] = ()
    findings: tuple[str, ...] = ()
    performance: Performance = field(default_factory=Performance)
    latency_s: float = 0.0


@dataclass(slots=True)
class Asked:
    """A server that is asked. `deadline` is on the monotonic clock; `light` leaves measuring out."""

    server: ModelServer
    http: Http
    deadline: float
    light: bool = False
    stop: threading.Event | None = None
    sink: Sink = silent
    folder: Path = probe_files.DEFAULT
    loading: float = field(default=0.0)

    @property
    def planned(self) -> PlannedModel:
        """What the plan says of the model."""
        return self.server.planned

    @property
    def root_url(self) -> str:
        """The server's address without "/v1"."""
        return root_of(self.server.base_url)

    def ask(
        self,
        question: str,
        expected: str,
        request: Callable[[float], T],
        *,
        max_tokens: int = 0,
        prompt_tokens: int = 0,
        within_s: float | None = None,
    ) -> T:
        """Make a request, which gets the seconds that it may take; the first one may load the model, too.

        Raises:
            VerifyError: it failed.
            StoppedError: the run was asked to stop.
        """
        self.refuse_stop()
        time_s = within_s or deadlines.request_s(
            self.planned, max_tokens=max_tokens, prompt_tokens=prompt_tokens
        )
        time_s, self.loading = time_s + self.loading, 0.0
        left = max(0.1, min(time_s, self.deadline - time.monotonic()))
        try:
            return self._watched(lambda: request(left), left)
        except HttpError as error:
            raise self.wrong(question, expected, str(error)) from None

    def _watched(self, request: Callable[[], T], time_s: float) -> T:
        """Run a request beside a look at the stop signal, so that nobody waits for a long answer."""
        if self.stop is None:
            return request()
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(request())
            except BaseException as error:  # noqa: BLE001  # it is raised again where it is waited for
                errors.append(error)

        thread = threading.Thread(target=run, name="verify-request", daemon=True)
        thread.start()
        late = time.monotonic() + time_s + deadlines.REQUEST_S
        while thread.is_alive() and time.monotonic() < late:
            thread.join(LOOK_S)
            self.refuse_stop()
        if errors:
            raise errors[0]
        if not results:
            raise HttpError(f"no answer within {time_s:.3g} s")
        return results[0]

    def check(self, answers: Iterable[Answer]) -> tuple[Answer, ...]:
        """Return the answers when all are right.

        Raises:
            VerifyError: one is wrong.
        """
        found = tuple(answers)
        for answer in found:
            if not answer.right:
                raise self.wrong(answer.question, answer.expected, answer.got)
        return found

    def refuse_stop(self) -> None:
        """Raise when the run was asked to stop."""
        if self.stop is not None and self.stop.is_set():
            what = f"stopped while {self.planned.model} was being verified"
            raise StoppedError(what, "it still runs", "start the run again")

    def wrong(self, question: str, expected: str, got: str) -> VerifyError:
        """Return the error for a wrong answer."""
        return self.error(f"answers wrongly: {question}? expected {expected}, got {got}")

    def error(self, what: str) -> VerifyError:
        """Return the error for a server that is not right."""
        log = self.server.process.log
        return VerifyError(
            f"{self.planned.model} on {self.server.base_url} {what}",
            INTACT,
            f"read {log}, then run `pmoves provision` again" if log else "run `pmoves provision` again",
        )

    def say(self, message: str) -> None:
        """Tell who watches."""
        self.sink(Event("verify", self.planned.model, message))


def shown(text: str) -> str:
    """Return a server's words as an error may have them: one line, quoted, cut."""
    line = printable(text)
    return f'"{line[:SHOWN]}..."' if len(line) > SHOWN else f'"{line}"' if line else "nothing"
