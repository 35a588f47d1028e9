"""The real `Supervisor`: one supervisord for each state folder, spoken to over its unix socket.

What supervisord cannot do is done here: it starts with a clean environment, and processes that an
earlier supervisord left behind (it was killed with SIGKILL) are ended by pid before a new one starts.
They are known by the variable `PMOVES_SUPERVISED`, which holds the state folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from tasks.contracts import ProcessSpec, ProcessState
from tasks.effects.files import try_lock, write_atomic
from tasks.effects.pids import MARK, end, orphans
from tasks.effects.programs import command_in, main_config, program
from tasks.errors import ServeError

START_DEADLINE_S = 20.0
POLL_S = 0.05
SOCKET_PATH_LIMIT = 100
"""A unix socket's path holds at most 107 bytes on Linux (unix(7))."""


class Supervisord:
    """Keeps the processes of one state folder running."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._folder = state / "supervisor"
        self._programs = self._folder / "programs"
        self._socket = _socket_path(self._folder)
        self._lock = threading.RLock()

    # --- looking -------------------------------------------------------------------------------

    def pid(self) -> int:
        """Return the pid of the running supervisord, or 0."""
        try:
            with self._rpc() as rpc:
                return int(rpc.getPID())
        except (OSError, Fault):
            return 0

    def states(self) -> dict[str, ProcessState]:
        """Return every process it knows, by name; nothing when supervisord does not run."""
        try:
            with self._rpc() as rpc:
                rows = rpc.getAllProcessInfo()
        except (OSError, Fault):
            return {}
        return {row["name"]: self._state_of(row) for row in rows}

    def snapshot(self) -> dict[str, str] | None:
        """Return the wanted programs as they are now, for `restore`; None when nothing runs."""
        if not self.pid():
            return None
        return {path.stem: path.read_text() for path in sorted(self._programs.glob("*.conf"))}

    def log_tail(self, name: str, lines: int = 5) -> str:
        """Return the last lines that a process printed, joined with " | "."""
        try:
            text = self._log(name).read_text(errors="replace")
        except OSError:
            return "no log"
        return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip()) or "empty log"

    def command(self, name: str) -> tuple[str, ...]:
        """Return the command that a process was started with; nothing when the name is not known."""
        try:
            return command_in((self._programs / f"{name}.conf").read_text())
        except OSError:
            return ()

    # --- changing ------------------------------------------------------------------------------

    def start(self, spec: ProcessSpec) -> ProcessState:
        """Start `spec` in place of a process of the same name; return when it has a pid.

        Raises:
            ServeError: supervisord or the process does not start.
        """
        with self._lock:
            self._ensure_running()
            self._replace(spec.name, program(spec, self._state, self._log(spec.name)))
            return self._wait_for_pid(spec.name)

    def recover(self) -> None:
        """Bring back what a supervisord that was killed had kept up; its processes are ended first."""
        if not self.pid() and orphans(self._state):
            with self._lock:
                self._ensure_running()

    def stop(self, name: str) -> None:
        """Stop a process, wait until it ended, and forget it."""
        with self._lock:
            path = self._programs / f"{name}.conf"
            path.unlink(missing_ok=True)
            if name in self.states():
                self._drop(name)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, by its name without SIG, to a process.

        Raises:
            ServeError: there is no such process, or no supervisord.
        """
        try:
            with self._rpc() as rpc:
                rpc.signalProcess(name, signal)
        except (OSError, Fault) as error:
            raise ServeError(
                f"the process {name!r} cannot be signalled ({error})",
                "it is as it was",
                "see `pmoves status`",
            ) from error

    def restore(self, before: dict[str, str] | None, *, keep: tuple[str, ...] = ()) -> None:
        """Go back to the programs of an earlier `snapshot`, apart from those named in `keep`."""
        with self._lock:
            if before is None and not keep:
                self.shutdown()
                return
            wanted = before or {}
            for name in [name for name in self.snapshot() or {} if name not in wanted and name not in keep]:
                self.stop(name)
            for name, text in wanted.items():
                if name not in keep and (self.snapshot() or {}).get(name) != text:
                    self._ensure_running()
                    self._replace(name, text)

    def shutdown(self) -> tuple[str, ...]:
        """Stop every process and supervisord itself; return the names of what was stopped."""
        with self._lock:
            names = tuple(name for name, state in self.states().items() if state.running)
            pid = self.pid()
            if pid:
                end((pid,), patience_s=60.0)
            left = orphans(self._state)
            end(left, patience_s=10.0)
            for path in self._programs.glob("*.conf"):
                path.unlink()
            return names + tuple(f"pid {one}" for one in left)

    # --- how -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        """Speak to supervisord over a connection of its own; threads may do so side by side."""
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        with ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            yield proxy.supervisor

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _state_of(self, row: dict[str, Any]) -> ProcessState:
        return ProcessState(
            name=row["name"],
            running=row["statename"] in {"RUNNING", "STARTING"},
            state=row["statename"].lower(),
            pid=row["pid"],
            started_at=float(row["start"]),
            spec_hash=self._digest(row["name"]),
            log=str(self._log(row["name"])),
        )

    def _digest(self, name: str) -> str:
        try:
            first = (self._programs / f"{name}.conf").read_text().partition("\n")[0]
        except OSError:
            return ""
        return first.removeprefix("; ")

    def _replace(self, name: str, text: str) -> None:
        if name in self.states():
            self._drop(name)
        write_atomic(self._programs / f"{name}.conf", text, mode=0o600)
        self._log(name).parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._rpc() as rpc:
                rpc.reloadConfig()
                rpc.addProcessGroup(name)
        except Fault as fault:
            raise ServeError(
                f"supervisord does not take the process {name!r} ({fault.faultString})",
                "the other processes are untouched",
                f"read {self._folder}/supervisord.log",
            ) from fault

    def _drop(self, name: str) -> None:
        with contextlib.suppress(Fault), self._rpc() as rpc:
            rpc.stopProcessGroup(name, True)  # noqa: FBT003  # XML-RPC has no keywords
        with self._rpc() as rpc:
            rpc.removeProcessGroup(name)

    def _wait_for_pid(self, name: str) -> ProcessState:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            state = self.states().get(name)
            if state and state.running and state.pid and self._has_become(state.pid):
                return state
            if state and state.state in {"fatal", "backoff", "exited"}:
                break
            time.sleep(POLL_S)
        raise ServeError(
            f"the process {name!r} ended while it started (last output: {self.log_tail(name)})",
            "the other processes are untouched",
            f"read {self._log(name)}",
        )

    def _has_become(self, pid: int) -> bool:
        """Whether the fork has become the program: until then it swallows signals meant for it."""
        with contextlib.suppress(OSError):
            return f"{MARK}={self._state}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def _ensure_running(self) -> None:
        with try_lock(self._folder / "start.lock") as mine:
            if self.pid():
                return
            if mine:
                end(orphans(self._state), patience_s=10.0)
                self._spawn()
            deadline = time.monotonic() + START_DEADLINE_S
            while not self.pid():
                if time.monotonic() > deadline:
                    raise ServeError(
                        "supervisord does not answer",
                        "nothing was started",
                        f"read {self._folder}/supervisord.log",
                    )
                time.sleep(POLL_S)

    def _spawn(self) -> None:
        self._programs.mkdir(parents=True, exist_ok=True)
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.unlink(missing_ok=True)
        config = self._folder / "supervisord.conf"
        write_atomic(config, main_config(self._folder, self._socket), mode=0o600)
        subprocess.Popen(
            (sys.executable, "-m", "supervisor.supervisord", "-c", str(config)),
            env={"PATH": os.defpath, "HOME": str(Path.home()), "LANG": "C.UTF-8"},
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _socket_path(folder: Path) -> Path:
    path = folder / "supervisor.sock"
    if len(str(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"pmoves-{os.getuid()}-{digest}" / "supervisor.sock"
