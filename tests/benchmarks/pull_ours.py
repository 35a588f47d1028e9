"""Our pull in a process of its own, as the benchmark of pulls starts it.

python -m tests.benchmarks.pull_ours < order    a `Task`; prints a `Took`
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tasks.contracts import PlannedModel, Weights
from tasks.pull.download import pull
from tasks.pull.fetch.line import Line
from tasks.pull.sources import Hub, PullContext


class Task(msgspec.Struct):
    """What to pull where, all at once. `asked_s` is the monotonic time at which the process was started."""

    cache: str
    endpoint: str
    weights: tuple[Weights, ...]
    asked_s: float


class Took(msgspec.Struct):
    """Seconds from the start of the process to the first line of work; then until each model was whole."""

    start_s: float
    whole_s: tuple[float, ...]


def planned(weights: Weights) -> PlannedModel:
    """Return a plan that wants these weights."""
    return PlannedModel(
        role="embeddings",
        model=weights.repo,
        runtime="embedded",
        residency="cpu",
        device="cpu",
        port=0,
        memory_bytes=0,
        memory_measured=False,
        download_bytes=weights.size_bytes,
        weights=weights,
    )


def main() -> None:
    """Do what the order on stdin says."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    begun = time.monotonic()
    context = PullContext(endpoint=task.endpoint, line=Line())
    sources = (Hub("huggingface", task.endpoint),)

    def one(weights: Weights) -> float:
        pull(planned(weights), Path(task.cache), context, sources=sources)
        return time.monotonic() - begun

    with ThreadPoolExecutor(len(task.weights)) as pool:
        whole = tuple(pool.map(one, task.weights))
    sys.stdout.buffer.write(msgspec.json.encode(Took(begun - task.asked_s, whole)))


if __name__ == "__main__":
    main()
