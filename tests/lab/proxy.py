"""An HTTP forward proxy on loopback: absolute addresses and CONNECT, with counters.

with ProxyLab(auth="user:pass") as proxy:
    ... proxy.address ... proxy.requests["CONNECT"] ... proxy.targets ... proxy.sent_bytes
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

PIECE_BYTES = 1 << 16
TIMEOUT_S = 30.0
OWN = {
    "connection",
    "transfer-encoding",
    "proxy-connection",
    "proxy-authorization",
    "keep-alive",
    "te",
    "upgrade",
}


@dataclass
class ProxyLab:
    """The proxy. With `auth` (`user:pass`) it answers 407 to whoever does not say so.

    `requests` counts by method, and `refused` what got a 407; `targets` by `host:port`; `sent_bytes`
    went to clients. `status` answers everything with that status.
    """

    auth: str = ""
    status: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    credentials: set[str] = field(default_factory=set)
    sent_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        handler = type("BoundHandler", (_Handler,), {"lab": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """What `HTTP_PROXY` would be, without credentials."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address_with_auth(self) -> str:
        """What `HTTP_PROXY` would be, with credentials."""
        return f"http://{self.auth}@127.0.0.1:{self.port}"

    def count(self, method: str, target: str) -> None:
        """Count one request."""
        with self._lock:
            self.requests[method] += 1
            self.targets[target] += 1

    def count_sent(self, sent_bytes: int) -> None:
        """Count bytes that went to a client."""
        with self._lock:
            self.sent_bytes += sent_bytes


class _Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    lab: ProxyLab
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Forward GET."""
        self._forward()

    def do_HEAD(self) -> None:
        """Forward HEAD."""
        self._forward()

    def do_POST(self) -> None:
        """Forward POST."""
        self._forward()

    def do_CONNECT(self) -> None:
        """Open a tunnel."""
        if not self._lets_in(self.path):
            return
        host, _, port = self.path.rpartition(":")
        try:
            upstream = socket.create_connection((host.strip("[]"), int(port)), TIMEOUT_S)
        except OSError:
            self._refuse(502)
            return
        self.close_connection = True
        self.send_response(200, "Connection established")
        self.end_headers()
        with upstream, contextlib.suppress(OSError):
            self._tunnel(upstream)

    def _lets_in(self, target: str) -> bool:
        self.lab.count(self.command, target)
        given = self.headers.get("Proxy-Authorization", "")
        if given:
            self.lab.credentials.add(given)
        wanted = "Basic " + base64.b64encode(self.lab.auth.encode()).decode()
        if self.lab.auth and given != wanted:
            self.lab.requests["refused"] += 1
            self._refuse(407, {"Proxy-Authenticate": 'Basic realm="lab"'})
            return False
        if self.lab.status:
            self._refuse(self.lab.status)
            return False
        return True

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": "0", "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _tunnel(self, upstream: socket.socket) -> None:
        other = {self.connection: upstream, upstream: self.connection}
        while True:
            for source in select.select(list(other), [], [])[0]:
                piece = source.recv(PIECE_BYTES)
                if not piece:
                    return
                other[source].sendall(piece)
                if source is upstream:
                    self.lab.count_sent(len(piece))

    def _forward(self) -> None:
        address = urlsplit(self.path)
        if not address.hostname:
            self._refuse(400)
            return
        if not self._lets_in(f"{address.hostname}:{address.port or 80}"):
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        upstream = HTTPConnection(address.hostname, address.port or 80, timeout=TIMEOUT_S)
        try:
            rest = address._replace(scheme="", netloc="").geturl() or "/"
            upstream.request(self.command, rest, body or None, headers)
            self._pass_on(upstream.getresponse())
        except OSError:
            self.close_connection = True
        finally:
            upstream.close()

    def _pass_on(self, answer: HTTPResponse) -> None:
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in OWN]
        self.send_response_only(answer.status, answer.reason)
        for name, value in kept:
            self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        expected = answer.length
        while piece := answer.read1(PIECE_BYTES):
            self.wfile.write(piece)
            self.lab.count_sent(len(piece))
            expected = None if expected is None else expected - len(piece)
        if expected:
            self.close_connection = True
