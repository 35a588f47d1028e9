"""Verify against real servers on loopback, through the real HTTP client."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import ModelServer
from tasks.effects.http import HttpError, Httpx
from tasks.errors import VerifyError
from tasks.verify.check import VerifyContext, verify
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
