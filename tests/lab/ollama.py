"""The play Ollama inside a test: it pulls from `tests.lab.ollama_registry`, makes, loads and answers.

`registry` stands in for those whose name has no port. `python -m tests.lab.ollama --port N --models DIR
--registry URL` is a server of its own, to be killed; POST /_ctl {"fault": ..., "times": n} breaks it like
`fail` does. The faults are those of `tests.lab.play.ollama_chat`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.lab.play import web
from tests.lab.play.faults import ALWAYS, Knobs
from tests.lab.play.ollama_chat import Ollama
from tests.lab.play.ollama_store import Fetch

ROOT = Path(__file__).parents[2]


class OllamaLab(Ollama):
    """The server. Use as a context manager; `environment` is what the real one would read."""

    def __init__(
        self,
        models: Path,
        registry: str,
        port: int = 0,
        part_bytes: int = 1_000_000,
        *,
        environment: Mapping[str, str] | None = None,
        knobs: Knobs | None = None,
    ) -> None:
        given = {**(environment or {}), "OLLAMA_MODELS": str(models), "PLAY_REGISTRY": registry}
        super().__init__(given, knobs or Knobs(), "127.0.0.1", port)
        self.models = models
        self.puller.part_bytes = part_bytes

    def __enter__(self) -> Self:
        self.listen()
        self.ready.set()
        return self

    def __exit__(self, *_error: object) -> None:
        self.puller.cancel()
        self.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def fetches(self) -> dict[str, Fetch]:
        """The blobs that are on their way."""
        return self.puller.fetches

    def fail(self, fault: str, *, times: int = ALWAYS) -> None:
        """Break the next `times` answers."""
        self.faults.fail(fault, times=times)


def start(port: int, models: Path, registry: str) -> subprocess.Popen[bytes]:
    """Start a server of its own and return its process once it answers."""
    command = [sys.executable, "-m", "tests.lab.ollama", "--port", str(port)]
    process = subprocess.Popen([*command, "--models", str(models), "--registry", registry], cwd=ROOT)
    while process.poll() is None:
        try:
            with web.asked("GET", f"http://127.0.0.1:{port}/"):
                break
        except web.WebError:
            time.sleep(0.02)
    return process


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--registry", required=True)
    given = parser.parse_args()
    with OllamaLab(given.models, given.registry, port=given.port):
        threading.Event().wait()


if __name__ == "__main__":
    main()
