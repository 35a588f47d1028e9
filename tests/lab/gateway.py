"""The gateway program as a real process on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from tasks.contracts import NO_ROUTING
from tasks.route.config.render import render
from tests.lab.openai_server import FakeOpenAI
from tests.lab.verified import verified_server

T = TypeVar("T")
MODEL = "tensorzero::embedding_model_name::m"
ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], T], deadline_s: float = 30.0) -> T:
    """Return the first true value of a condition, which is asked again and again."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"never true within {deadline_s:g} s")
        time.sleep(0.01)
    return value


def config_for(upstream: FakeOpenAI) -> str:
    """Return a config with the embedding model `m` on a server."""
    return render((), (verified_server("m", base_url=upstream.base_url),), NO_ROUTING)


class Gateway:
    """A running gateway of the wheel. Its folder is made here; leaving the block ends it by pid.

    `keys` is the text of its environment file: NAME="value" lines.
    """

    def __init__(self, folder: Path, config: str, port: int | None = None, keys: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "tensorzero.toml"
        self.config.write_text(config)
        self.environment = folder / "gateway.env"
        self.environment.write_text(keys)
        self.port = port or free_port()
        self.log = folder / "log"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60)
        self.process = self.spawn()

    def spawn(self, *more: str) -> subprocess.Popen[bytes]:
        """Start the process."""
        command = (sys.executable, "-m", "tasks.route.wheel", "--config", str(self.config))
        files = ("--environment", str(self.environment))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                (*command, *files, "--port", str(self.port), *more),
                env={
                    "RUST_LOG": "",
                    "PATH": os.defpath,
                    "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1",
                },
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        until(lambda: self.status() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def status(self) -> dict[str, Any]:
        """Return `/status`, or nothing while it does not answer."""
        try:
            reply = self.client.get("/status")
        except httpx.TransportError:
            return {}
        return dict(reply.json())

    def embed(self, text: str, client: httpx.Client | None = None) -> list[float]:
        """Return the vector of one text through the gateway."""
        body = {"model": MODEL, "input": text}
        reply = (client or self.client).post("/openai/v1/embeddings", json=body)
        if reply.status_code != httpx.codes.OK:
            raise AssertionError(reply.text)
        return list(reply.json()["data"][0]["embedding"])
