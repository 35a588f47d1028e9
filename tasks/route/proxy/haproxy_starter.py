"""HAProxy as a process: which program, and its start and end under the supervisor."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.contracts import ProcessSpec
from tasks.effects.processes import Supervisor, spec_hash
from tasks.route.proxy.contract import PROGRAM as NAME
from tasks.route.proxy.haproxy_config import CONFIG, MASTER

PROGRAM = "haproxy"
PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
VERSION = re.compile(r"^HAProxy version (\d+)\.(\d+)", re.MULTILINE)
OLDEST = (2, 4)
"""The first with `json_query` and `wait-for-body` (docs.haproxy.org/2.4/configuration.html)."""
NEEDED = ("Built with Lua version", "Built with the Prometheus exporter", "Built with OpenSSL version")
ASK_S = 20.0
ALERT = re.compile(r"\[ALERT\][^:]*: (?:config : )?(.*)")


class Starter(Protocol):
    """What brings HAProxy up and keeps it up: a supervisor or a container engine."""

    def certificate(self, path: Path) -> str:
        """Return where HAProxy finds a file of this host."""

    def objection(self, config: str) -> str:
        """Return why HAProxy would not take the config of that name, "" where nothing is known."""

    def running(self) -> bool:
        """Whether it runs, or is about to."""

    def fits(self, certificate: Path | None) -> bool:
        """Whether what runs was started as `start` would start it now."""

    def start(self, certificate: Path | None) -> None:
        """Start it, in place of what runs.

        Raises:
            ProvisionError: it does not start.
        """

    def stop(self) -> None:
        """Stop and forget it. Nothing happens where there is none."""

    def log_tail(self) -> str:
        """Return its last words, joined with " | "."""


def found(path_variable: str = PATH) -> Path | None:
    """Return the first HAProxy on a path that can do what is asked of it; None where there is none."""
    for folder in path_variable.split(":"):
        program = shutil.which(PROGRAM, path=folder) if folder else None
        if program and usable(program):
            return Path(program)
    return None


def usable(program: str) -> bool:
    """Whether a program is a HAProxy that is new enough and has Lua, TLS and the exporter for Prometheus."""
    try:
        said = subprocess.run(
            (program, "-vv"), capture_output=True, text=True, timeout=ASK_S, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return suits(said)


def suits(said: str) -> bool:
    """Whether what `haproxy -vv` printed is enough."""
    version = VERSION.search(said)
    new = version is not None and (int(version[1]), int(version[2])) >= OLDEST
    return new and all(one in said for one in NEEDED)


def arguments(folder: str) -> tuple[str, ...]:
    """Return what HAProxy is started with; all paths of its config are relative to the folder."""
    return ("-W", "-db", "-C", folder, "-f", CONFIG, "-S", f"unix@{MASTER},mode,600")


@dataclass(frozen=True, slots=True)
class ProcessStarter:
    """A process under the supervisor."""

    folder: Path
    supervisor: Supervisor
    program: Path
    name: str = NAME

    def certificate(self, path: Path) -> str:
        """Return the path itself."""
        return str(path.absolute())

    def objection(self, config: str) -> str:
        """Let the program read the config."""
        command = (str(self.program), "-c", "-C", str(self.folder), "-f", config)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        alerts = ALERT.findall(done.stdout + done.stderr)
        return "" if done.returncode == 0 else next(iter(alerts), f"exit code {done.returncode}")

    def running(self) -> bool:
        """Ask the supervisor."""
        state = self.supervisor.states().get(self.name)
        return state is not None and state.running

    def fits(self, certificate: Path | None) -> bool:  # noqa: ARG002  # a process reads any path
        """Compare the command."""
        state = self.supervisor.states().get(self.name)
        return state is not None and state.spec_hash == spec_hash(self.spec())

    def start(self, certificate: Path | None) -> None:  # noqa: ARG002  # the same
        """Start the process."""
        self.supervisor.start(self.spec())

    def stop(self) -> None:
        """Stop the process."""
        if self.name in self.supervisor.states():
            self.supervisor.stop(self.name)

    def log_tail(self) -> str:
        """Return the end of its log."""
        return self.supervisor.log_tail(self.name)

    def spec(self) -> ProcessSpec:
        """Return the process as it is wanted."""
        return ProcessSpec(self.name, (str(self.program), *arguments(str(self.folder.absolute()))))
