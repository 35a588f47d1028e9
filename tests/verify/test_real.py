"""Verify against real servers on loopback, through the real HTTP client."""

from __future__ import annotations

import gzip
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import ModelServer
from tasks.effects.chat import pace
from tasks.effects.http import HttpError, Httpx
from tasks.effects.wire import FormFile
from tasks.errors import StoppedError, VerifyError
from tasks.verify import deadlines
from tasks.verify.check import VerifyContext, verify
from tasks.verify.probe_files import asset
from tests.lab.answering import Model, OnLoopback
from tests.lab.embedded_server import embedded_server
from tests.lab.environment import free_port
from tests.lab.openai_server import FakeOpenAI

pytestmark = pytest.mark.real
Make = Callable[..., ModelServer]


def test_the_embedded_server_is_verified(server: Make, minilm_cache: Path, tmp_path: Path) -> None:
    """The real weights answer every question, and the numbers are of this process."""
    with embedded_server(minilm_cache, tmp_path / "log") as running, Httpx() as http:
        made = verify(server(running.port, running.process.pid), VerifyContext(http))
        light = verify(server(running.port, running.process.pid), VerifyContext(http, light=True))

    assert all(answer.right for answer in (*made.answers, *light.answers))
    assert isinstance(made.memory_bytes, int)
    assert 100 << 20 < made.memory_bytes < 1 << 30
    assert 0 < made.latency_s < 60


def test_a_server_of_nonsense_is_refused(server: Make) -> None:
    """A server that has a vector for everything but no idea fails."""
    with FakeOpenAI(dimensions=384) as fake, Httpx() as http:
        one = replace(server(), base_url=fake.base_url)
        with pytest.raises(VerifyError) as caught:
            verify(one, VerifyContext(http, deadline_s=5))

    assert "answers wrongly" in caught.value.what


def chat_server(server: Make, base_url: str) -> ModelServer:
    """Return a chat model at that address."""
    return replace(server(role="llm", model="m", runtime="external"), base_url=base_url)


def test_a_right_model_over_the_wire(server: Make) -> None:
    """All roles that speak JSON, and a stream."""
    with OnLoopback(Model()) as play, Httpx() as http:
        one = replace(
            server(role="llm", model="m", runtime="external", also=("code", "vision")), base_url=play.base_url
        )
        made = verify(one, VerifyContext(http, stop=threading.Event()))

    assert 13 == len(made.answers)
    assert made.performance.tokens_per_s > 0


def test_a_recording_over_the_wire(server: Make) -> None:
    """The form is one that an independent parser reads."""
    with OnLoopback(Model()) as play, Httpx() as http:
        one = replace(server(role="whisper", model="m", runtime="external"), base_url=play.base_url)
        made = verify(one, VerifyContext(http))
        sent = next(one for one in play.model.requests if one.form is not None)

    assert 3 == len(made.answers)
    assert {"model": "m", "response_format": "json", "temperature": "0", "language": "en"} == sent.form
    assert FormFile("file", "speech.wav", "audio/wav", asset("speech-en.wav")) == sent.file


def endless_body(write: Callable[[bytes], object], _end: threading.Event) -> None:
    """Send an answer that goes on for ever, as fast as it is read."""
    write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        write(b" " * 65536)


def endless_stream(write: Callable[[bytes], object], _end: threading.Event) -> None:
    """Send parts of an answer for ever."""
    write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    while True:
        write(b'data: {"choices": [{"index": 0, "delta": {"content": "42 "}}]}\n\n' * 100)


def slow_headers(write: Callable[[bytes], object], end: threading.Event) -> None:
    """Send a byte of a header now and then."""
    write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while not end.wait(0.01):
        write(b"x")


def slow_body(write: Callable[[bytes], object], end: threading.Event) -> None:
    """Send a byte of the body now and then."""
    write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not end.wait(0.01):
        write(b" ")


def silence(_write: Callable[[bytes], object], end: threading.Event) -> None:
    """Send nothing."""
    end.wait(60)


def shut(_write: Callable[[bytes], object], _end: threading.Event) -> None:
    """Close the connection."""


def half(write: Callable[[bytes], object], _end: threading.Event) -> None:
    """Send half of what was promised."""
    write(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"choices"')


def no_http(write: Callable[[bytes], object], _end: threading.Event) -> None:
    """Speak another protocol."""
    write(b"220 mail.example.org ESMTP\r\n")


def bomb(write: Callable[[bytes], object], _end: threading.Event) -> None:
    """Send a small body that would unpack to more than is read."""
    body = gzip.compress(b" " * (80 << 20), 1)
    head = f"content-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + head + body)


def redirect(write: Callable[[bytes], object], _end: threading.Event) -> None:
    """Point somewhere else."""
    write(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "got"),
    [
        (endless_body, "more than 67,108,864 bytes"),
        (endless_stream, "more than 67,108,864 bytes"),
        (slow_headers, "no answer within"),
        (slow_body, "no answer within"),
        (silence, "no answer within"),
        (shut, "disconnected without sending a response"),
        (half, "closed connection without sending complete message body"),
        (no_http, "disconnected without sending a response"),
        (bomb, "which is not JSON"),
        (redirect, "HTTP 307"),
    ],
)
@pytest.mark.parametrize("stop", [None, threading.Event()])
def test_hostile_answers_are_one_sentence(
    server: Make,
    raw: Callable[..., None],
    got: str,
    stop: threading.Event | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In bounded time and memory."""
    monkeypatch.setattr(deadlines, "REQUEST_S", 3.0)
    monkeypatch.setattr(deadlines, "load_s", lambda _planned: 2.0)
    monkeypatch.setattr(deadlines, "tokens_per_s", lambda _planned: 1000.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with OnLoopback(Model()) as play, Httpx() as http:
        play.raw = raw
        begun = time.monotonic()
        with pytest.raises(VerifyError) as caught:
            verify(chat_server(server, play.base_url), VerifyContext(http, stop=stop))
        seconds = time.monotonic() - begun

    assert got in caught.value.what
    assert "\n" not in str(caught.value)
    assert seconds < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


def test_an_endless_stream_is_left() -> None:
    """As soon as it has many times the parts that were asked for."""
    with OnLoopback(Model()) as play, Httpx() as http:
        play.raw = endless_stream
        with pytest.raises(HttpError, match=r"a stream that does not end"):
            pace(http, play.base_url, "m", "count", max_tokens=64, timeout_s=20)


def test_a_run_that_is_stopped_does_not_wait_for_an_answer(server: Make) -> None:
    """Ctrl-C ends a question that a slow model still thinks about."""
    stop = threading.Event()
    with OnLoopback(Model()) as play, Httpx() as http:
        play.raw = silence
        threading.Timer(0.5, stop.set).start()
        begun = time.monotonic()
        with pytest.raises(StoppedError):
            verify(chat_server(server, play.base_url), VerifyContext(http, stop=stop))

        assert time.monotonic() - begun < 15


def test_connections_are_kept() -> None:
    """Requests one after another go over one connection, so what is timed is the server."""
    with OnLoopback(Model()) as play, Httpx() as http:
        accepted = []
        take = play._server.get_request
        play._server.get_request = lambda: accepted.append(1) or take()  # type: ignore[func-returns-value]
        for _ in range(5):
            assert 200 == http.get(f"{play.base_url}/models", timeout_s=10).status

    assert 1 == len(accepted)


def test_httpx_says_why_there_is_no_answer() -> None:
    """A closed port and a server that hangs are clauses, within their time."""
    with Httpx() as http, pytest.raises(HttpError, match="the connection is refused"):
        http.get(f"http://127.0.0.1:{free_port()}/", timeout_s=5)
    with Httpx() as http, FakeOpenAI() as fake:
        fake.fault = "hang"
        begun = time.monotonic()
        with pytest.raises(HttpError, match=r"no answer within 0\.2 s"):
            http.post(f"{fake.base_url}/embeddings", {"input": "a", "model": "m"}, timeout_s=0.2)

        assert time.monotonic() - begun < 5


def test_httpx_ignores_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever the environment says of proxies."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with FakeOpenAI() as fake, Httpx() as http:
        reply = http.post(f"{fake.base_url}/embeddings", {"input": "a", "model": "m"}, timeout_s=10)

    assert 200 == reply.status
    assert "m" == reply.json()["model"]
