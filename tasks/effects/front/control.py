"""The front as stages see it: where each server is reached, and what serves there now."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.contracts import ProcessSpec
from tasks.effects.files import write_atomic
from tasks.effects.front.status import PortStatus, Status, ask
from tasks.effects.front.table import Row, TableError, digest, parse, render, table_path
from tasks.effects.processes import Supervisor, spec_hash
from tasks.errors import PortTakenError, ServeError

NAME = "front"
POLL_S = 0.02
ASK_AGAIN_S = 2.0
INTACT = "every server answers on its port as before"


@dataclass(frozen=True, slots=True)
class Backend:
    """A server's stable port, and the port of what serves it now; the rest is as in the table's rows."""

    port: int
    backend_port: int
    backend: str = ""
    mark: str = ""
    paths: tuple[str, ...] = ()


Backends = Mapping[str, Backend]
"""The backends of all servers, by the server's name."""


class StablePorts(Protocol):
    """What keeps ports while servers are replaced. One real implementation, and one in memory for tests."""

    def backends(self) -> Backends:
        """Return what is pointed where.

        Raises:
            ServeError: the table on the disk cannot be read.
        """

    def point(self, server: str, port: int, backend_port: int) -> None:
        """Send new requests for `server`, made to `port`, to `backend_port`; return once that is so.

        Raises:
            PortTakenError: somebody else has the port; everything is as it was.
            ServeError: the front does not start or does not follow; the table is as it was.
        """

    def drop(self, server: str) -> None:
        """Give up the port of a server. Its requests end; nothing happens when it is not known.

        Raises:
            ServeError: the front does not follow.
        """

    def drained(self, server: str, timeout_s: float) -> bool:
        """Wait until no request is in flight where `server` was pointed before; whether that came true."""

    def snapshot(self) -> Backends:
        """Return the backends as they are now, for `restore`."""

    def restore(self, snapshot: Backends) -> None:
        """Go back to an earlier `snapshot`. Do so before the servers of that time are stopped.

        Raises:
            PortTakenError: somebody else took a port meanwhile.
            ServeError: the front does not follow.
        """


def process_spec(folder: Path, python: str, name: str = NAME) -> ProcessSpec:
    """Return the front process. It is killed later than it cuts off its last requests."""
    command = (python, "-m", "tasks.effects.front", "--folder", str(folder))
    return ProcessSpec(name=name, command=command, stop_timeout_s=30)


@dataclass(frozen=True, slots=True)
class Front:
    """The real one: a table on the disk and a process called `name` that follows it."""

    folder: Path
    supervisor: Supervisor
    python: str
    deadline_s: float = 20.0
    name: str = NAME

    def backends(self) -> Backends:
        """Return what the table says; a front that was never started has none."""
        path = table_path(self.folder)
        try:
            rows = parse(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, TableError) as error:
            raise ServeError(
                f"{path} cannot be read: {error}",
                "the front goes on with the table that it read last",
                f"delete {path}, and run `pmoves provision` again: it writes the table anew",
            ) from error
        return {
            row.server: Backend(row.port, row.backend_port, row.backend, row.mark, row.paths) for row in rows
        }

    def point(self, server: str, port: int, backend_port: int) -> None:
        """Write the table, start the front or send it a hang-up, and wait until it follows."""
        self.lead(server, Backend(port, backend_port))

    def lead(self, server: str, backend: Backend) -> None:
        """Do the same, with all that a row of the table can say.

        Raises:
            PortTakenError, ServeError: see `StablePorts.point`.
        """
        with self._changing():
            self._change({**self.backends(), server: backend}, (backend.port,))

    def drop(self, server: str) -> None:
        """Take a server from the table. A front without any port is stopped."""
        with self._changing():
            before = self.backends()
            if server in before:
                self._change({name: backend for name, backend in before.items() if name != server}, ())

    def drained(self, server: str, timeout_s: float) -> bool:
        """Ask the status again and again."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self._status()
            if status.retired(server) == 0 if status else not self._runs():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)

    def status(self) -> Status | None:
        """Return what the front says of itself; None where it does not answer."""
        return self._status()

    def snapshot(self) -> Backends:
        """Return what the table says."""
        return self.backends()

    def restore(self, snapshot: Backends) -> None:
        """Write the table of that time, and wait until the front follows."""
        with self._changing():
            self._change(snapshot, tuple(backend.port for backend in snapshot.values()))

    # --- how -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the table for a block; the kernel lets go of it when the process ends."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "table.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _change(self, wanted: Backends, needed: tuple[int, ...]) -> None:
        """Bring table and process to `wanted`; put both back when a `needed` port is not to be had."""
        before, ran = self.backends(), self._runs()
        try:
            self._bring_to(wanted, needed)
        except BaseException:
            with contextlib.suppress(PortTakenError, ServeError):
                self._write(before)
                if ran:
                    self._bring_to(before, ())
                else:
                    self.supervisor.stop(self.name)
            raise

    def _bring_to(self, wanted: Backends, needed: tuple[int, ...]) -> None:
        text = self._write(wanted)
        if wanted:
            self._follow(digest(text.encode()), needed)
        elif self.name in self.supervisor.states():
            self.supervisor.stop(self.name)

    def _write(self, wanted: Backends) -> str:
        text, path = table_text(wanted), table_path(self.folder)
        refuse_wrong(text)
        if not path.exists() or path.read_text() != text:
            write_atomic(path, text, mode=0o600)
        return text

    def _follow(self, wanted: str, needed: tuple[int, ...]) -> None:
        """Let the process read the table, and wait until it uses it.

        Where a needed port is refused, it is to try again: it may be free by now.
        """
        spec = process_spec(self.folder, self.python, self.name)
        state = self.supervisor.states().get(self.name)
        status, seen = self._status(), (0, 0)
        if state is None or not state.running or state.spec_hash != spec_hash(spec):
            self.supervisor.start(spec)
        elif status is None or status.table_hash != wanted or status.refused(needed):
            seen = status.reading if status else seen
            self._hang_up()
        self._wait(wanted, needed, seen)

    def _wait(self, wanted: str, needed: tuple[int, ...], seen: tuple[int, int]) -> None:
        now = time.monotonic()
        deadline, ask_again = now + self.deadline_s, now + ASK_AGAIN_S
        while True:
            status = self._status()
            if status and status.table_hash == wanted and status.reading != seen:
                _refuse_taken(status.refused(needed))
                return
            now = time.monotonic()
            state = self.supervisor.states().get(self.name)
            if now > deadline or state is None or state.state == "fatal":
                raise self._failure(status)
            if status and now > ask_again:
                # A front that was starting, and passed the first hang-up over.
                self._hang_up()
                ask_again = now + ASK_AGAIN_S
            time.sleep(POLL_S)

    def _hang_up(self) -> None:
        """Ask the front to read its table. One that ended just now reads it as it comes back."""
        with contextlib.suppress(ServeError):
            self.supervisor.signal(self.name, "HUP")

    def _status(self) -> Status | None:
        """Ask the front; whoever answers with another pid is an older one."""
        status = ask(self.folder)
        state = self.supervisor.states().get(self.name)
        return status if status and state and status.pid == state.pid else None

    def _runs(self) -> bool:
        state = self.supervisor.states().get(self.name)
        return state is not None and state.running

    def _failure(self, status: Status | None) -> ServeError:
        said = status.last_reading.error if status else self.supervisor.log_tail(self.name)
        state = self.supervisor.states().get(self.name)
        return ServeError(
            f"the front did not take its table within {self.deadline_s:g} s ({said or 'it says nothing'})",
            INTACT,
            f"read {state.log if state else 'the supervisor log'}",
        )


def table_text(backends: Backends) -> str:
    """Return the table of these backends."""
    return render(
        Row(name, one.port, one.backend_port, one.backend, one.mark, one.paths)
        for name, one in backends.items()
    )


def refuse_wrong(text: str) -> None:
    """Refuse a table that contradicts itself.

    Raises:
        ServeError: says how.
    """
    try:
        parse(text.encode())
    except TableError as error:
        raise ServeError(
            f"the servers cannot have these ports: {error}", INTACT, "change one of them"
        ) from None


def _refuse_taken(refused: PortStatus | None) -> None:
    if refused is None:
        return
    raise PortTakenError(
        f"{refused.error}, where {refused.server} is to answer",
        f"whoever has the port is untouched, and {INTACT}",
        f"free it (`ss -ltnp 'sport = :{refused.port}'` shows who holds it) or choose another port",
    )
