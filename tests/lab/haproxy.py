"""A HAProxy of a test under a supervisor of its own, and gateways behind it that answer as they are asked to.

POST <any path> with JSON    {}                                  an answer as TensorZero's, by function `f`
    {"say": "…", "status": 200, "type": "application/json"}      that very answer
    {"events": ["…", "…"]}                                       a stream of these events, one write each
    {"hold": true}                                               waits for `release` first, or in a stream
    {"cut": true}                                                half an answer
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import pytest

from tasks.effects.pids import orphans
from tasks.effects.supervisord import Supervisord
from tasks.route.proxy.contract import Door, Target
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_starter import ProcessStarter, found
from tests.lab.gateway import free_port

CHAT = "/openai/v1/chat/completions"


def model(function: str, variant: str) -> str:
    """Return what TensorZero says of itself in `model`."""
    return f"tensorzero::function_name::{function}::variant_name::{variant}"


def answer(named: str, content: str = "hello") -> str:
    """Return an answer as TensorZero writes it: `model` comes behind the choices."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": content, "role": "assistant"}}
    return json.dumps(
        {
            "id": "0194e2b6-1a1e-7b7a-9a55-d5f2a1c2e7a1",
            "choices": [choice],
            "created": 1795628000,
            "model": named,
            "object": "chat.completion",
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        },
        separators=(",", ":"),
    )


def event(named: str, content: str = "hello") -> str:
    """Return one event of a stream as TensorZero writes it."""
    ids = {"id": "0194e2b6-1a1e-7b7a-9a55-d5f2a1c2e7a1", "episode_id": "0194e2b6-1a1e-7b7a-9a55-d5f2a1c2e7a2"}
    choice = {"index": 0, "finish_reason": None, "logprobs": None, "delta": {"content": content}}
    rest = {"choices": [choice], "created": 1795628000, "model": named, "object": "chat.completion.chunk"}
    return json.dumps({**ids, **rest}, separators=(",", ":"))


class FakeGateway:
    """A gateway with a name, which is its variant's name, too. Use as a context manager.

    Attributes:
        release: Ends every pause.
        asked: Path and headers of each request that came.
        broken_off: Set once a client was gone before its answer was complete.
    """

    def __init__(self, name: str, port: int = 0) -> None:
        self.name = name
        self.release = threading.Event()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.broken_off = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.gateway = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def target(self) -> Target:
        """What a proxy is pointed to."""
        return Target(self.name, int(self._server.server_port))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; nobody listens on its port any more."""
        self.release.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    gateway: FakeGateway


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def do_POST(self) -> None:
        """Do what the body says."""
        gateway = self.server.gateway
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        gateway.asked.append((self.path, dict(self.headers.items())))
        asked: dict[str, Any] = json.loads(body) if body[:1] == b"{" else {}
        try:
            if "events" in asked:
                self.stream(asked)
            else:
                if asked.get("hold"):
                    gateway.release.wait(60)
                self.say(asked)
        except OSError:
            gateway.broken_off.set()
            self.close_connection = True

    do_GET = do_POST  # noqa: N815  # the name is given

    def say(self, asked: dict[str, Any]) -> None:
        """Answer at once."""
        text = asked.get("say", answer(model("f", self.server.gateway.name))).encode()
        self.send_response(asked.get("status", 200))
        self.send_header("content-type", asked.get("type", "application/json"))
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text[: len(text) // 2] if asked.get("cut") else text)
        self.close_connection = self.close_connection or bool(asked.get("cut"))

    def stream(self, asked: dict[str, Any]) -> None:
        """Answer in events."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, one in enumerate([*asked["events"], "[DONE]"]):
            data = f"data: {one}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            if asked.get("hold") and number == 0:
                self.server.gateway.release.wait(60)
        self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def proxied(state: Path, door: Door | None = None) -> Iterator[HaProxy]:
    """Yield a proxy that was never pointed; nothing of it is left after the block."""
    program = found()
    if program is None:
        pytest.skip("HAProxy is not installed (apt install haproxy)")
    supervisor, folder = Supervisord(state), state / "gateway" / "proxy"
    yield HaProxy(door or Door(free_port()), folder, ProcessStarter(folder, supervisor, program))
    supervisor.shutdown()
    assert () == orphans(state)


def client_of(proxy: HaProxy, **more: Any) -> httpx.Client:  # noqa: ANN401  # httpx's own options
    """Return a client of the public port."""
    base = f"{'https' if proxy.door.certificate else 'http'}://127.0.0.1:{proxy.door.port}"
    return httpx.Client(base_url=base, trust_env=False, timeout=60, **more)


def who(client: httpx.Client) -> str:
    """Return the name of the gateway that answers now."""
    reply = client.post(CHAT, json={})
    if reply.status_code != httpx.codes.OK:
        return f"{reply.status_code} {reply.text}"
    return str(reply.json()["model"]).rpartition("::")[2]


def raw(port: int, request: bytes) -> bytes:
    """Send bytes, and return what comes until the end."""
    with socket.create_connection(("127.0.0.1", port), 10) as made:
        made.sendall(request)
        return b"".join(iter(lambda: made.recv(1 << 16), b""))
