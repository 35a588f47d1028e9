"""The front as the gateway's proxy: the real supervisor, the real process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.effects.pids import orphans
from tasks.effects.supervisord import Supervisord
from tasks.errors import PortTakenError, RefusedError
from tasks.route.proxy.contract import PROGRAM, Door, Target
from tasks.route.proxy.front import FrontProxy
from tests.lab.backend import Backend
from tests.lab.gateway import free_port, until

pytestmark = pytest.mark.real
CHAT = "/openai/v1/chat/completions"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FrontProxy]:
    """Return a proxy that was never pointed; nothing of it is left after the test."""
    state = tmp_path / "state"
    supervisor = Supervisord(state)
    yield FrontProxy(Door(free_port()), state / "gateway" / "proxy", supervisor, sys.executable)
    supervisor.shutdown()
    assert () == orphans(state)


@pytest.fixture
def blue() -> Iterator[Backend]:
    """Return what serves first."""
    with Backend("blue") as backend:
        yield backend


@pytest.fixture
def green() -> Iterator[Backend]:
    """Return what serves then."""
    with Backend("green") as backend:
        yield backend


@pytest.fixture
def client(proxy: FrontProxy) -> Iterator[httpx.Client]:
    """Return a client of the public port."""
    base = f"http://127.0.0.1:{proxy.door.port}"
    with httpx.Client(base_url=base, trust_env=False, timeout=60) as made:
        yield made


def say(client: httpx.Client, answer: str, status: int = 200) -> None:
    """Let what serves answer this."""
    client.post(CHAT, content=answer.encode(), headers={"x-say": str(status)})


def answered_by(function: str, variant: str) -> str:
    """Return an answer as TensorZero writes it."""
    return f'{{"id":"1","model":"tensorzero::function_name::{function}::variant_name::{variant}"}}'


def test_first_time(proxy: FrontProxy, client: httpx.Client, blue: Backend) -> None:
    """Before, it is nowhere; then it leads to its target and says so."""
    before = (proxy.active(), proxy.runs(), proxy.counts())
    proxy.point(Target("g1", blue.port))

    assert before == (None, False, ())
    assert (proxy.active(), proxy.runs()) == (Target("g1", blue.port), True)
    assert client.get("/health").json()["path"] == "/health"


def test_counts(proxy: FrontProxy, client: httpx.Client, blue: Backend, green: Backend) -> None:
    """By who answered, function, variant and status; a model that was asked by its name has no variant."""
    proxy.point(Target("g1", blue.port))
    for _ in range(2):
        say(client, answered_by("chat", "local"))
    say(client, '{"model":"tensorzero::embedding_model_name::all-minilm-l6-v2"}')
    say(client, '{"error":"all variants failed"}', status=502)
    proxy.point(Target("g2", green.port))
    say(client, answered_by("chat", "venice"))

    found = {
        (one.target, one.function, one.variant, one.status, one.requests)
        for one in until(lambda: proxy.counts() if sum(c.requests for c in proxy.counts()) == 5 else ())
    }
    assert found == {
        ("g1", "chat", "local", 200, 2),
        ("g1", "all-minilm-l6-v2", "", 200, 1),
        ("g1", "", "", 502, 1),
        ("g2", "chat", "venice", 200, 1),
    }


def test_drained(proxy: FrontProxy, client: httpx.Client, blue: Backend, green: Backend) -> None:
    """A target is drained after its last request."""
    proxy.point(Target("g1", blue.port))
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(client.get, "/status", headers={"x-hold": "1"})
        until(lambda: blue.paths)
        proxy.point(Target("g2", green.port))

        assert not proxy.drained(Target("g1", blue.port), 0.2)
        blue.release.set()
        assert proxy.drained(Target("g1", blue.port), 30)
        assert held.result().status_code == 200


@pytest.mark.parametrize(
    "path", ["/internal/config", "/mcp", "/v1/datasets", "/", "/openai/v1/../../internal", "//internal"]
)
def test_what_is_for_nobody_outside(
    proxy: FrontProxy, client: httpx.Client, blue: Backend, path: str
) -> None:
    """It is not handed on, and the answer names what is."""
    proxy.point(Target("g1", blue.port))
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    reply = client.send(request)

    assert (reply.status_code, blue.paths) == (404, [])
    assert "/openai/v1/" in reply.json()["error"]["message"]


def test_killed(proxy: FrontProxy, client: httpx.Client, blue: Backend) -> None:
    """It comes back where it was pointed."""
    proxy.point(Target("g1", blue.port))
    pid = proxy.supervisor.states()[PROGRAM].pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: proxy.runs() and proxy.supervisor.states()[PROGRAM].pid != pid)

    assert proxy.active() == Target("g1", blue.port)
    assert client.get("/health").status_code == 200


def test_a_stranger_has_the_port(proxy: FrontProxy, green: Backend, blue: Backend) -> None:
    """It is refused, and nothing is pointed anywhere."""
    taken = replace(proxy, door=Door(green.port))
    with pytest.raises(PortTakenError):
        taken.point(Target("g1", blue.port))

    assert (taken.active(), taken.runs()) == (None, False)


def test_stop(proxy: FrontProxy, blue: Backend) -> None:
    """The port is free, twice over."""
    proxy.point(Target("g1", blue.port))
    proxy.stop()
    proxy.stop()

    assert (proxy.active(), proxy.runs()) == (None, False)
    assert PROGRAM not in proxy.supervisor.states()


@pytest.mark.parametrize(
    ("door", "what"),
    [
        (Door(3030, token_sha256="0" * 64), "an access token"),  # none
        (Door(3030, certificate=Path("cert.pem")), "a certificate"),
        (Door(3030, bind="0.0.0.0"), "the address 0.0.0.0"),  # it is refused
    ],
)
def test_what_it_cannot(proxy: FrontProxy, blue: Backend, door: Door, what: str) -> None:
    """A token, TLS or another address needs HAProxy, and the refusal names the package."""
    with pytest.raises(RefusedError, match=f"is to have {what}, which needs HAProxy") as caught:
        replace(proxy, door=door).point(Target("g1", blue.port))

    assert "apt install haproxy" in caught.value.then
    assert not proxy.runs()
