"""One run on one host: its lock, its stop signal, its clock, and what is undone when it fails.

<state>/run.lock    held while a run changes this host (the kernel drops it when the run ends)
<state>/run.json    who holds it
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from flows.servers import MODEL, front, gateway_programs
from flows.settings import Settings
from tasks.contracts import Change, Event, Outcome, RunRecord, Sink, Stage, Timing
from tasks.effects.containers import EngineError
from tasks.effects.files import try_lock, write_atomic
from tasks.effects.front.control import Backends
from tasks.effects.supervisord import Supervisord
from tasks.errors import (
    BusyError,
    ProvisionError,
    RefusedError,
    ServeError,
    StateFolderError,
    StoppedError,
    UsageError,
)
from tasks.serve.ledger import Ledger

CONTROL_PLANE = ("prefect-server", "prefect-worker")
"""Processes that a failed run leaves up, so that its evidence can be read."""

HOLDING: ContextVar[Path | None] = ContextVar("holding", default=None)
"""The state folder whose host this command already holds, for the run that it starts itself."""

WAIT = "wait for it, or let this one wait with --wait MINUTES"
POLL_S = 0.5


def new_run_id() -> str:
    """Return a run's name: sortable by time, unique on the host."""
    return datetime.now(UTC).strftime("%Y%m%dt%H%M%Sz-") + secrets.token_hex(2)


class HostRun:
    """Holds the host while a run changes it; on failure, goes back to the processes of before.

    Args:
        settings: Where everything is.
        sink: Who watches.
        wait_s: How long to wait for another run on this host; 0 refuses at once.
        changes_host: False for a dry run, which takes no lock and undoes nothing.
    """

    def __init__(
        self, settings: Settings, sink: Sink, *, wait_s: float = 0, changes_host: bool = True
    ) -> None:
        self.run = new_run_id()
        self.settings = settings
        self.sink = sink
        self.stop = threading.Event()
        self.supervisor = Supervisord(settings.state)
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._wait_s = wait_s
        self._changes_host = changes_host
        self._begun = time.monotonic()
        self._timings: list[Timing] = []
        self._locks = ExitStack()
        self._before: dict[str, str] | None = None
        self._front = front(settings, self.supervisor)
        self._fronted: Backends = {}
        self.ledger: Ledger | None = None
        self.revert: Callable[[], str] | None = None

    def __enter__(self) -> Self:
        if self._changes_host:
            for folder in (self.settings.state, self.settings.store):
                refuse_unwritable(folder)
            if HOLDING.get() != self.settings.state:
                self._locks.enter_context(host_lock(self.settings.state, self.run, wait_s=self._wait_s))
            self._before = self.supervisor.snapshot()
            with contextlib.suppress(ServeError):  # a table that cannot be read stays as it is
                self._fronted = self._front.backends()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        undo = error is not None and self._changes_host
        changed_processes = undo and self.supervisor.snapshot() != self._before
        try:
            if changed_processes:
                self.say("record", "undo", "going back to the processes of before this run")
                self._end_new_servers()
            self._settle_containers(undo=error is not None)
            if changed_processes:
                keep = (*CONTROL_PLANE, *gateway_programs(self._before, self.supervisor.snapshot()))
                self.supervisor.restore(self._before, keep=keep)
            if undo and self.ledger is None:
                self._point_back()
            if undo:
                self._revert_gateway()
        finally:
            self._locks.close()

    @property
    def servers_before(self) -> frozenset[str]:
        """The processes that served models before this run."""
        return frozenset(name for name in self._before or () if name.startswith(MODEL))

    def _end_new_servers(self) -> None:
        """End what this run started, so that the front can have the ports of before again."""
        started = [name for name in self.supervisor.snapshot() or {} if name.startswith(MODEL)]
        for name in sorted(set(started) - self.servers_before):
            self.supervisor.stop(name)

    def _point_back(self) -> None:
        """Give the front its ports back, where no engine answered and so no ledger does."""
        try:
            if self._front.backends() != self._fronted:
                self._front.restore(self._fronted)
        except ProvisionError as failure:
            self.say("record", "undo", f"the front could not be brought back ({failure})")

    def _revert_gateway(self) -> None:
        """Let the gateway lead to the servers of before, where it was switched in this run."""
        try:
            if self.revert is not None and (now := self.revert()):
                self.say("record", "undo", f"the gateway went back: {now}")
        except (EngineError, ProvisionError, OSError) as failure:
            self.say("record", "undo", f"the gateway could not be brought back ({failure})")

    def _settle_containers(self, *, undo: bool) -> None:
        """Undo what was done to containers, or make it final; neither keeps the rest from being done."""
        if self.ledger is None:
            return
        try:
            for failed in self.ledger.rollback() if undo else self.ledger.commit():
                self.say("record", "undo", failed)
        except (EngineError, ProvisionError) as failure:
            self.say("record", "containers", f"what this run replaced could not be removed ({failure})")

    def say(self, stage: Stage, subject: str, message: str) -> None:
        """Tell who watches."""
        self.sink(Event(stage, subject, message))

    @contextlib.contextmanager
    def timed(self, stage: Stage, subject: str) -> Iterator[None]:
        """Keep how long a stage takes for a subject, also when it fails."""
        begun = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            self._timings.append(Timing(stage, subject, round(begun - self._begun, 3), round(now - begun, 3)))

    def record(self, *, error: BaseException | None, flow_run: str, wanted: str) -> RunRecord:
        """Begin the record of this run; the flow fills in what its stages returned."""
        return RunRecord(
            run=self.run,
            version=version("pmoves-provisioner"),
            host=self.settings.host,
            started_at=self.started_at,
            seconds=round(time.monotonic() - self._begun, 3),
            outcome=outcome_of(error),
            error=sentence(error),
            flow_run=flow_run,
            profile_wanted=wanted,
            timings=tuple(sorted(self._timings, key=lambda one: one.start_s)),
        )


def outcome_of(error: BaseException | None) -> Outcome:
    """Name how a run ended."""
    if error is None:
        return "changed"
    if isinstance(error, (RefusedError, UsageError, BusyError)):
        return "refused"
    if isinstance(error, StoppedError) or not isinstance(error, Exception):
        return "interrupted"
    return "failed"


def sentence(error: BaseException | None) -> str:
    """Write an error as one sentence; one that nobody foresaw keeps its type."""
    if error is None:
        return ""
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C or a signal"
    return str(error) if isinstance(error, ProvisionError) else f"{type(error).__name__}: {error}"


def refuse_unwritable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before anything is done.

    Raises:
        StateFolderError: it cannot be created or written.
    """
    probe = folder / f".writable-{os.getpid()}-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StateFolderError(
            f"{folder} cannot be written ({error.strerror})",
            "nothing was changed",
            "give this user the right to write there, or set PMOVES_STATE or HF_HUB_CACHE to another folder",
        ) from error


@contextlib.contextmanager
def host_lock(state: Path, run: str, *, wait_s: float = 0, then: str = WAIT) -> Iterator[None]:
    """Hold this host for one run; wait up to `wait_s` for a run that holds it.

    Raises:
        BusyError: another run holds it.
    """
    deadline = time.monotonic() + wait_s
    while True:
        with ExitStack() as stack:
            lock: AbstractContextManager[bool] = try_lock(state / "run.lock")
            if stack.enter_context(lock):
                write_atomic(state / "run.json", json.dumps({"run": run, "pid": os.getpid()}))
                try:
                    yield
                finally:
                    (state / "run.json").unlink(missing_ok=True)
                return
        if time.monotonic() >= deadline:
            raise BusyError(
                f"another run holds this host ({_holder(state)})",
                "it goes on and this one changed nothing",
                then,
            )
        time.sleep(POLL_S)


@contextlib.contextmanager
def command_lock(state: Path, command: str, *, wait_s: float = 0, then: str = WAIT) -> Iterator[None]:
    """Hold this host for a whole command; a run that it starts itself does not ask again."""
    with host_lock(state, command, wait_s=wait_s, then=then):
        before = HOLDING.set(state)
        try:
            yield
        finally:
            HOLDING.reset(before)


def _holder(state: Path) -> str:
    try:
        holder = json.loads((state / "run.json").read_text())
        return f"run {holder['run']}, pid {holder['pid']}"
    except (OSError, ValueError, KeyError):
        return "it is just starting"


def changed(changes: tuple[Change, ...]) -> bool:
    """Whether anything was done."""
    return any(change.kind != "keep" for change in changes)
