"""Texts/s of the embedded server, beside calling its library directly. Prints a table, asserts nothing.

python -m tests.benchmarks.embeddings [CACHE]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.effects.http import Httpx
from tasks.effects.openai import embed
from tasks.serve.embedded.engine import Candle
from tasks.serve.embedded.options import Limits, Options
from tests.conftest import fetched_minilm
from tests.lab.embedded_server import MODEL, REPO, REVISION, embedded_server

SENTENCE = "the quick brown fox jumps over the lazy dog number "
BUDGET_S = 2.0
CLIENTS = 8
Embed = Callable[[list[str]], object]


def texts(count: int, sentences: int) -> list[str]:
    """Return different texts of so many sentences, about 12 tokens each."""
    return [" ".join(f"{SENTENCE}{number}" for number in range(n, n + sentences)) for n in range(count)]


def rate(ask: Embed, batch: list[str], clients: int = 1) -> float:
    """Return texts/s of `clients` that ask again and again; the first round only warms up."""
    ask(batch)
    begun = time.monotonic()

    def loop(_client: int) -> int:
        rounds = 0
        while time.monotonic() - begun < BUDGET_S:
            ask(batch)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(clients) as pool:
        rounds = sum(pool.map(loop, range(clients)))
    return rounds * len(batch) / (time.monotonic() - begun)


def main() -> None:
    """Print the table."""
    cache = Path(sys.argv[1]) if len(sys.argv) > 1 else fetched_minilm()
    library = Candle(Options(1, cache, REPO, REVISION, MODEL, None, Limits())).embed
    log = Path(tempfile.mkdtemp()) / "server.log"
    print(
        f"{'TEXTS':<12}{'BATCH':>6}{'LIBRARY/s':>11}{'SERVER/s':>10}{'RATIO':>7}{f'{CLIENTS} CLIENTS/s':>13}"
    )
    with embedded_server(cache, log) as server, Httpx() as http:

        def over_http(batch: list[str]) -> object:
            return embed(http, server.base_url, MODEL, batch, 60)

        for name, sentences in (("short", 1), ("100 tokens", 8)):
            for size in (1, 8, 32):
                batch = texts(size, sentences)
                direct, through = rate(library, batch), rate(over_http, batch)
                merged = rate(over_http, batch, CLIENTS)
                row = f"{name:<12}{size:>6}{direct:>11.0f}{through:>10.0f}{direct / through:>7.2f}"
                print(f"{row}{merged:>13.0f}", flush=True)


if __name__ == "__main__":
    main()
