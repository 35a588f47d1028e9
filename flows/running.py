"""What runs on this host: processes of the supervisor, and containers of the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.measured import no_container
from flows.servers import engine
from flows.settings import Settings
from tasks.contracts import ContainerState, ProcessState
from tasks.effects.containers import EngineError
from tasks.effects.containers.info import UNIX
from tasks.effects.supervisord import Supervisord

STOP_S = 30


@dataclass(frozen=True, slots=True)
class Running:
    """What was found. `unseen` says why containers could not be looked for, where there may be some."""

    processes: tuple[ProcessState, ...]
    containers: tuple[ContainerState, ...]
    supervisor_pid: int
    unseen: str = ""


def running(settings: Settings) -> Running:
    """Look at what runs."""
    supervisor = Supervisord(settings.state)
    states = tuple(sorted(supervisor.states().values(), key=lambda one: one.name))
    containers, unseen = _containers(settings)
    return Running(states, containers, supervisor.pid(), unseen)


def has_engine(settings: Settings) -> bool:
    """Tell whether there may be an engine: a socket that is missing costs no look."""
    address = settings.engine
    return not address.startswith(UNIX) or Path(address.removeprefix(UNIX)).exists()


def _containers(settings: Settings) -> tuple[tuple[ContainerState, ...], str]:
    if not has_engine(settings):
        return (), ""
    asked = engine(settings)
    try:
        listed = sorted(asked.containers(), key=lambda one: one.name)
        return tuple(asked.inspect(one.id) or one for one in listed), ""
    except EngineError as error:
        return (), f"the container engine at {settings.engine} does not tell what runs ({error})"
    finally:
        with contextlib.suppress(EngineError):
            asked.close()


def container_pids(settings: Settings) -> Callable[[str], tuple[int, ...]]:
    """Return what tells the processes of a container of ours; without an engine, none has any."""
    if not has_engine(settings):
        return no_container
    asked = engine(settings)

    def pids(name: str) -> tuple[int, ...]:
        with contextlib.suppress(EngineError):
            found = asked.find(name)
            return asked.pids(found.id) if found is not None and found.owner and found.running else ()
        return ()

    return pids


def stop_containers(settings: Settings) -> tuple[tuple[str, ...], str]:
    """Stop and remove our containers; return their names, and why some may be left."""
    if not has_engine(settings):
        return (), ""
    asked, done = engine(settings), []
    try:
        for one in sorted(asked.containers(), key=lambda state: state.name):
            if one.running:
                asked.stop(one.id, timeout_s=STOP_S)
            asked.remove(one.id)
            done.append(one.name)
    except EngineError as error:
        return tuple(done), f"containers may still run: {settings.engine} does not do as asked ({error})"
    finally:
        with contextlib.suppress(EngineError):
            asked.close()
    return tuple(done), ""
