"""The wheel program: a real TensorZero with one config, behind a port that stays."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tasks.effects.forwarding.headers import forwarded
from tasks.effects.forwarding.server import listen
from tests.lab.gateway import MODEL, Gateway, config_for, free_port, until
from tests.lab.keyed import ODD_KEY, Keyed, environment_of
from tests.lab.openai_server import FakeOpenAI, vector

pytestmark = pytest.mark.real
STREAM = {
    "model": "tensorzero::model_name::chat",
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
}
BROKEN = '[embedding_models.m]\nrouting = ["gone"]\nproviderz = {}\n'


@pytest.fixture
def blue() -> Iterator[FakeOpenAI]:
    """Return the model server."""
    with FakeOpenAI("blue") as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path, blue: FakeOpenAI) -> Iterator[Gateway]:
    """Return a gateway in front of `blue`."""
    with Gateway(tmp_path / "gateway", config_for(blue)) as running:
        yield running


def chat(server: FakeOpenAI) -> str:
    """Return the part of a config with the chat model `chat` on a server."""
    return f"""
[models.chat]
routing = ["p"]
[models.chat.providers.p]
type = "openai"
api_base = "{server.base_url}/"
model_name = "chat"
api_key_location = "none"
"""


def flavour(got: list[float], text: str) -> str:
    """Say whether a vector comes from the model server."""
    return "blue" if math.dist(got, vector("blue", text, len(got))) < 1e-5 else "nobody"


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
    assert status["in_flight"] == 0
    assert gateway.client.get(f"http://127.0.0.1:{status['port']}/openai/v1/").status_code == 404
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


def test_stream_is_not_held_back(tmp_path: Path, blue: FakeOpenAI) -> None:
    """The first part of a streamed answer arrives while the model server still thinks about the second."""
    with (
        Gateway(tmp_path / "gateway", config_for(blue) + chat(blue)) as gateway,
        gateway.client.stream("POST", "/openai/v1/chat/completions", json=STREAM) as reply,
    ):
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


def test_the_config_is_for_good(gateway: Gateway, blue: FakeOpenAI) -> None:
    """What is written to the file later changes nothing, and a hang-up neither."""
    gateway.config.write_text(BROKEN)
    gateway.process.send_signal(signal.SIGHUP)

    assert flavour(gateway.embed("x"), "x") == "blue"
    assert gateway.status()["config_hash"] == sha256(config_for(blue))


def test_a_stream_that_does_not_end_is_cut(tmp_path: Path, blue: FakeOpenAI) -> None:
    """Its client learns that it is not whole: there is no [DONE], and the connection breaks."""
    with Gateway(tmp_path / "gateway", config_for(blue) + chat(blue)) as gateway:
        gateway.process.kill()
        gateway.process.wait(10)
        gateway.process = gateway.spawn("--finish-s", "1")
        until(gateway.status)
        with gateway.client.stream("POST", "/openai/v1/chat/completions", json=STREAM) as reply:
            lines = (line for line in reply.iter_lines() if line)
            first = next(lines)
            gateway.process.terminate()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)

        assert '"first"' in first
        assert gateway.process.wait(20) == 0


def test_keys_go_to_the_provider_alone(tmp_path: Path) -> None:
    """As they are, signs of a shell among them; and neither the kernel nor a log shows them."""
    with (
        Keyed() as server,
        Gateway(tmp_path / "gateway", server.config, keys=environment_of(server.config)) as gateway,
    ):
        body = {"model": MODEL, "input": "x"}
        reply = gateway.client.post("/openai/v1/embeddings", json=body)
        shown = [
            Path(f"/proc/{gateway.process.pid}/{name}").read_text(errors="replace")
            for name in ("environ", "cmdline")
        ]
        told = [gateway.client.get("/status").text, gateway.log.read_text(), *shown]

    assert (reply.status_code, server.keys) == (200, [ODD_KEY])
    assert not [text for text in told if "sk-" in text]


@pytest.mark.parametrize("text", ["sk-secret", 'A="sk-secret', "A=sk-secret\0"])
def test_an_environment_that_is_none(tmp_path: Path, text: str) -> None:
    """It is refused before TensorZero sees anything, and is not quoted."""
    config, file = tmp_path / "tensorzero.toml", tmp_path / "gateway.env"
    config.write_text("")
    file.write_text(text)
    ended = run_to_the_end(config, free_port(), file)

    assert ended.returncode == 5
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"the gateway's environment {file} cannot be read (")
    assert ended.stderr.count("\n") == 1
    assert "secret" not in ended.stderr


def test_paths_in_a_config_are_relative_to_it(tmp_path: Path, blue: FakeOpenAI) -> None:
    """Wherever the process was started, and whatever the folder is called."""
    folder = tmp_path / "a [b] *"
    (folder / "templates").mkdir(parents=True)
    (folder / "templates/system.minijinja").write_text("You are the template.")
    function = """
[functions.f]
type = "chat"
[functions.f.variants.v]
type = "chat_completion"
model = "chat"
system_template = "templates/system.minijinja"
"""
    body = {**STREAM, "model": "tensorzero::function_name::f"}
    with Gateway(folder, config_for(blue) + chat(blue) + function) as gateway:
        blue.release.set()
        gateway.client.post("/openai/v1/chat/completions", json=body)

    assert "You are the template." in str(blue.requests)


def run_to_the_end(
    config: Path, port: int, environment: Path | str = os.devnull
) -> subprocess.CompletedProcess[str]:
    """Start a gateway that cannot start, and wait for its end."""
    files = ("--config", str(config), "--environment", str(environment))
    command = (sys.executable, "-m", "tasks.route.wheel", *files, "--port", str(port))
    return subprocess.run(
        command, env={"RUST_LOG": ""}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_database_that_is_away(tmp_path: Path, blue: FakeOpenAI) -> None:
    """TensorZero gets its address and does not start without it; the password is not told."""
    config = config_for(blue).replace("enabled = false", "enabled = true", 1)
    address = f"http://tensorzero:password-7@127.0.0.1:{free_port()}/tensorzero"

    with pytest.raises(AssertionError, match="Connection refused") as caught:
        Gateway(tmp_path / "gateway", config, keys=f'TENSORZERO_CLICKHOUSE_URL="{address}"\n').__enter__()
    assert "password-7" not in str(caught.value)


def test_port_taken(gateway: Gateway) -> None:
    """A second gateway on the port ends with one sentence, and the first goes on."""
    ended = run_to_the_end(gateway.config, gateway.port)

    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr == (
        f"the gateway cannot listen on 127.0.0.1:{gateway.port} (Address already in use); "
        "nothing was started; end the program that holds the port, or choose another port.\n"
    )
    assert gateway.status()["pid"] == gateway.process.pid


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BROKEN, "TensorZero rejects the config: embedding_models.m"),
        ("a = ", "TensorZero rejects the config: "),
        (None, "{config} cannot be read (No such file or directory)"),
        ("[models.m]\nrouting = []\n", "TensorZero rejects the config: "),
    ],
    ids=["unknown field", "not TOML", "missing", "no provider"],
)
def test_a_config_that_does_not_load(tmp_path: Path, config: str | None, reason: str) -> None:
    """It ends with one sentence, TensorZero's own where there is one."""
    path = tmp_path / "tensorzero.toml"
    if config is not None:
        path.write_text(config)
    ended = run_to_the_end(path, free_port())

    assert ended.returncode == 5
    assert ended.stdout == ""
    assert ended.stderr.startswith(reason.format(config=path))
    assert ended.stderr.endswith(f"; nothing was started; correct {path}.\n")
    assert ended.stderr.count("\n") == 1
