"""A model server behind the front: plain threads and sockets, nothing of what it tests.

GET  /name           its name
any  /echo           method, path, headers and body as they came, as JSON
GET  /sse            `events` events, then [DONE]; waits for `release` after the first when `held`
GET  /hold           waits for `release`, then its name
POST /upload         how many bytes came, and their sha256
POST /early          413 at once, and reads nothing more
GET  /broken         announces 1000 bytes, sends 10, and ends the connection
GET  /large          64 MiB
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

PIECE = b"x" * (1 << 16)


class Backend:
    """A server with a name. Use as a context manager.

    Attributes:
        held: Whether streams pause after their first event until `release`.
        release: Ends every pause.
        events: How many events a stream has.
        paths: The path of every request that arrived.
        broken_off: Set once a client was gone before its answer was complete.
        answers_each: How many requests of a connection it answers; the next it reads, and hangs up.
        open: A member for each connection that is open now.
        sent_bytes: How much of /large was taken.
    """

    def __init__(self, name: str, port: int = 0) -> None:
        self.name = name
        self.held = False
        self.events = 4
        self.answers_each = 1_000_000
        self.release = threading.Event()
        self.broken_off = threading.Event()
        self.paths: list[str] = []
        self.sent_bytes = 0
        self.connections: list[socket.socket] = []
        self.open: set[int] = set()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.backend = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        """Its port."""
        return int(self._server.server_port)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and every connection that is open."""
        self.release.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connections that are open."""
        for one in self.connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.connections.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    backend: Backend


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    requests = 0

    def setup(self) -> None:
        super().setup()
        self.server.backend.connections.append(self.connection)
        self.server.backend.open.add(id(self))

    def finish(self) -> None:
        super().finish()
        self.server.backend.open.discard(id(self))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.server.backend.broken_off.set()
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        raise AssertionError("the front answers 100-continue itself")

    def answer(self) -> None:
        """Do what the path says."""
        path = self.path.partition("?")[0]
        self.server.backend.paths.append(path)
        if path == "/early":
            self.close_connection = True
            self.send(413, b"too large")
            return
        if path in {"/upload", "/slow"}:
            if path == "/slow":
                self.server.backend.release.wait(60)
            self.upload()
            return
        if path == "/hasty" and self.requests == self.server.backend.answers_each:
            self.close_connection = True
            return
        body = b"".join(self.parts())
        self.requests += 1
        if self.requests > self.server.backend.answers_each:
            self.close_connection = True
            return
        getattr(self, f"on_{path[1:]}", self.on_echo)(body)

    do_GET = do_POST = do_HEAD = do_OPTIONS = do_DELETE = answer  # noqa: N815

    def on_name(self, _: bytes) -> None:
        """Answer the name."""
        self.send(200, self.server.backend.name.encode())

    def on_hold(self, body: bytes) -> None:
        """Answer late."""
        self.server.backend.release.wait(60)
        self.on_name(body)

    def on_echo(self, body: bytes) -> None:
        """Answer what came; headers may ask for more.

        With `x-say` its number is the status and the body the whole answer; with `x-hold` it comes late.
        """
        if self.headers.get("x-hold"):
            self.server.backend.release.wait(60)
        if say := self.headers.get("x-say"):
            self.send(int(say), body)
            return
        came = {"method": self.command, "path": self.path, "headers": self.headers.items()}
        self.send(200, json.dumps({**came, "body": body.decode()}).encode())

    def on_broken(self, _: bytes) -> None:
        """Announce more than comes."""
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b"ten bytes.")
        self.close_connection = True

    def on_chatty(self, body: bytes) -> None:
        """Answer twice."""
        self.on_name(body)
        self.wfile.write(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")

    def on_tired(self, body: bytes) -> None:
        """Answer the first request of a connection; say to the next that the connection was idle for long."""
        if getattr(self, "was_asked", False):
            self.send(408, b"")
            self.close_connection = True
        else:
            self.was_asked = True
            self.on_name(body)

    def on_large(self, _: bytes) -> None:
        """Send much, as fast as it is taken."""
        self.send_response(200)
        self.send_header("content-length", str(1024 * len(PIECE)))
        self.end_headers()
        for _piece in range(1024):
            self.wfile.write(PIECE)
            self.server.backend.sent_bytes += len(PIECE)

    def on_sse(self, _: bytes) -> None:
        """Stream events in chunks."""
        backend = self.server.backend
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(backend.events):
            self.chunk(f"data: {backend.name} {number}\n\n".encode())
            if backend.held:
                backend.release.wait(60)
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def upload(self) -> None:
        """Count what comes."""
        digest, size = hashlib.sha256(), 0
        for part in self.parts():
            digest.update(part)
            size += len(part)
        self.send(200, json.dumps({"size": size, "sha256": digest.hexdigest()}).encode())

    def chunk(self, data: bytes) -> None:
        """Send one chunk; the empty one is the last."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def parts(self) -> Iterator[bytes]:
        """Yield the body, however it is framed."""
        if self.headers.get("transfer-encoding", "") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("content-length", 0))
        while left:
            part = self.rfile.read(min(left, 1 << 16))
            if not part:
                raise OSError("the body broke off")
            left -= len(part)
            yield part

    def send(self, status: int, body: bytes) -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
