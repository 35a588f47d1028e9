"""The real embedded server as a child process, for as long as a test needs it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.lab.environment import clean_environment, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
REPO = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
MODEL = "all-minilm-l6-v2"
DEADLINE_S = 120


@dataclass(frozen=True)
class EmbeddedServer:
    """One running server, and how to ask it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def base_url(self) -> str:
        """Address that ends in `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def post(self, given: object, **more: object) -> httpx.Response:
        """Ask for the embeddings of `given`."""
        return self.send({"model": MODEL, "input": given, **more})

    def send(self, body: object) -> httpx.Response:
        """Send any JSON body to the embeddings route."""
        return httpx.post(f"{self.base_url}/embeddings", json=body, timeout=DEADLINE_S, trust_env=False)

    def vectors(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of `texts`."""
        answer = self.post(texts)
        answer.raise_for_status()
        return [row["embedding"] for row in answer.json()["data"]]

    def healthy(self) -> bool:
        """Whether the health path answers 200 now."""
        try:
            return (
                httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5, trust_env=False).status_code
                == 200
            )
        except httpx.HTTPError:
            return False


@contextmanager
def starting(cache: Path, log: Path, *flags: str, port: int = 0) -> Iterator[EmbeddedServer]:
    """Start a server without waiting for anything, and end it by pid."""
    port = port or free_port()
    command = [sys.executable, "-m", "tasks.serve.embedded", "--port", str(port), "--cache", str(cache)]
    command += ["--repo", REPO, "--revision", REVISION, "--model", MODEL, *flags]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(), stdout=stream, stderr=subprocess.STDOUT
        )
    try:
        yield EmbeddedServer(process, port, log)
    finally:
        process.kill()
        process.wait(DEADLINE_S)


@contextmanager
def embedded_server(cache: Path, log: Path, *flags: str, port: int = 0) -> Iterator[EmbeddedServer]:
    """Run a server that answers its health path, and end it by pid."""
    with starting(cache, log, *flags, port=port) as server:
        wait_until(server.healthy, server)
        yield server


def wait_until(condition: Callable[[], bool], server: EmbeddedServer) -> None:
    """Poll until `condition()` holds; fail with the server's log when it ends or takes too long."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the server is not as wanted:\n{server.log.read_text()}")
        time.sleep(0.02)
