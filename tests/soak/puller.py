"""Several models pulled at once through one line, in a process of its own.

python -m tests.soak.puller < order    ends with 0, with 3 and a sentence, or with a traceback (a bug)

SIGTERM asks it to stop.
"""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tasks.contracts import Weights
from tasks.errors import ProvisionError
from tasks.pull.download import pull
from tasks.pull.fetch.line import Line
from tasks.pull.fetch.web import Wires
from tasks.pull.sources import Hub, PullContext
from tests.benchmarks.pull_ours import planned

SAID = 3


class Order(msgspec.Struct):
    """What to pull where."""

    cache: str
    endpoint: str
    models: tuple[Weights, ...]
    connections: int
    limit_bytes_per_s: int | None
    tries: int


def main() -> int:
    """Do what the order on stdin says."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    line = Line(connections=order.connections, limit_bytes_per_s=order.limit_bytes_per_s)
    wires = Wires(connect_s=2.0, read_s=1.5)
    context = PullContext(
        endpoint=order.endpoint, line=line, wires=wires, stop=stop, tries=order.tries, quiet_s=6.0
    )
    sources = (Hub("huggingface", order.endpoint),)

    def one(weights: Weights) -> str:
        try:
            pull(planned(weights), Path(order.cache), context, sources=sources)
        except ProvisionError as error:
            return error.what
        return ""

    with ThreadPoolExecutor(len(order.models)) as pool:
        said = [text for text in pool.map(one, order.models) if text]
    sys.stderr.write("".join(f"{text}\n" for text in said))
    return SAID if said else 0


if __name__ == "__main__":
    sys.exit(main())
