"""Whether an Ollama runs: what it says of itself, and what others say under its address."""

from __future__ import annotations

from typing import Self

import pytest

from tasks.contracts import NOT_ASKED
from tasks.detect import ollama
from tasks.detect.outside import OLLAMA
from tasks.effects.http import HttpError, Reply

NEAR, FAR = "http://127.0.0.1:11434", "http://box:11434"


class Server:
    """Answers each request with the same, and notes what was asked."""

    def __init__(self, reply: Reply | HttpError) -> None:
        """Answer with `reply`."""
        self.reply, self.asked = reply, list[tuple[str, float]]()

    def __call__(self) -> Self:
        """Stand for the client's class."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Hold nothing."""

    def get(self, url: str, *, timeout_s: float) -> Reply:
        """Answer, or fail."""
        self.asked.append((url, timeout_s))
        if isinstance(self.reply, HttpError):
            raise self.reply
        return self.reply


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the ports on which somebody listens."""
    ports: set[int] = set()
    monkeypatch.setattr(ollama, "listener", lambda port: port in ports)
    return ports


def serve(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes) -> Server:
    """Let every request be answered so."""
    server = Server(Reply(status, body, 0.0))
    monkeypatch.setattr(ollama, "Httpx", server)
    return server


def test_an_ollama_tells_its_version(monkeypatch: pytest.MonkeyPatch, listening: set[int]) -> None:
    """It is asked once, under a path that is its own."""
    listening.add(11434)
    server = serve(monkeypatch, 200, b'{"version":"0.33.3"}')
    found = ollama.running(NEAR, 3)

    assert (found.name, found.address, found.answers, found.detail) == (OLLAMA, NEAR, True, "version 0.33.3")
    assert server.asked == [(f"{NEAR}/api/version", 3)]


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"not found"), (200, b'{"version":7}'), (200, b"[]"), (200, b'{"a":1}')]
)
def test_something_else_is_no_ollama(
    monkeypatch: pytest.MonkeyPatch, listening: set[int], status: int, body: bytes
) -> None:
    """Whatever it answers."""
    listening.add(11434)
    serve(monkeypatch, status, body)
    found = ollama.running(NEAR, 3)

    assert (found.answers, found.detail) == (False, "something else answers there")


def test_a_body_that_is_no_json_is_none_either(monkeypatch: pytest.MonkeyPatch, listening: set[int]) -> None:
    """With what came."""
    listening.add(11434)
    serve(monkeypatch, 200, b"Hello")
    found = ollama.running(NEAR, 3)

    assert (found.answers, found.detail) == (False, "HTTP 200: Hello, which is not JSON")


def test_where_nobody_listens_nobody_is_asked(monkeypatch: pytest.MonkeyPatch, listening: set[int]) -> None:
    """On this host; another is asked, because it cannot be seen."""
    server = serve(monkeypatch, 200, b'{"version":"0.33.3"}')

    assert ollama.running(NEAR, 3).detail == "nobody listens there"
    assert server.asked == []
    assert listening == set()
    assert ollama.running(FAR, 3).answers


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason."""
    monkeypatch.setattr(ollama, "Httpx", Server(HttpError("no answer within 3 s")))

    assert ollama.running(FAR, 3).detail == "no answer within 3 s"


def test_without_an_address_nobody_is_asked() -> None:
    """As in records that are older than the question."""
    found = ollama.running("", 3)

    assert (found.answers, found.detail) == (False, NOT_ASKED.unknown)
