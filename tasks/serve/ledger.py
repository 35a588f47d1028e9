"""What a run did to containers, so that it can be undone, or made final. Nothing is removed before the end.

While a server is swapped there are up to three containers:

    pmoves-<server>-next     the new one, until its answers are right
    pmoves-<server>          the one that the front points to
    pmoves-<server>-before   the old one, until the run has ended well; it runs on where there is room for
    both
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tasks.contracts import ContainerState
from tasks.effects.containers import EngineError
from tasks.effects.containers.engine import Engine
from tasks.effects.front.control import Backend, StablePorts
from tasks.errors import ProvisionError, StoppedError

PREFIX, NEXT, BEFORE = "pmoves-", "-next", "-before"
STOP_S = 30
DRAIN_S = 60.0
"""How long requests that an old container still answers are waited for, for all servers of a run together."""

BACK_S = 10.0
"""The same for a new container whose run failed, before it is removed."""

ALIVE = ("running", "restarting", "paused")
Say = Callable[[str, str], None]


def container_name(server: str) -> str:
    """Return the name of a server's container."""
    return f"{PREFIX}{server}"


def alive(state: ContainerState | None) -> bool:
    """Tell whether a container is up, or an engine brings it up again and again."""
    return state is not None and state.state in ALIVE


@dataclass(slots=True)
class Entry:
    """What was done to one server. `old` is None where there was none, `new` where there is none any more.

    `first` says that the old one had to stop before something new could load: there is no room for both.
    `lock` is held while something is done to its containers, so that a rollback finds nothing half done.
    """

    server: str
    old: ContainerState | None = None
    new: ContainerState | None = None
    promoted: bool = False
    stopped: bool = False
    first: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)


class Ledger:
    """The entries of one run, in the order in which they were begun."""

    def __init__(self, engine: Engine, front: StablePorts, say: Say = lambda _server, _message: None) -> None:
        self._engine = engine
        self._front = front
        self._say = say
        self._before = front.snapshot()
        self._lock = threading.RLock()
        self._over = False
        self.entries: dict[str, Entry] = {}

    def open(self, server: str, old: ContainerState | None) -> Entry:
        """Begin with a server: note what it is now.

        Raises:
            StoppedError: the run is over, and nobody would undo it any more.
        """
        with self._lock:
            self._refuse_over(server)
            return self.entries.setdefault(server, Entry(server, old))

    def stop(self, entry: Entry, *, first: bool = False) -> None:
        """Stop the old container of an entry, and keep it.

        Args:
            entry: whose container it is.
            first: whether it is stopped because something new needs its room.

        Raises:
            StoppedError: the run is over.
        """
        with entry.lock:
            self._refuse_over(entry.server)
            if entry.old is not None and not entry.stopped:
                entry.stopped, entry.first = True, first
                self._engine.stop(entry.old.id, timeout_s=STOP_S)

    def promote(self, entry: Entry, port: int) -> None:
        """Give the new container the name of the old one, and let the front point to it.

        Raises:
            StoppedError: the run is over.
        """
        with entry.lock:
            self._refuse_over(entry.server)
            if entry.new is None or entry.promoted:
                return
            name = container_name(entry.server)
            if entry.old is not None:
                self._engine.rename(entry.old.id, name + BEFORE)
            entry.promoted = True
            self._engine.rename(entry.new.id, name)
            self.point(entry.server, port, entry.new.published)

    def point(self, server: str, port: int, backend_port: int) -> None:
        """Let a stable port lead to a container; a server that had the port before gives it up."""
        with self._lock:
            table = dict(self._front.backends())
            wanted = Backend(port, backend_port)
            if table.get(server) == wanted:
                return
            rest = {name: one for name, one in table.items() if name != server}
            others = {name: one for name, one in rest.items() if one.port != port}
            if others == rest:
                self._front.point(server, port, backend_port)
            else:
                self._front.restore({**others, server: wanted})

    def keep(self, server: str, port: int, backend_port: int) -> None:
        """Let a stable port lead to a container that stays, now and after a rollback."""
        with self._lock:
            self._refuse_over(server)
            self._stays(server, backend_port)
            self.point(server, port, backend_port)

    def mend(self, server: str, backend_port: int) -> None:
        """Let the port that a server has lead to the container that stays, now and after a rollback."""
        with self._lock:
            self._stays(server, backend_port)
            there = self._front.backends().get(server)
            if there is not None:
                self.point(server, there.port, backend_port)

    def _stays(self, server: str, backend_port: int) -> None:
        before = self._before.get(server)
        if before is not None:
            mended = dataclasses.replace(before, backend_port=backend_port)
            self._before = {**self._before, server: mended}

    def retire(self, server: str, state: ContainerState) -> None:
        """Take a server that is not planned any more from the front, and stop it."""
        entry = self.open(server, state)
        if server in self._front.backends():
            self._front.drop(server)
        if alive(state):
            self.stop(entry)
        entry.stopped = True

    def discard(self, entry: Entry) -> None:
        """Remove the new container of an entry that failed, and start the old one again if it was stopped."""
        with entry.lock:
            try:
                if entry.new is not None:
                    self._engine.remove(entry.new.id)
                    entry.new = None
            finally:
                if entry.old is not None and entry.stopped:
                    if alive(entry.old):
                        self._engine.start(entry.old.id)
                    entry.stopped = False

    def commit(self) -> tuple[str, ...]:
        """Make all of it final: remove what was replaced; return what could not be removed."""
        late = time.monotonic() + DRAIN_S
        over = [
            entry
            for entry in self._close()
            if entry.promoted or (entry.new is None and (entry.stopped or not alive(entry.old)))
        ]
        failed = [self._attempt(one.server, partial(self._bury, one, late), "removed") for one in over]
        return tuple(filter(None, failed))

    def _bury(self, entry: Entry, late: float) -> None:
        """Remove the old container of an entry, after its last request where it still runs."""
        if entry.old is None:
            return
        if alive(entry.old) and not entry.stopped:
            self._front.drained(entry.server, max(0.0, late - time.monotonic()))
            self._engine.stop(entry.old.id, timeout_s=STOP_S)
        self._engine.remove(entry.old.id)

    def rollback(self) -> tuple[str, ...]:
        """Undo all of it; return what could not be undone, which keeps nothing else from it."""
        failed: list[str] = []
        undone = tuple(reversed(self._close()))
        failed += [self._attempt(one.server, partial(self._give_back, one)) for one in undone]
        if any(one.first for one in undone):
            failed += [self._attempt(one.server, partial(self._make_way, one)) for one in undone]
        failed += [self._attempt(one.server, partial(self._revive, one)) for one in undone]
        failed += [self._attempt("the front", self._point_back)]
        failed += [self._attempt(one.server, partial(self._clear, one)) for one in undone]
        return tuple(filter(None, failed))

    def _close(self) -> tuple[Entry, ...]:
        """Let nothing more be done; what is just being done ends before its entry's lock is to be had."""
        with self._lock:
            entries = tuple(self.entries.values())
            self.entries.clear()
            self._over = True
            return entries

    def _refuse_over(self, server: str) -> None:
        if self._over:
            raise StoppedError(
                f"nothing more is done to {server}, because the run is over",
                "what ran before still runs",
                "start the run again",
            )

    def _attempt(self, what: str, act: Callable[[], None], verb: str = "brought back") -> str:
        try:
            act()
        except (EngineError, ProvisionError, OSError) as error:
            return f"{what} could not be {verb} ({error})"
        return ""

    def _give_back(self, entry: Entry) -> None:
        """Let the front lead to an old one that still runs, and remove the new one after its last request."""
        with entry.lock:
            before = self._before.get(entry.server)
            if not (entry.promoted and alive(entry.old)) or entry.stopped or before is None:
                return
            self.point(entry.server, before.port, before.backend_port)
            self._front.drained(entry.server, BACK_S)
            if entry.new is not None:
                self._engine.remove(entry.new.id)
                entry.new = None

    def _make_way(self, entry: Entry) -> None:
        """Remove what is new before the old ones start: the host has no room for both."""
        with entry.lock:
            if entry.new is not None:
                self._engine.remove(entry.new.id)
                entry.new = None

    def _revive(self, entry: Entry) -> None:
        with entry.lock:
            if entry.old is not None and alive(entry.old) and entry.stopped:
                self._say(entry.server, "starting the container of before again")
                self._engine.start(entry.old.id)

    def _point_back(self) -> None:
        with self._lock:
            if self._front.backends() != self._before:
                self._front.restore(self._before)

    def _clear(self, entry: Entry) -> None:
        with entry.lock:
            if entry.new is not None:
                self._engine.remove(entry.new.id)
            if entry.promoted and entry.old is not None:
                self._engine.rename(entry.old.id, container_name(entry.server))
