"""A Hugging Face Hub on loopback, as the real client sees it, with faults on demand.

HEAD/GET /{repo}/resolve/{revision}/{path}        small files: the bytes; large files: 302 to
GET      http://localhost:{port}/cdn/{sha256}?..  the same server under a second host name, signed
GET      /api/models/{repo}/revision/{revision}   what the repository holds (?blobs=true: sizes too)
GET      /api/models/{repo}/tree/{revision}       the same in pages (?recursive=true&limit=..)
GET      /_stat    POST /_ctl                     for a hub in a process of its own (hub_process.py)

with HubLab({"org/name": Repo(files)}) as hub:
    hub.fail("cdn", Drop(at=70_000), times=1, only="model.safetensors")
    ... hub.endpoint ... hub.sent_bytes ... hub.requests ... hub.tokens ... hub.log ... hub.peak
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Self

from tests.lab.hub_faults import FOREVER, Fault, Order, What, Where, fault_of
from tests.lab.hub_files import LARGE_BYTES, REVISION, Blob, Data, Repo, Shelf, git_sha1
from tests.lab.hub_wire import Handler
from tests.lab.pace import Bucket

__all__ = [
    "LARGE_BYTES",
    "REVISION",
    "Asked",
    "Data",
    "HubLab",
    "Order",
    "Repo",
    "What",
    "Where",
    "git_sha1",
]


@dataclass
class Asked:
    """One request and what became of it."""

    where: str
    host: str
    method: str
    path: str
    range: str = ""
    status: int = 0
    sent_bytes: int = 0
    at_s: float = field(default_factory=time.monotonic)


@dataclass
class HubLab:
    """The hub. Use as a context manager; everything may be read and set at any time.

    `sent_bytes` are bytes of files, `sent` are the bytes of all bodies by kind. `now`, `peak` and
    `opened` count connections by host name. Rates are bytes per second, for each connection and for all
    of them; `latency_s` goes before each answer. A signed address is good for `lifetime_requests`
    requests and `lifetime_s` seconds, and until `expire()`. `buffer_bytes` keeps the kernel from
    taking megabytes that no client has read.
    """

    repos: dict[str, Repo]
    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    tokens: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, list[Order]] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)
    sent: Counter[str] = field(default_factory=Counter)
    log: list[Asked] = field(default_factory=list)
    now: Counter[str] = field(default_factory=Counter)
    peak: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    ranges: bool = True
    cdn_host: str = "localhost"
    cache_redirect: bool = False
    page_size: int = 1000
    bytes_per_s: float | None = None
    link_bytes_per_s: float | None = None
    latency_s: float = 0.0
    clock_s: float = 0.0
    lifetime_s: float = 3600.0
    lifetime_requests: int = FOREVER
    buffer_bytes: int | None = None
    tls: ssl.SSLContext | None = None
    listen: int = 0
    shelf: Shelf = field(default_factory=Shelf)
    link: Bucket = field(default_factory=Bucket)
    connections: set[socket.socket] = field(default_factory=set)
    _signed: dict[str, int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> Self:
        handler = type("BoundHandler", (Handler,), {"lab": self})
        self._server = _Server(("127.0.0.1", self.listen), handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self.cut()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def scheme(self) -> str:
        """The scheme of its addresses."""
        return "http" if self.tls is None else "https"

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` would be."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def fail(
        self, where: Where, what: What, *, times: int = FOREVER, skip: int = 0, only: str | None = None
    ) -> None:
        """Break the next `times` answers of one kind, in place of what was to go wrong there before.

        A number is an HTTP status. The first `skip` answers stay good; `only` names one file.
        """
        with self._lock:
            self.faults[where] = [Order(where, fault_of(what), times, skip, only)]

    def then(
        self, where: Where, what: What, *, times: int = FOREVER, skip: int = 0, only: str | None = None
    ) -> None:
        """Add a fault for when the earlier ones are used up, or do not touch the answer."""
        with self._lock:
            self.faults.setdefault(where, []).append(Order(where, fault_of(what), times, skip, only))

    def take_fault(self, where: str, names: set[str], first: int, end: float) -> Fault | None:
        """Return the fault of the next answer and count it down."""
        with self._lock:
            orders = self.faults.get(where, [])
            return next((order.what for order in orders if order.take(names, first, end)), None)

    def cut(self) -> None:
        """End all connections that are open now."""
        with self._lock:
            connections = list(self.connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def sign(self, blob: Blob) -> str:
        """Return a new signed address on the CDN."""
        expires = f"{time.time() + self.lifetime_s:.3f}"
        with self._lock:
            sig = hashlib.sha256(f"{blob.sha256} {expires} {len(self._signed)}".encode()).hexdigest()[:32]
            self._signed[sig] = self.lifetime_requests
        host = f"{self.scheme}://{self.cdn_host}:{self.port}"
        return f"{host}/cdn/{blob.sha256}?expires={expires}&sig={sig}"

    def is_signed(self, sig: str, expires: str) -> bool:
        """Whether an address still opens; counts it down."""
        with self._lock:
            left = self._signed.get(sig, 0)
            self._signed[sig] = left - 1
        return left > 0 and time.time() < float(expires)

    def expire(self) -> None:
        """Let every address that was signed so far be refused; the hub gives new ones."""
        with self._lock:
            self._signed = dict.fromkeys(self._signed, 0)

    def count(self, asked: Asked) -> None:
        """Count one request."""
        with self._lock:
            self.requests[asked.where] += 1
            self.log.append(asked)

    def count_sent(self, asked: Asked, sent_bytes: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            asked.sent_bytes += sent_bytes
            self.sent[asked.where] += sent_bytes
            self.sent_bytes += sent_bytes if asked.where in {"get", "cdn"} else 0

    def count_connection(self, host: str, change: int) -> None:
        """Count a connection that begins (1) or ends (-1)."""
        with self._lock:
            self.now[host] += change
            self.opened[host] += max(change, 0)
            self.peak[host] = max(self.peak[host], self.now[host])

    def reset(self) -> None:
        """Set all counters to nothing; connections that are open stay counted in `now`."""
        with self._lock:
            self.sent_bytes = 0
            for counter in (self.requests, self.sent, self.opened):
                counter.clear()
            self.log.clear()
            self.tokens.clear()
            self.peak = Counter(self.now)


class _Server(ThreadingHTTPServer):
    """Takes many connections at once, and does not mind clients that go away."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about connections that broke."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


if __name__ == "__main__":
    from tests.lab.hub_process import main

    main()
