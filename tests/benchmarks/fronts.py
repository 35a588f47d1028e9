"""What the front costs, and what it loses in swaps under load. Prints tables, asserts nothing.

python -m tests.benchmarks.fronts [--quick]

The backend is a process of its own that does next to nothing, so the figures are of the front (and of the
kernel); client, front and backend share the processors of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flows.report import columns
from tasks.contracts import Unknown
from tasks.effects.front.status import ask
from tasks.effects.front.table import Row, digest, render
from tasks.effects.resident import resident_bytes
from tests.lab.gateway import ROOT, free_port, until

BODY = b'{"input": "' + b"a" * 990 + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n" + b"b" * 1000
CLIENTS = 16
MIB = 1 << 20


class Quick(asyncio.Protocol):
    """The backend: the same kilobyte for every request, and the end of what it is sent for every upload."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport
        self.buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        """Answer once head and body are there."""
        self.buffer += data
        head, _, body = self.buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
        if len(body) >= length:
            self.buffer.clear()
            self.transport.write(ANSWER)  # type: ignore[attr-defined]


def backend(port: int) -> None:
    """Serve until this process is ended."""

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Quick, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(forever())


@contextlib.contextmanager
def process(*command: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python process for a block, and end it by pid."""
    made = subprocess.Popen(
        (sys.executable, *command), env={"PATH": os.defpath}, cwd=cwd, stderr=subprocess.PIPE
    )
    try:
        yield made
    finally:
        made.kill()
        made.communicate()


@contextlib.contextmanager
def backends(count: int) -> Iterator[list[int]]:
    """Run backends; yields their ports."""
    ports = [free_port() for _ in range(count)]
    with contextlib.ExitStack() as stack:
        for port in ports:
            call = f"from tests.benchmarks.fronts import backend; backend({port})"
            stack.enter_context(process("-c", call))
            until(lambda port=port: listens(port))
        yield ports


def listens(port: int) -> bool:
    """Whether somebody answers on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Running:
    """A front process with one port."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int

    def point(self, backend_port: int) -> None:
        """Let the port lead there, and wait until it does."""
        text = render([Row("bench", self.port, backend_port)])
        (self.folder / "table.json").write_text(text)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: (status := ask(self.folder)) and status.table_hash == digest(text.encode()))

    def cpu_s(self) -> float:
        """Return the processor time that it used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def fronted(backend_port: int) -> Iterator[Running]:
    """Run a front before a backend."""
    with (
        tempfile.TemporaryDirectory() as folder,
        process("-m", "tasks.effects.front", "--folder", folder) as made,
    ):
        until(lambda: ask(Path(folder)))
        front = Running(Path(folder), made, free_port())
        front.point(backend_port)
        yield front


def request(port: int) -> bytes:
    """Return a request for a port."""
    return (
        b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-length: %d\r\n\r\n"
        % (port, len(BODY))
        + BODY
    )


def connected(port: int) -> socket.socket:
    """Return a connection without Nagle's delay."""
    made = socket.create_connection(("127.0.0.1", port), 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def answered(connection: socket.socket) -> bool:
    """Read one answer; whether it is whole and right."""
    got = bytearray()
    while not got.endswith(b"b" * 1000):
        part = connection.recv(1 << 16)
        if not part:
            return False
        got += part
    return got.startswith(b"HTTP/1.1 200")


def latencies(ports: Sequence[int], count: int) -> list[list[float]]:
    """Ask each port in turn over one kept connection; returns seconds."""
    taken: list[list[float]] = [[] for _ in ports]
    connections = [connected(port) for port in ports]
    for round_ in range(count + 100):
        for index, connection in enumerate(connections):
            begun = time.perf_counter()
            connection.sendall(request(ports[index]))
            if not answered(connection):
                raise RuntimeError("an answer was not whole")
            if round_ >= 100:  # the first ones only warm up
                taken[index].append(time.perf_counter() - begun)
    for connection in connections:
        connection.close()
    return taken


def rate(port: int, seconds: float) -> float:
    """Return requests/s of `CLIENTS` connections that ask again and again, from one thread."""
    connections = [connected(port) for _ in range(CLIENTS)]
    asked, done = request(port), 0
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
            connection.sendall(asked)
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            for key, _ in selector.select():
                if not answered(key.fileobj):  # type: ignore[arg-type]  # only sockets are registered
                    raise RuntimeError("an answer was not whole")
                key.fileobj.sendall(asked)  # type: ignore[union-attr]  # the same
                done += 1
        took = time.monotonic() - begun
    for connection in connections:
        connection.close()
    return done / took


def costs(count: int, seconds: float) -> str:
    """Measure time and rate, direct and through the front."""
    with backends(1) as (port,), fronted(port) as front:
        direct, through = latencies((port, front.port), count)
        rates = [rate(one, seconds) for one in (port, front.port)]
        before = front.cpu_s()
        cpu_rate = rate(front.port, seconds)
        cpu_s = front.cpu_s() - before
        held = resident_bytes(front.process.pid)
    rows = [
        ("direct", *quantiles(direct), f"{rates[0]:.0f}", "", ""),
        ("front", *quantiles(through), f"{rates[1]:.0f}", f"{1e6 * cpu_s / (cpu_rate * seconds):.0f} us",
         "?" if isinstance(held, Unknown) else f"{held / MIB:.0f} MiB"),
        ("added", *added(direct, through), "", "", ""),
    ]  # fmt: skip
    head = ("1 KB EACH WAY", "P50", "P99", f"REQUESTS/S, {CLIENTS} CLIENTS", "CPU A REQUEST", "HELD")
    return columns(head, rows)


def quantiles(taken: list[float]) -> tuple[str, str]:
    """Write median and 99th percentile."""
    return (
        f"{1000 * statistics.median(taken):.2f} ms",
        f"{1000 * statistics.quantiles(taken, n=100)[98]:.2f} ms",
    )


def added(direct: list[float], through: list[float]) -> tuple[str, str]:
    """Write the differences of median and 99th percentile."""
    middle = statistics.median(through) - statistics.median(direct)
    high = statistics.quantiles(through, n=100)[98] - statistics.quantiles(direct, n=100)[98]
    return f"{1000 * middle:.2f} ms", f"{1000 * high:.2f} ms"


def swaps(count: int) -> str:
    """Swap again and again while clients ask without a pause, half of them on new connections."""
    with backends(2) as ports, fronted(ports[0]) as front:
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            asking = [pool.submit(ask_on, front.port, stop, keep=n % 2 == 0) for n in range(CLIENTS)]
            took = []
            for number in range(count):
                time.sleep(0.2)
                begun = time.monotonic()
                front.point(ports[(number + 1) % 2])
                took.append(time.monotonic() - begun)
            stop.set()
            results = [future.result() for future in asking]
    good, lost = (sum(numbers) for numbers in zip(*results, strict=True))
    row = (f"{count} swaps", f"{good}", f"{lost}", f"{1000 * statistics.median(took):.0f} ms")
    return columns((f"SWAPS, {CLIENTS} CLIENTS", "ANSWERED", "LOST", "ONE SWAP"), [row])


def ask_on(port: int, stop: threading.Event, *, keep: bool) -> tuple[int, int]:
    """Ask until `stop`; returns how many were answered, and how many not."""
    good = lost = 0
    connection: socket.socket | None = None
    while not stop.is_set():
        try:
            connection = connection or connected(port)
            connection.sendall(request(port))
            right = answered(connection)
        except OSError:
            right = False
        good, lost = good + right, lost + (not right)
        if connection and not (keep and right):
            connection.close()
            connection = None
    return good, lost


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fronts")
    parser.add_argument("--quick", action="store_true", help="few requests: a smoke check")
    quick = parser.parse_args(arguments).quick
    print(f"THE FRONT; Python {platform.python_version()}, {os.cpu_count()} processors\n")
    print(costs(300 if quick else 3000, 1.0 if quick else 5.0), flush=True)
    print(f"\n{swaps(3 if quick else 30)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
