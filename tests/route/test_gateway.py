"""The gateway program: a real TensorZero behind a port that stays."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tasks.effects.forwarding.headers import forwarded
from tasks.effects.forwarding.server import listen
from tests.lab.gateway import MODEL, Gateway, config_for, free_port, until
from tests.lab.openai_server import FakeOpenAI, vector

pytestmark = pytest.mark.real
BROKEN = '[embedding_models.m]\nrouting = ["gone"]\nproviderz = {}\n'


@pytest.fixture
def blue() -> Iterator[FakeOpenAI]:
    """Return the model server of the first config."""
    with FakeOpenAI("blue") as server:
        yield server


@pytest.fixture
def green() -> Iterator[FakeOpenAI]:
    """Return the model server of the second config."""
    with FakeOpenAI("green") as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path, blue: FakeOpenAI) -> Iterator[Gateway]:
    """Return a gateway in front of `blue`."""
    with Gateway(tmp_path / "gateway", config_for(blue)) as running:
        yield running


def flavour(got: list[float], text: str) -> str:
    """Say which server a vector comes from."""
    for name in ("blue", "green"):
        if math.dist(got, vector(name, text, len(got))) < 1e-5:
            return name
    return "nobody"


def sha256(text: str) -> str:
    """Return the digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_embeddings(gateway: Gateway, blue: FakeOpenAI) -> None:
    """An embeddings request goes to the model's server, and its answer comes back."""
    got = gateway.embed("a cat sits")

    assert flavour(got, "a cat sits") == "blue"
    assert blue.requests == [{"model": "m", "input": "a cat sits", "encoding_format": "float"}]


def test_status(gateway: Gateway, blue: FakeOpenAI) -> None:
    """The status names the version and the config by the digest of its bytes."""
    status = gateway.status()

    assert status["version"] == importlib.metadata.version("tensorzero")
    assert status["config_hash"] == sha256(config_for(blue))
    assert status["pid"] == gateway.process.pid
    assert (status["generation"], status["in_flight"], status["retiring"]) == (1, 0, 0)
    assert gateway.client.get("/health").status_code == 200


def test_only_the_openai_routes(gateway: Gateway) -> None:
    """Nothing else is there; what TensorZero does not know, it says itself."""
    assert gateway.client.get("/").status_code == 404
    assert gateway.client.post("/inference", json={}).status_code == 404
    assert "Route not found" in gateway.client.post("/openai/v1/rerank", json={}).text


def test_errors_pass(gateway: Gateway, blue: FakeOpenAI) -> None:
    """A failing model server and an unknown model come back as TensorZero tells them."""
    blue.fault = "500"
    failing = gateway.client.post("/openai/v1/embeddings", json={"model": MODEL, "input": "x"})
    unknown = gateway.client.post("/openai/v1/embeddings", json={"model": MODEL + "?", "input": "x"})

    assert (failing.status_code, unknown.status_code) == (500, 404)
    assert "out of memory" in failing.json()["error"]["message"]
    assert unknown.json()["error"]["message"] == "Model not found: m?"


def test_large_request(gateway: Gateway) -> None:
    """A body of a megabyte, and one that is sent in parts, arrive whole."""
    long = "word " * 200_000
    parts = iter([b'{"model": "' + MODEL.encode(), b'", "input": "in ', b'parts"}'])
    reply = gateway.client.post(
        "/openai/v1/embeddings", content=parts, headers={"content-type": "application/json"}
    )

    assert flavour(gateway.embed(long), long) == "blue"
    assert flavour(reply.json()["data"][0]["embedding"], "in parts") == "blue"


def test_stream_is_not_held_back(gateway: Gateway, blue: FakeOpenAI) -> None:
    """The first part of a streamed answer arrives while the model server still thinks about the second."""
    chat = f"""
[models.chat]
routing = ["p"]
[models.chat.providers.p]
type = "openai"
api_base = "{blue.base_url}/"
model_name = "chat"
api_key_location = "none"
"""
    assert gateway.reload(config_for(blue) + chat)["last_reload"]["ok"]
    body = {
        "model": "tensorzero::model_name::chat",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }

    with gateway.client.stream("POST", "/openai/v1/chat/completions", json=body) as reply:
        lines = (line for line in reply.iter_lines() if line)
        first = next(lines)
        in_flight = gateway.status()["in_flight"]
        blue.release.set()
        rest = list(lines)

    assert '"first"' in first
    assert in_flight == 1
    assert '"second"' in "".join(rest)
    assert rest[-1] == "data: [DONE]"


def test_client_leaves(gateway: Gateway, blue: FakeOpenAI) -> None:
    """A client that goes away ends what runs for it, though the model server still hangs."""
    blue.fault = "hang"
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        body = f'{{"model": "{MODEL}", "input": "x"}}'
        head = f"POST /openai/v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        client.sendall(f"{head}content-type: application/json\r\n\r\n{body}".encode())
        until(lambda: blue.requests)
        during = gateway.status()["in_flight"]

    assert during == 1
    until(lambda: gateway.status()["in_flight"] == 0)


def test_swap_under_load(gateway: Gateway, blue: FakeOpenAI, green: FakeOpenAI) -> None:
    """Three swaps while six clients ask without a pause: none fails, each new answer is of the new one."""
    stop = threading.Event()

    def ask(number: int) -> list[str]:
        seen = []
        with httpx.Client(base_url=gateway.client.base_url, trust_env=False, timeout=60) as client:
            while not stop.is_set():
                seen.append(flavour(gateway.embed(f"text {number}", client), f"text {number}"))
        return seen

    after = []
    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, number) for number in range(6)]
        try:
            for upstream in (green, blue, green):
                count = len(upstream.requests)
                status = gateway.reload(config_for(upstream))
                after.append((status["config_hash"], flavour(gateway.embed("now"), "now")))
                until(lambda seen=count, server=upstream: len(server.requests) > seen + 20)
        finally:
            stop.set()
        seen = [flavours for future in asking for flavours in future.result()]

    assert after == [(sha256(config_for(one)), one.flavour) for one in (green, blue, green)]
    assert set(seen) == {"blue", "green"}
    assert until(lambda: gateway.status()["retiring"] == 0)


def test_request_outlives_its_generation(gateway: Gateway, blue: FakeOpenAI, green: FakeOpenAI) -> None:
    """A request that runs during a swap is finished by the server that it began with."""
    blue.fault = "hang"
    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(gateway.embed, "old")
        until(lambda: blue.requests)
        status = gateway.reload(config_for(green))
        new = gateway.embed("new")
        blue.release.set()
        got = old.result()

    assert (status["in_flight"], status["retiring"], status["generation"]) == (1, 1, 2)
    assert (flavour(got, "old"), flavour(new, "new")) == ("blue", "green")
    until(lambda: gateway.status()["retiring"] == 0)


@pytest.mark.parametrize(
    ("config", "reason"),
    [(BROKEN, "unknown field `providerz`"), ("a = ", "TOML"), (None, "No such file or directory")],
    ids=["rejected", "not TOML", "missing"],
)
def test_bad_config_changes_nothing(
    gateway: Gateway, blue: FakeOpenAI, config: str | None, reason: str
) -> None:
    """A config that does not load never replaces the one in use, and the status says why."""
    if config is None:
        gateway.config.unlink()
    status = gateway.reload(config)

    assert status["config_hash"] == sha256(config_for(blue))
    assert status["generation"] == 1
    assert not status["last_reload"]["ok"]
    assert reason in status["last_reload"]["error"]
    assert flavour(gateway.embed("x"), "x") == "blue"


def test_hash_is_of_what_serves(gateway: Gateway, blue: FakeOpenAI, green: FakeOpenAI) -> None:
    """While somebody keeps rewriting the file, the status still names the config that answers."""
    stop = threading.Event()
    flavours = {sha256(config_for(server)): server.flavour for server in (blue, green)}

    def rewrite() -> None:
        while not stop.is_set():
            for server in (blue, green):
                fresh = gateway.config.with_suffix(".new")
                fresh.write_text(config_for(server))
                fresh.replace(gateway.config)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        statuses = [
            (flavours[gateway.reload()["config_hash"]], flavour(gateway.embed("x"), "x")) for _ in range(12)
        ]
    finally:
        stop.set()
        writer.join()

    assert all(named == answered for named, answered in statuses)
    assert list(gateway.config.parent.glob(".loading*")) == []


def test_ends_after_its_requests(gateway: Gateway, blue: FakeOpenAI) -> None:
    """SIGTERM closes the port at once, finishes what runs, and ends with code 0."""
    blue.fault = "hang"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(gateway.embed, "x")
        until(lambda: blue.requests)
        gateway.process.terminate()
        until(lambda: refused(gateway.port))
        alive = gateway.process.poll() is None
        blue.release.set()

        assert alive
        assert flavour(running.result(), "x") == "blue"
    assert gateway.process.wait(10) == 0


def test_ends_within_bounds(gateway: Gateway, blue: FakeOpenAI) -> None:
    """A request that never ends is told so, and does not keep the gateway from ending."""
    gateway.process.kill()
    gateway.process.wait(10)
    gateway.process = gateway.spawn("--finish-s", "1")
    until(gateway.status)
    blue.fault = "hang"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            gateway.client.post, "/openai/v1/embeddings", json={"model": MODEL, "input": "x"}
        )
        until(lambda: blue.requests)
        gateway.process.terminate()
        code = gateway.process.wait(20)
        reply = running.result()

    assert code == 0
    assert (reply.status_code, reply.json()["error"]["message"]) == (503, "the gateway is stopping")
    assert "Traceback" not in gateway.log.read_text()


def refused(port: int) -> bool:
    """Whether nobody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_ends_when_idle(gateway: Gateway, name: signal.Signals) -> None:
    """An idle gateway ends at once, with open connections of idle clients."""
    gateway.embed("x")
    gateway.process.send_signal(name)

    assert gateway.process.wait(5) == 0


def test_comes_back_after_a_kill(gateway: Gateway) -> None:
    """Killed without a warning, it starts again with the same arguments."""
    gateway.embed("x")
    gateway.process.kill()
    gateway.process.wait(10)
    gateway.process = gateway.spawn()
    until(gateway.status)

    assert flavour(gateway.embed("y"), "y") == "blue"


def test_answers_are_not_delayed() -> None:
    """The port is one for which asyncio turns Nagle's algorithm off: else each answer takes 40 ms more."""
    with listen(free_port(), "the gateway") as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_headers_of_the_connection_stay() -> None:
    """What concerns one connection is not forwarded to the next."""
    headers = [
        (b"Host", b"h"),
        (b"Connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"Authorization", b"a"),
    ]

    assert forwarded(headers) == [(b"authorization", b"a")]


def run_to_the_end(config: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Start a gateway that cannot start, and wait for its end."""
    command = (sys.executable, "-m", "tasks.route.gateway", "--config", str(config), "--port", str(port))
    return subprocess.run(
        command, env={"RUST_LOG": ""}, capture_output=True, text=True, timeout=60, check=False
    )


def test_port_taken(gateway: Gateway) -> None:
    """A second gateway on the port ends with one sentence, and the first goes on."""
    ended = run_to_the_end(gateway.config, gateway.port)

    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr == (
        f"the gateway cannot listen on 127.0.0.1:{gateway.port} (Address already in use); "
        "nothing was started; end the program that holds the port, or choose another port.\n"
    )
    assert gateway.status()["generation"] == 1


def test_first_config_is_bad(tmp_path: Path) -> None:
    """With no config to fall back to, it ends with one sentence."""
    config = tmp_path / "tensorzero.toml"
    config.write_text(BROKEN)
    ended = run_to_the_end(config, free_port())

    assert ended.returncode == 5
    assert ended.stdout == ""
    assert ended.stderr.startswith("TensorZero rejects the config: embedding_models.m")
    assert ended.stderr.endswith(f"; nothing was started; correct {config}.\n")
    assert ended.stderr.count("\n") == 1
