"""A model server that is strict about its paths, and the real TensorZero before it, for the linter."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, cast

import httpx

CHAT = "/v1/chat/completions"
ANSWERS: dict[str, dict[str, Any]] = {
    CHAT: {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
    "/v1/embeddings": {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    },
    "/v1/messages": {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "yes"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
}
PART = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "y"}, "finish_reason": None}],
}


class Strict:
    """Answers where OpenAI and Anthropic do, and 404 elsewhere. Use as a context manager.

    Attributes:
        broken: Whether it answers 500 instead.
        hangs: Whether it waits for the end of the block: before it answers, in a stream after the first part.
        asked: Path and body of each request.
    """

    def __init__(self, *, broken: bool = False, hangs: bool = False) -> None:
        self.broken = broken
        self.hangs = hangs
        self.over = threading.Event()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.strict = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def root(self) -> str:
        """Address without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def model(
        self, name: str, *, path: str = "/v1/", kind: str = "openai", more: str = "", provider: str = ""
    ) -> str:
        """Return a model that is served here, with further lines of its own and of its provider."""
        return (
            f'[models.{name}]\nrouting = ["p"]\n{more}\n'
            f'[models.{name}.providers.p]\ntype = "{kind}"\napi_base = "{self.root}{path}"\n'
            f'model_name = "m"\napi_key_location = "none"\n{provider}\n'
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    strict: Strict


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer, or hang, or fail."""
        strict = self.server.strict
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        strict.asked.append((self.path, body))
        answer = ANSWERS.get(self.path)
        try:
            if strict.hangs and body.get("stream"):
                self._stop_in_the_middle(strict)
                return
            if strict.hangs:
                strict.over.wait(60)
            status = 500 if strict.broken else 200 if answer else 404
            self._send(status, answer if status == httpx.codes.OK else {"error": {"message": "no"}})
        except OSError:
            self.close_connection = True

    def _send(self, status: int, answer: dict[str, Any] | None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stop_in_the_middle(self, strict: Strict) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(f"data: {json.dumps(PART)}\n\n".encode())
        self.wfile.flush()
        strict.over.wait(60)
        self.close_connection = True


class Said(NamedTuple):
    """What came back: the status, and the variant that answered or the error's words."""

    status: int
    words: str


class _Gateway(Protocol):
    base_url: str

    def close(self) -> None:
        """End it."""


class Loaded:
    """A config in the real TensorZero of this process. Leaving the block closes it.

    That it can be entered is what shows that TensorZero takes the file.
    """

    def __init__(self, folder: Path, config: str) -> None:
        os.putenv("RUST_LOG", "")  # the wheel would print beside the tests' output
        os.putenv("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1")
        self._path = folder / "tensorzero.toml"
        self._path.write_text(config)

    def __enter__(self) -> Self:
        from tensorzero.tensorzero import _start_http_gateway  # noqa: PLC0415  # fast tests need none of it

        started = _start_http_gateway(
            config_file=str(self._path),
            clickhouse_url=None,
            postgres_url=None,
            valkey_url=None,
            async_setup=False,
        )
        self._gateway = cast("_Gateway", started)
        self.base_url = self._gateway.base_url
        self._client = httpx.Client(base_url=self.base_url, trust_env=False, timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._gateway.close()

    def ask(self, function: str = "f", **more: object) -> Said:
        """Send one chat request to a function."""
        body = {
            "model": f"tensorzero::function_name::{function}",
            "messages": [{"role": "user", "content": "?"}],
            **more,
        }
        reply = self._client.post("/chat/completions", json=body)
        if reply.status_code == httpx.codes.OK:
            return Said(200, str(reply.json()["model"]).rpartition("::")[2])
        return Said(reply.status_code, str(reply.json()["error"]["message"]))

    def embed(self, model: str = "e") -> Said:
        """Ask for one vector."""
        reply = self._client.post("/embeddings", json={"model": model, "input": "?"})
        return Said(reply.status_code, reply.text)

    def drawn(self, requests: int) -> Counter[str]:
        """Return which variants answered so many requests."""
        return Counter(self.ask().words for _ in range(requests))
