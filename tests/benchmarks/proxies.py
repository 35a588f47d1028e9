"""Which proxy keeps the gateway's port best. Prints a table, asserts nothing; docs/proxy.md draws from it.

python -m tests.benchmarks.proxies [--quick]

Each proxy stands before two backends that do next to nothing, and is flipped from one to the other as it is
meant to be, while clients ask without a pause on connections that they keep. A quarter of the requests are
streams of 200 ms. A request is lost when its answer is an error, not whole, or of two backends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flows.report import columns
from tasks.effects.supervisord import Supervisord
from tasks.route.proxy.contract import Door, Proxy, Target
from tasks.route.proxy.front import FrontProxy
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_starter import ProcessStarter, found
from tests.benchmarks.fronts import connected, listens, process
from tests.lab.gateway import free_port, until

PATH = "/openai/v1/chat/completions"
CLIENTS = 8
EVENTS, EVENT_S = 10, 0.02
NAMES = ("blue", "green")
SYSTEM = "/usr/sbin:/usr/bin:/usr/local/bin"


def model(name: str) -> str:
    """Return what a backend says of itself."""
    return f"tensorzero::function_name::f::variant_name::{name}"


class Answering(asyncio.Protocol):
    """A backend: a small answer, or a stream where the body asks for one."""

    def __init__(self, name: str) -> None:
        text = json.dumps({"choices": ["x" * 800], "model": model(name)}, separators=(",", ":"))
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        self.answer = (head + text).encode()
        event = f"data: {text}\n\n"
        self.event = f"{len(event):x}\r\n{event}\r\n".encode()

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
            if body == b"stream":
                self.stream = asyncio.get_running_loop().create_task(self.events())
            else:
                self.transport.write(self.answer)  # type: ignore[attr-defined]

    async def events(self) -> None:
        """Send events with pauses, and the end."""
        write = self.transport.write  # type: ignore[attr-defined]
        write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(EVENTS):
            write(self.event)
            await asyncio.sleep(EVENT_S)
        write(b"0\r\n\r\n")


def backend(name: str, port: int) -> None:
    """Serve until this process is ended."""

    async def forever() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Answering(name), "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(forever())


@contextlib.contextmanager
def backends() -> Iterator[tuple[Target, ...]]:
    """Run both; yields where they are."""
    targets = tuple(Target(name, free_port()) for name in NAMES)
    with contextlib.ExitStack() as stack:
        for one in targets:
            call = f"from tests.benchmarks.proxies import backend; backend({one.name!r}, {one.port})"
            stack.enter_context(process("-c", call))
            until(lambda one=one: listens(one.port))
        yield targets


@dataclass(frozen=True)
class Subject:
    """A proxy under test: its port, how it is flipped, and what it can tell of requests."""

    port: int
    flip: Callable[[Target], None]
    in_flight: str
    counters: str


@contextlib.contextmanager
def ours(folder: Path, kind: str, tells: tuple[str, str]) -> Iterator[Subject]:
    """Run a proxy of this program, the way a run does."""
    supervisor, door = Supervisord(folder / "state"), Door(free_port())
    made: Proxy = FrontProxy(door, folder, supervisor, sys.executable)
    if kind == "haproxy":
        program = found()
        if program is None:
            raise FileNotFoundError(kind)
        made = HaProxy(door, folder, ProcessStarter(folder, supervisor, program))
    try:
        yield Subject(door.port, made.point, *tells)
    finally:
        made.stop()
        supervisor.shutdown()


NGINX = """\
worker_processes 1; daemon off; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  keepalive_requests 1000000; access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream gateway {{ server 127.0.0.1:{backend}; keepalive 16; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_buffering off; proxy_read_timeout 20m; }} }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[Subject]:
    """Run nginx; a flip is another config and a reload."""
    program, port, config = shutil.which("nginx", path=SYSTEM), free_port(), folder / "nginx.conf"
    if program is None:
        raise FileNotFoundError("nginx")
    running: list[subprocess.Popen[bytes]] = []

    def flip(target: Target) -> None:
        config.write_text(NGINX.format(folder=folder, backend=target.port, port=port))
        if not running:
            running.append(subprocess.Popen((program, "-c", str(config), "-p", str(folder))))
            until(lambda: listens(port))
            return
        before = children(running[0].pid)
        running[0].send_signal(signal.SIGHUP)
        until(lambda: children(running[0].pid) - before)

    try:
        yield Subject(port, flip, "no", "no")
    finally:
        end(running)


def children(pid: int) -> set[int]:
    """Return the processes that a process started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(one) for one in text.split()}


@contextlib.contextmanager
def caddy(folder: Path) -> Iterator[Subject]:
    """Run Caddy; a flip is one request to its admin address."""
    program, port, admin = shutil.which("caddy", path=SYSTEM), free_port(), free_port()
    if program is None:
        raise FileNotFoundError("caddy")
    running: list[subprocess.Popen[bytes]] = []

    def config(target: Target) -> dict[str, object]:
        proxy = {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": f"127.0.0.1:{target.port}"}],
            "flush_interval": -1,
        }
        server = {
            "listen": [f"127.0.0.1:{port}"],
            "routes": [{"handle": [proxy]}],
            "automatic_https": {"disable": True},
        }
        apps = {"http": {"grace_period": "20m", "servers": {"s": server}}}
        return {
            "admin": {"listen": f"127.0.0.1:{admin}"},
            "logging": {"logs": {"default": {"level": "PANIC"}}},
            "apps": apps,
        }

    def flip(target: Target) -> None:
        text = json.dumps(config(target))
        if not running:
            (folder / "caddy.json").write_text(text)
            environment = {"PATH": os.defpath, "HOME": str(folder)}
            command = (program, "run", "--config", str(folder / "caddy.json"))
            running.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
            until(lambda: listens(port))
            return
        asked = http.client.HTTPConnection("127.0.0.1", admin, timeout=30)
        asked.request("POST", "/load", text, {"content-type": "application/json"})
        if asked.getresponse().status != http.client.OK:
            raise RuntimeError("Caddy does not take its config")
        asked.close()

    try:
        yield Subject(port, flip, "yes", "no")
    finally:
        end(running)


def end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes by pid."""
    for one in running:
        one.terminate()
        one.wait(30)


SUBJECTS: tuple[tuple[str, Callable[[Path], contextlib.AbstractContextManager[Subject]]], ...] = (
    ("HAProxy", lambda folder: ours(folder, "haproxy", ("yes", "yes"))),
    ("nginx", nginx),
    ("Caddy", caddy),
    ("front", lambda folder: ours(folder, "front", ("yes", "yes"))),
)


def asked(port: int, body: bytes) -> bytes:
    """Return a request."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answered(connection: socket.socket, *, stream: bool) -> bytes:
    """Read one answer, and return it where it is good; b"" where it is not."""
    got, last = bytearray(), b"\r\n0\r\n\r\n" if stream else b'"}'
    while not got.endswith(last):
        part = connection.recv(1 << 16)
        if not part:
            return b""
        got += part
    return bytes(got) if got.startswith(b"HTTP/1.1 200") else b""


def ask_on(port: int, stop: threading.Event, number: int) -> tuple[int, int]:
    """Ask until `stop`; returns how many were answered, and how many not."""
    good = lost = 0
    connection: socket.socket | None = None
    while not stop.is_set():
        number += 1
        stream = number % 4 == 0
        try:
            connection = connection or connected(port)
            connection.sendall(asked(port, b"stream" if stream else b"x"))
            got = answered(connection, stream=stream)
        except OSError:
            got = b""
        names = [name for name in NAMES if model(name).encode() in got]
        whole = len(names) == 1 and (not stream or got.count(b"data: ") == EVENTS)
        good, lost = good + whole, lost + (not whole)
        if connection and not whole:
            connection.close()
            connection = None
    return good, lost


def latencies(ports: Sequence[int], count: int) -> list[list[float]]:
    """Ask each port in turn over a kept connection; returns seconds."""
    taken: list[list[float]] = [[] for _ in ports]
    connections = [connected(port) for port in ports]
    for round_ in range(count + 100):
        for index, connection in enumerate(connections):
            begun = time.perf_counter()
            connection.sendall(asked(ports[index], b"x"))
            if not answered(connection, stream=False):
                raise RuntimeError("an answer was not whole")
            if round_ >= 100:  # the first ones only warm up
                taken[index].append(time.perf_counter() - begun)
    for connection in connections:
        connection.close()
    return taken


def measure(
    name: str, subject: Subject, targets: Sequence[Target], count: int, flips: int
) -> tuple[str, ...]:
    """Return a row of the table."""
    subject.flip(targets[0])
    direct, through = latencies((targets[0].port, subject.port), count)
    added = [statistics.median(through) - statistics.median(direct)]
    added.append(statistics.quantiles(through, n=100)[98] - statistics.quantiles(direct, n=100)[98])
    stop, took = threading.Event(), []
    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask_on, subject.port, stop, number) for number in range(CLIENTS)]
        for number in range(flips):
            time.sleep(0.3)
            begun = time.monotonic()
            subject.flip(targets[(number + 1) % 2])
            took.append(time.monotonic() - begun)
        stop.set()
        good, lost = (sum(numbers) for numbers in zip(*(one.result() for one in asking), strict=True))
    return (
        name,
        *(f"{1000 * one:.2f} ms" for one in added),
        f"{good}",
        f"{lost}",
        f"{1000 * statistics.median(took):.0f} ms",
        subject.in_flight,
        subject.counters,
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.proxies")
    parser.add_argument("--quick", action="store_true", help="few requests: a smoke check")
    quick = parser.parse_args(arguments).quick
    count, flips = (300, 4) if quick else (3000, 40)
    rows = []
    with backends() as targets:
        for name, run in SUBJECTS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    with run(Path(folder)) as subject:
                        rows.append(measure(name, subject, targets, count, flips))
                except FileNotFoundError:
                    rows.append((name, *("-",) * 6, "not installed"))
    head = ("PROXY", "ADDED P50", "ADDED P99", "ANSWERED", "LOST", "ONE FLIP", "IN FLIGHT", "WHO ANSWERED")
    print(f"PROXIES, {flips} FLIPS, {CLIENTS} CLIENTS; {os.cpu_count()} processors, {platform.machine()}\n")
    print(columns(head, rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
