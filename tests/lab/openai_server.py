"""A tiny OpenAI-compatible model server on loopback, in a thread, with faults.

Its vectors depend on the text and on its `flavour`, so an answer tells which server gave it.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

Fault = Literal[
    "",
    "400",
    "401",
    "404",
    "429",
    "500",
    "503",
    "hang",
    "nonsense",
    "unnormed",
    "dropped",
    "no choices",
    "dies",
]
ANSWER = "the answer of {}"


def vector(flavour: str, text: str, dimensions: int) -> list[float]:
    """Return the unit vector that a server of this flavour gives for a text."""
    seed = hashlib.sha256(f"{flavour}:{text}".encode()).digest()
    numbers = [random.Random(seed + bytes([i % 256])).gauss(0, 1) for i in range(dimensions)]  # noqa: S311
    norm = math.sqrt(sum(number * number for number in numbers))
    return [number / norm for number in numbers]


class FakeOpenAI:
    """Answers `/v1/embeddings`, `/v1/chat/completions` and `/health`. Use as a context manager.

    Attributes:
        fault: What is wrong with it now. "hang" waits for `release` and then answers well, "dropped" closes
            the connection without a word, "dies" does so after the first part of a stream.
        release: Ends every hang, and the pause after the first part of a stream.
        requests: The body of every request that arrived.
        keys: The `Authorization` of every request that arrived, "" for none.
        broken_off: Set once a client was gone before its answer was complete.
    """

    def __init__(self, flavour: str = "a", dimensions: int = 8) -> None:
        self.flavour = flavour
        self.dimensions = dimensions
        self.fault: Fault = ""
        self.release = threading.Event()
        self.broken_off = threading.Event()
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def base_url(self) -> str:
        """Address that ends in `/v1`."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to an embeddings request."""
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        scale = 2.0 if self.fault == "unnormed" else 1.0
        rows = [[scale * x for x in vector(self.flavour, text, self.dimensions)] for text in texts]
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return {"object": "list", "model": body["model"], "data": data, "usage": usage}

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a chat request that wants no stream."""
        message = {"role": "assistant", "content": ANSWER.format(self.flavour)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [] if self.fault == "no choices" else [choice],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeOpenAI


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def do_GET(self) -> None:
        """Be healthy."""
        self._send(200, b"ok")

    def do_POST(self) -> None:
        """Answer, with the fault that is set."""
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake.requests.append(body)
        fake.keys.append(self.headers.get("authorization", ""))
        if fake.fault == "hang" and not fake.release.wait(60):
            return
        if fake.fault.isdecimal():
            self._send(int(fake.fault), b'{"error":{"message":"out of memory"}}')
        elif fake.fault == "dropped":
            self._drop()
        elif fake.fault == "nonsense":
            self._send(200, b"<html>It works!</html>")
        elif not self.path.endswith("/chat/completions"):
            self._send(200, json.dumps(fake.embeddings(body)).encode())
        elif body.get("stream"):
            self._stream()
        else:
            self._send(200, json.dumps(fake.completion(body)).encode())

    def _drop(self) -> None:
        """Close the connection as a server that was killed does."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.server.fake.broken_off.set()

    def _stream(self) -> None:
        """Send one word, wait for `release`, send another."""
        try:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            if self.server.fake.fault == "dies":
                self._die()
                return
            self.send_header("connection", "close")
            self.end_headers()
            self._event("first")
            self.server.fake.release.wait(60)
            self._event("second", finish="stop")
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.fake.broken_off.set()
        self.close_connection = True

    def _die(self) -> None:
        """Send the first chunk of a stream and never the last, or its end would look like a good one."""
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        event = self._framed("first")
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()
        self._drop()

    def _event(self, word: str, finish: str | None = None) -> None:
        self.wfile.write(self._framed(word, finish))
        self.wfile.flush()

    def _framed(self, word: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": finish}
        event = {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        return f"data: {json.dumps(event)}\n\n".encode()
