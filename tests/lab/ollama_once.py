"""A pull in a process of its own, for tests that kill it: `python -m tests.lab.ollama_once < order`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from tasks.contracts import OllamaTag
from tasks.pull.ollama.pull import Server, pull_tag
from tasks.pull.sources import PullContext

ROOT = Path(__file__).parents[2]


class Order(msgspec.Struct):
    """What to pull, and by which server."""

    tag: OllamaTag
    url: str
    models: str
    registry: str


def start(order: Order) -> subprocess.Popen[bytes]:
    """Start a pull and return its process."""
    command = [sys.executable, "-m", "tests.lab.ollama_once"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order))
    process.stdin.close()
    return process


def main() -> None:
    """Do what the order on stdin says."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    pull_tag(order.tag, "lab", Server(order.url, Path(order.models)), order.registry, PullContext())


if __name__ == "__main__":
    main()
