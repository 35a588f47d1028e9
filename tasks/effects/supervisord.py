"""The real `Supervisor`: one supervisord for each state folder, spoken to over its unix socket.

What supervisord cannot do is done here: it starts with a clean environment, and processes that an
earlier supervisord left behind (it was killed with SIGKILL) are ended by pid before a new one starts.
They are known by the variable `PMOVES_SUPERVISED`, which holds the state folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from tasks.contracts import ProcessSpec, ProcessState
from tasks.effects.files import try_lock, write_atomic
from tasks.effects.processes import spec_hash
from tasks.errors import ServeError

MARK = "PMOVES_SUPERVISED"
START_DEADLINE_S = 20.0
POLL_S = 0.05
SOCKET_PATH_LIMIT = 100
"""A unix socket's path holds at most 107 bytes on Linux (unix(7))."""

MAIN = """\
[supervisord]
logfile={folder}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile={folder}/supervisord.pid
nodaemon=true
silent=true
directory={folder}
{user}
[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files=programs/*.conf
"""

PROGRAM = """\
; {digest}
[program:{name}]
command={command}
environment={environment}
autorestart=true
startsecs=1
startretries=6
stopsignal=TERM
stopwaitsecs={stop_timeout_s}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


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
            return int(self._rpc().getPID())
        except (OSError, Fault):
            return 0

    def states(self) -> dict[str, ProcessState]:
        """Return every process it knows, by name; nothing when supervisord does not run."""
        try:
            rows = self._rpc().getAllProcessInfo()
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

    # --- changing ------------------------------------------------------------------------------

    def start(self, spec: ProcessSpec) -> ProcessState:
        """Start `spec` in place of a process of the same name; return when it has a pid.

        Raises:
            ServeError: supervisord or the process does not start.
        """
        with self._lock:
            self._ensure_running()
            self._replace(spec.name, self._render(spec))
            return self._wait_for_pid(spec.name)

    def stop(self, name: str) -> None:
        """Stop a process, wait until it ended, and forget it."""
        with self._lock:
            path = self._programs / f"{name}.conf"
            path.unlink(missing_ok=True)
            if name in self.states():
                self._drop(name)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, by its name without SIG, to a process."""
        self._rpc().signalProcess(name, signal)

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
                _end((pid,), patience_s=60.0)
            _end(orphans(self._state), patience_s=10.0)
            for path in self._programs.glob("*.conf"):
                path.unlink()
            return names

    # --- how -----------------------------------------------------------------------------------

    def _rpc(self) -> Any:  # noqa: ANN401  # xmlrpc's proxy has no static shape
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        return ServerProxy("http://127.0.0.1", transport=transport).supervisor

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

    def _render(self, spec: ProcessSpec) -> str:
        environment = (*spec.environment, (MARK, str(self._state)))
        return PROGRAM.format(
            digest=spec_hash(spec),
            name=spec.name,
            command=_escape(shlex.join(spec.command)),
            environment=",".join(f"{key}={_quote(value)}" for key, value in environment),
            stop_timeout_s=spec.stop_timeout_s,
            log=_escape(str(self._log(spec.name))),
        )

    def _replace(self, name: str, text: str) -> None:
        if name in self.states():
            self._drop(name)
        write_atomic(self._programs / f"{name}.conf", text, mode=0o600)
        self._log(name).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._rpc().reloadConfig()
            self._rpc().addProcessGroup(name)
        except Fault as fault:
            raise ServeError(
                f"supervisord does not take the process {name!r} ({fault.faultString})",
                "the other processes are untouched",
                f"read {self._folder}/supervisord.log",
            ) from fault

    def _drop(self, name: str) -> None:
        with contextlib.suppress(Fault):
            self._rpc().stopProcessGroup(name, True)  # noqa: FBT003  # XML-RPC has no keywords
        self._rpc().removeProcessGroup(name)

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
                _end(orphans(self._state), patience_s=10.0)
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
        user = "user=root\n" if os.geteuid() == 0 else ""
        config = self._folder / "supervisord.conf"
        write_atomic(config, MAIN.format(folder=self._folder, socket=self._socket, user=user), mode=0o600)
        subprocess.Popen(
            (sys.executable, "-m", "supervisor.supervisord", "-c", str(config)),
            env={"PATH": os.defpath, "HOME": str(Path.home()), "LANG": "C.UTF-8"},
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def orphans(state: Path, proc: Path = Path("/proc")) -> tuple[int, ...]:
    """Return the pids that carry the mark of `state`, apart from this process and its ancestors."""
    mark = f"{MARK}={state}".encode()
    own = _ancestors(proc)
    found = []
    for folder in proc.iterdir():
        if folder.name.isdecimal() and int(folder.name) not in own:
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return tuple(found)


def _ancestors(proc: Path) -> set[int]:
    pids, pid = set(), os.getpid()
    while pid and pid not in pids:
        pids.add(pid)
        with contextlib.suppress(OSError):
            pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return pids


def _end(pids: tuple[int, ...], *, patience_s: float) -> None:
    for sign, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        alive = [pid for pid in pids if _alive(pid)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + wait_s
        while any(_alive(pid) for pid in alive) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _socket_path(folder: Path) -> Path:
    path = folder / "supervisor.sock"
    if len(str(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"pmoves-{os.getuid()}-{digest}" / "supervisor.sock"


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _quote(text: str) -> str:
    """Quote a value for supervisord's environment line, which knows quotes but no escapes."""
    quote = "'" if '"' in text else '"'
    if quote in text or "\n" in text:
        raise ServeError(
            "an environment value holds a line break or both kinds of quotes, which supervisord cannot carry",
            "nothing was started",
            "change that value",
        )
    return f"{quote}{_escape(text)}{quote}"
