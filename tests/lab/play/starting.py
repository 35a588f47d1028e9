"""Starts a play server as a process of its own on loopback, and ends it by its pid."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FOLDER = Path(__file__).resolve().parent
DEADLINE_S = 30.0
HOSTS = {"llama_cpp": "--host", "tei": "--hostname", "vllm": "--host"}
VARIABLES = {
    "speaches": {"UVICORN_HOST": "127.0.0.1", "UVICORN_PORT": "{port}"},
    "ollama_chat": {"OLLAMA_HOST": "127.0.0.1:{port}"},
}
HEALTH = {"ollama_chat": "/api/version"}


def free_port() -> int:
    """Return a port of loopback that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Playing:
    """A play server. Use as a context manager; `arguments` and `environment` are the runtime's own.

    Attributes:
        waits: Whether entering waits until its health path says 200.
    """

    kind: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    waits: bool = True
    port: int = field(default_factory=free_port)

    def __enter__(self) -> Self:
        where = [HOSTS[self.kind], "127.0.0.1", "--port", str(self.port)] if self.kind in HOSTS else []
        # What a test says comes last, so that it has the last word.
        words = [*where, *self.arguments]
        own = {name: value.format(port=self.port) for name, value in VARIABLES.get(self.kind, {}).items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PLAY_")}
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / f"{self.kind}.py"), *words],
            env={**inherited, **own, **self.environment},
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        if self.waits:
            self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self, path: str = "", *, status: int = 200) -> None:
        """Wait until its health path answers with a status.

        Raises:
            AssertionError: it ended, or did not in time.
        """
        late = time.monotonic() + DEADLINE_S
        while time.monotonic() < late:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.kind} ended with {self.process.returncode}: {self.log()}")
            try:
                if self.ask("GET", path or HEALTH.get(self.kind, "/health"))[0] == status:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"{self.kind} was not ready within {DEADLINE_S:g} s")

    def ask(self, method: str, path: str, body: object = None, *, timeout_s: float = 20.0) -> tuple[int, Any]:
        """Make a request; the answer is decoded where it is JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  # its own address
            self.url + path, data=data, method=method, headers={"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return int(answer.status), _decoded(answer.read(), answer.headers.get("Content-Type", ""))
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read(), error.headers.get("Content-Type", ""))

    def fail(self, fault: str, *, times: int = 1) -> None:
        """Break the next `times` answers."""
        status, _ = self.ask("POST", "/_ctl", {"fault": fault, "times": times})
        assert status == 200

    def ends(self, within_s: float = DEADLINE_S) -> int:
        """Wait for its end, and return its exit code."""
        return self.process.wait(within_s)

    def log(self) -> str:
        """Return what it logged; it must have ended."""
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            self._log = self.process.stderr.read().decode()
            self.process.stderr.close()
        return self._log

    def end(self) -> str:
        """End it, and return what it logged."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        return self.log()


def _decoded(data: bytes, kind: str) -> Any:  # noqa: ANN401  # whatever JSON holds
    if "event-stream" in kind:
        rows = [
            line.removeprefix("data: ") for line in data.decode().splitlines() if line.startswith("data: ")
        ]
        return [json.loads(row) for row in rows if row != "[DONE]"] + ["[DONE]"] * ("[DONE]" in rows)
    if "ndjson" in kind:
        return [json.loads(line) for line in data.splitlines()]
    return json.loads(data) if "json" in kind and data else data.decode(errors="replace")
