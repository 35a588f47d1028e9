"""Processes: what runs as wanted stays, what does not is started, and what fails leaves its last words."""

from __future__ import annotations

import dataclasses
import sys
import threading

import pytest

from tasks.contracts import Change, ProcessSpec, ProcessState, PulledModel
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.effects.processes import spec_hash
from tasks.errors import PortTakenError, ServeError, StoppedError
from tasks.serve import apply
from tasks.serve import ready as waiting
from tasks.serve.apply import ServeContext
from tasks.serve.changes import decide
from tasks.serve.hosts import process
from tests.conftest import planned

NAME = "model-all-minilm-l6-v2"
PULLED = PulledModel(
    planned=planned(),
    cache="/hub",
    snapshot="/hub/x",
    source="",
    fetched_bytes=0,
    seconds=0,
    change=Change("weights", "keep", "digests match"),
)


class MemorySupervisor:
    """Remembers what it was asked to start and stop."""

    def __init__(self, *, dies: bool = False) -> None:
        self.processes: dict[str, ProcessState] = {}
        self.calls: list[str] = []
        self._dies = dies

    def states(self) -> dict[str, ProcessState]:
        """Return what runs."""
        return dict(self.processes)

    def start(self, spec: ProcessSpec) -> ProcessState:
        """Run, or give up at once."""
        self.calls.append(f"start {spec.name}")
        state = "fatal" if self._dies else "running"
        pid = 100 + len(self.calls)
        self.processes[spec.name] = ProcessState(
            spec.name, not self._dies, state, pid, 0.0, spec_hash(spec), "/log"
        )
        return self.processes[spec.name]

    def stop(self, name: str) -> None:
        """Forget."""
        self.calls.append(f"stop {name}")
        self.processes.pop(name, None)

    def signal(self, name: str, signal: str) -> None:
        """Take no notice."""

    def log_tail(self, name: str, lines: int = 5) -> str:
        """Return last words."""
        return f"{name} says no ({lines})"


@pytest.fixture(autouse=True)
def _free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "listener", lambda _port: False)


@pytest.fixture(autouse=True)
def _no_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SLOWEST_BYTES_PER_S", 1 << 40)


def ready(_request: Request) -> Reply:
    """Answer as a server that has loaded its model."""
    return Reply(200, b"{}", 0.0)


def loading(_request: Request) -> Reply:
    """Answer as a server that has not."""
    return Reply(503, b"loading", 0.0)


def refused(_request: Request) -> Reply:
    """Answer as no server at all."""
    raise HttpError("the connection is refused")


def context(supervisor: MemorySupervisor, answer: object = ready, **extra: object) -> ServeContext:
    """Return a context in which nothing is real."""
    return ServeContext(
        supervisor, MemoryHttp(answer), sys.executable, deadline_s=0.3, patience_s=0.1, **extra  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_is_missing_is_created() -> None:
    """With its reason."""
    supervisor = MemorySupervisor()

    server = apply.serve(PULLED, context(supervisor))

    assert Change(f"process {NAME}", "create", "there is no process of that name") == server.change
    assert [f"start {NAME}"] == supervisor.calls
    assert "http://127.0.0.1:7990/v1" == server.base_url


def test_what_runs_as_wanted_is_kept() -> None:
    """Nothing is started or stopped."""
    supervisor = MemorySupervisor()
    first = apply.serve(PULLED, context(supervisor))

    second = apply.serve(PULLED, context(supervisor))

    assert "keep" == second.change.kind
    assert first.process.pid == second.process.pid
    assert [f"start {NAME}"] == supervisor.calls


def test_what_runs_and_does_not_answer_is_replaced() -> None:
    """A server that hangs is stopped and started once; here it hangs again."""
    supervisor = MemorySupervisor()
    apply.serve(PULLED, context(supervisor))

    with pytest.raises(ServeError, match=r"did not answer http://127.0.0.1:7990/health within 0 s"):
        apply.serve(PULLED, context(supervisor, loading))

    assert [f"start {NAME}", f"stop {NAME}", f"start {NAME}"] == supervisor.calls


def test_weights_that_were_replaced_are_loaded_again() -> None:
    """A server that read damaged weights does not keep them in memory."""
    supervisor = MemorySupervisor()
    apply.serve(PULLED, context(supervisor))
    mended = dataclasses.replace(PULLED, change=Change("weights", "replace", "was damaged"))

    server = apply.serve(mended, context(supervisor))

    assert ("replace", "the weights it loaded were damaged and have been replaced") == (
        server.change.kind,
        server.change.reason,
    )


def test_a_server_that_dies_shows_its_last_words() -> None:
    """The sentence has the log's end and where to read on."""
    with pytest.raises(ServeError, match=rf"keeps ending while it starts \(last output: {NAME} says no"):
        apply.serve(PULLED, context(MemorySupervisor(dies=True), refused))


def test_a_stranger_on_the_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started beside it."""
    monkeypatch.setattr(process, "listener", lambda _port: True)
    supervisor = MemorySupervisor()

    with pytest.raises(PortTakenError, match=r"port 7990 on 127\.0\.0\.1"):
        apply.serve(PULLED, context(supervisor))

    assert [] == supervisor.calls


def test_a_run_that_is_stopped_stops_waiting() -> None:
    """Even while a server still loads."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        apply.serve(PULLED, context(MemorySupervisor(), loading, stop=stop))


def state(**changes: object) -> ProcessState:
    """Return a process that runs as wanted, but for `changes`."""
    made = ProcessState("a", running=True, state="running", pid=1, started_at=0, spec_hash="w" * 64, log="")
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("actual", "replaced", "kind"),
    [
        (None, False, "create"),
        (state(), False, "keep"),
        (state(), True, "replace"),
        (state(spec_hash="x" * 64), False, "replace"),
        (state(running=False, state="fatal"), False, "replace"),
    ],
)
def test_decisions(actual: ProcessState | None, kind: str, *, replaced: bool) -> None:
    """Desired against actual."""
    change = decide("a", "w" * 64, actual, weights_replaced=replaced)

    assert kind == change.kind
    assert change.reason
