"""One simulated host: its own state, ports, home and Prefect server, driven through `pmoves`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.effects.network import listener
from tasks.effects.pids import orphans
from tasks.effects.supervisord import Supervisord
from tests.lab.environment import free_port, host_environment

PATIENCE_S = 240
STABLE_PORTS, PORTS_EACH, BEHIND = (12_000, 22_000), 10, 10_000
PMOVES = (sys.executable, "-m", "flows.cli")


def until(condition: Callable[[], object], what: str, *, patience_s: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what)
        time.sleep(0.05)


def free_ports() -> int:
    """Return the first of several ports in a row that nobody has, as those of the containers behind them.

    They lie below those that the kernel gives to clients, of which any may be taken a moment later.
    """
    while True:
        first = random.randrange(*STABLE_PORTS, PORTS_EACH)  # noqa: S311  # any will do
        row = range(first, first + PORTS_EACH)
        if not any(listener(port) or listener(port + BEHIND) for port in row):
            return first


@dataclass(frozen=True)
class LabHost:
    """A host that is not this one, as far as this program can tell."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def make(cls, folder: Path, cache: Path, *, prefect_port: int = 0) -> LabHost:
        """Make a host below `folder` with the weight store `cache`."""
        environment = host_environment(folder, cache, prefect_port=prefect_port or free_port())
        return cls(folder, {**environment, "PMOVES_MODEL_PORT": str(free_ports())})

    @property
    def state(self) -> Path:
        """Its state folder."""
        return Path(self.environment["PMOVES_STATE"])

    @property
    def supervisor(self) -> Supervisord:
        """Its supervisor."""
        return Supervisord(self.state)

    @property
    def api(self) -> str:
        """Its Prefect API."""
        return self.environment["PREFECT_API_URL"]

    @property
    def gateway(self) -> str:
        """Its gateway's address for OpenAI clients."""
        return f"http://127.0.0.1:{self.environment['PMOVES_GATEWAY_PORT']}/openai/v1"

    def but(self, **environment: str) -> LabHost:
        """Return the same host with other variables."""
        return LabHost(self.folder, {**self.environment, **environment})

    def pmoves(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on it."""
        return subprocess.run(
            (*PMOVES, *arguments),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command on it, in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            (*PMOVES, *arguments),
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def json(self, *arguments: str) -> Any:  # noqa: ANN401  # JSON has many shapes
        """Run a command and return what it printed as JSON."""
        done = self.pmoves(*arguments, "--json")
        if done.returncode:
            raise AssertionError(f"exit code {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def running(self) -> dict[str, int]:
        """Return the pids of what runs, by name."""
        return {name: state.pid for name, state in self.supervisor.states().items() if state.running}

    def marked(self) -> set[int]:
        """Return the pids of all processes that belong to it, known to the supervisor or not."""
        return set(orphans(self.state))

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401  # the same
        """Ask its Prefect API."""
        return httpx.post(f"{self.api}{path}", json=body, timeout=30).raise_for_status().json()

    def embed(self, text: str) -> list[float]:
        """Ask its gateway for an embedding."""
        body = {"model": "tensorzero::embedding_model_name::all-minilm-l6-v2", "input": text}
        answer = httpx.post(f"{self.gateway}/embeddings", json=body, timeout=30).raise_for_status().json()
        vector: list[float] = answer["data"][0]["embedding"]
        return vector

    def close(self) -> None:
        """Stop everything that belongs to it."""
        self.supervisor.shutdown()


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Press Ctrl-C, and return exit code and standard error. Nobody waits a minute for a prompt."""
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=45)
    return process.returncode, errors
