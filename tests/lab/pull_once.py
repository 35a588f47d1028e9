"""A pull in a process of its own, for tests that kill it: `python -m tests.lab.pull_once < order`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from tasks.contracts import Reach, Weights
from tasks.pull.download import pull
from tasks.pull.sources import PullContext
from tests.lab.weights import planned

ROOT = Path(__file__).parents[2]


class Order(msgspec.Struct):
    """What to pull where. Without `endpoint` the hub counts as down."""

    cache: str
    weights: Weights
    endpoint: str = ""
    environment: tuple[tuple[str, str], ...] = ()


def start(order: Order) -> subprocess.Popen[bytes]:
    """Start a pull and return its process."""
    command = [sys.executable, "-m", "tests.lab.pull_once"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order))
    process.stdin.close()
    return process


def main() -> None:
    """Do what the order on stdin says."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    hub = None if order.endpoint else Reach("hub", "", answers=False, detail="down")
    context = PullContext(endpoint=order.endpoint, hub=hub, environment=order.environment)
    pull(planned(order.weights), Path(order.cache), context)


if __name__ == "__main__":
    main()
