"""What is said of a container that died, or of an engine that does not do what it was asked."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tasks.contracts import ContainerState, ServerLog
from tasks.effects.containers import EngineError
from tasks.effects.containers.engine import (
    EngineGoneError,
    NameTakenError,
    NoGpuError,
    NotOursError,
    PortBusyError,
)
from tasks.effects.files import write_atomic
from tasks.errors import PortTakenError, ServeError, ServerDiedError
from tasks.serve.causes import cause_of, printable
from tasks.serve.context import Containers, Running
from tasks.serve.ready import INTACT
from tasks.serve.spec import memory_limit

KEPT_LINES = 500
TAIL_CHARACTERS = 4000


def died(
    running: Running, containers: Containers, subject: str, state: ContainerState | None = None
) -> ServerDiedError | None:
    """Return why a container is not running any more, and keep its log; None while it runs.

    Args:
        running: the server.
        containers: the engine, and where logs are kept.
        subject: what it serves, as errors name it.
        state: what is known of it already; the engine is asked where it is None.
    """
    there = running.container
    if there is None:
        return None
    if state is None:
        try:
            state = containers.engine.inspect(there.id)
        except EngineError:
            return None
        if not ended(state, kept=running.change.kind == "keep"):
            return None
    log = last_words(there, containers)
    server = containers.servers.get(running.name)
    limit_bytes = memory_limit(server.memory_bytes) if server else 0
    cause = cause_of(state, log, limit_bytes=limit_bytes)
    path = keep_log(running.name, log, cause.text, containers)
    then = f"{cause.then} (its log is {path})" if cause.then else f"read {path}"
    return ServerDiedError(f"the server of {subject} died: {cause.text}", INTACT, then)


def ended(state: ContainerState | None, *, kept: bool) -> bool:
    """Tell whether a container has ended; one that this run made has also when it was started again since."""
    return state is None or not state.running or (state.restarts > 0 and not kept)


def last_words(there: ContainerState, containers: Containers) -> str:
    """Return the last lines of a container; "" where the engine does not give them."""
    with contextlib.suppress(EngineError):
        return containers.engine.logs(there.id, lines=KEPT_LINES)
    return ""


def log_path(server: str, containers: Containers) -> Path:
    """Return where the last words of a server are kept: its container goes, and its log with it."""
    return containers.logs / f"{server}.log"


def keep_log(server: str, log: str, cause: str, containers: Containers) -> Path:
    """Keep the last words of a server that failed, for the record and for who reads on; return where."""
    path = log_path(server, containers)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, log, mode=0o600)
    containers.died.append(ServerLog(server, cause, printable(log)[-TAIL_CHARACTERS:]))
    return path


THEN: tuple[tuple[type[EngineError], str], ...] = (
    (EngineGoneError, "see that the container engine runs, then run `pmoves provision` again"),
    (NameTakenError, "rename or remove that container: it is not this program's"),
    (NotOursError, "rename or remove that container: it is not this program's"),
    (NoGpuError, "run `pmoves doctor`, which says what the engine can hand out"),
)


def engine_failed(
    server: str, error: EngineError, doing: str = "cannot be started"
) -> ServeError | PortTakenError:
    """Return what is said when the engine does not do what a server needs."""
    if isinstance(error, PortBusyError):
        return PortTakenError(
            f"{server} {doing} ({error})",
            "what ran before still runs",
            "end the program that holds the port, or set PMOVES_MODEL_PORT",
        )
    then = next(
        (text for kind, text in THEN if isinstance(error, kind)), "run `pmoves doctor` to see the engine"
    )
    return ServeError(f"{server} {doing} ({error})", "what ran before still runs", then)
