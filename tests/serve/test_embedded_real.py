"""The embedded server with the real weights, as the process it is."""

from __future__ import annotations

import base64
import math
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tasks.serve.embedded.__main__ import _listen_on
from tests.lab.embedded_server import MODEL, EmbeddedServer, embedded_server, starting
from tests.lab.environment import free_port

pytestmark = pytest.mark.real

CAT, KITTEN, CRASH = "a cat sits", "a kitten rests", "stock market crash"
LONG = "word " * 300
SENTENCE = "the quick brown fox jumps over the lazy dog "


def cosine(one: list[float], other: list[float]) -> float:
    """Return the cosine of two vectors that have the length 1."""
    return sum(left * right for left, right in zip(one, other, strict=True))


def test_answers_mean_something(server: EmbeddedServer) -> None:
    """The vectors have 384 numbers, length 1, and texts that mean the same are near."""
    cat, kitten, crash = server.vectors([CAT, KITTEN, CRASH])

    assert 384 == len(cat)
    assert math.isclose(1, math.sqrt(cosine(cat, cat)), abs_tol=1e-5)
    assert math.isclose(0.66, cosine(cat, kitten), abs_tol=0.01)
    assert math.isclose(0.09, cosine(cat, crash), abs_tol=0.01)


def test_concurrent_requests_get_their_own_results(server: EmbeddedServer) -> None:
    """Requests of mixed lengths that are merged into calls get what each gets alone."""
    requests = [[f"{SENTENCE * (r % 5)}number {r} {t}" for t in range(1 + r % 4)] for r in range(24)]
    alone = [server.vectors(texts) for texts in requests]

    with ThreadPoolExecutor(24) as pool:
        merged = list(pool.map(server.vectors, requests))

    for one, other in zip(alone, merged, strict=True):
        for left, right in zip(one, other, strict=True):
            assert max(abs(a - b) for a, b in zip(left, right, strict=True)) < 1e-5


def test_base64_is_float(server: EmbeddedServer) -> None:
    """Both encodings hold the same numbers."""
    (floats,) = server.vectors([CAT])

    packed = server.post(CAT, encoding_format="base64").json()["data"][0]["embedding"]

    assert floats == list(struct.unpack("<384f", base64.b64decode(packed)))


def test_tokens_are_counted_by_the_real_tokenizer(server: EmbeddedServer) -> None:
    """Start and end marks count, padding does not; "embeddings" is em, bed, ding, s."""
    usage = server.post([CAT, "embeddings"]).json()["usage"]

    assert {"prompt_tokens": 5 + 6, "total_tokens": 11} == usage


def test_too_long_is_refused_and_truncate_cuts(server: EmbeddedServer) -> None:
    """256 tokens is the limit; a cut text has the vector of its beginning."""
    refused = server.post([CAT, LONG])
    cut = server.post([LONG], truncate=True).json()

    assert 400 == refused.status_code
    assert "text 1 of input has 302 tokens and the limit is 256" in refused.json()["error"]["message"]
    assert 256 == cut["usage"]["prompt_tokens"]
    assert server.vectors(["word " * 254])[0] == pytest.approx(cut["data"][0]["embedding"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": MODEL, "input": ""}, 400),
        ({"model": MODEL, "input": [[1, 2]]}, 400),
        ({"model": MODEL, "input": "a", "dimensions": 256}, 400),
        ({"model": MODEL, "input": ["a"] * 2049}, 400),
        ({"model": MODEL, "input": "a" * (5 << 20)}, 413),
        ({"model": "gpt", "input": "a"}, 404),
        ([], 400),
    ],
)
def test_refusals(server: EmbeddedServer, body: object, status: int) -> None:
    """What is wrong is refused in one sentence, in OpenAI's shape."""
    answer = server.send(body)

    assert status == answer.status_code
    assert answer.json()["error"]["message"].endswith(".")


@pytest.mark.parametrize(
    "text", ["\0", " ", "\u200b", "é" * 50, "漢字" * 50, "🙂" * 50, "x" * 5000, "\n\t\r"]
)
def test_odd_texts_have_vectors(server: EmbeddedServer, text: str) -> None:
    """No text breaks the engine."""
    (vector,) = server.vectors([text])

    assert math.isclose(1, cosine(vector, vector), abs_tol=1e-4)


def test_no_text_in_the_log(server: EmbeddedServer) -> None:
    """The log has a line for each request, but nothing of what was sent."""
    server.vectors(["a secret"])

    assert "answered status=200 texts=1 tokens=4 ms=" in server.log.read_text()
    assert "secret" not in server.log.read_text()


def test_sigterm_finishes_what_is_in_flight(minilm_cache: Path, tmp_path: Path) -> None:
    """Requests that were sent are answered, then the process ends with 0."""
    sent = threading.Semaphore(0)
    texts = [f"{SENTENCE * 8} {number}" for number in range(10)]

    def ask(server: EmbeddedServer, client: httpx.Client) -> int:
        answer = client.post(
            f"{server.base_url}/embeddings",
            json={"model": MODEL, "input": texts},
            extensions={
                "trace": lambda event, _: event == "http11.send_request_body.complete" and sent.release()
            },
        )
        return len(answer.json()["data"])

    with embedded_server(minilm_cache, tmp_path / "log") as server, ThreadPoolExecutor(4) as pool:
        clients = [httpx.Client(trust_env=False, timeout=60) for _ in range(4)]
        for client in clients:
            client.get(f"{server.base_url}/models")  # Only a connection that was accepted is in flight.
        asked = [pool.submit(ask, server, client) for client in clients]
        assert all(sent.acquire(timeout=60) for _ in clients)
        server.process.send_signal(signal.SIGTERM)

        assert [10] * 4 == [one.result() for one in asked]
        assert 0 == server.process.wait(30)
    assert "stopped" in server.log.read_text()


def test_sigterm_does_not_wait_for_idle_connections(minilm_cache: Path, tmp_path: Path) -> None:
    """A client that keeps its connection open does not hold up the end."""
    with embedded_server(minilm_cache, tmp_path / "log") as server, httpx.Client(trust_env=False) as client:
        client.get(f"{server.base_url}/models")
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)

        assert 0 == server.process.wait(30)
        assert time.monotonic() - begun < 8


def test_kill_leaves_the_port_free(minilm_cache: Path, tmp_path: Path) -> None:
    """After SIGKILL with an open connection, a new server starts on the same port."""
    with (
        embedded_server(minilm_cache, tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        server.process.kill()
        server.process.wait(30)
        with embedded_server(minilm_cache, tmp_path / "again", port=server.port) as again:
            assert again.healthy()


def test_a_taken_port_is_one_sentence(minilm_cache: Path, tmp_path: Path) -> None:
    """The process ends with 3 and says whose port it is not."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with starting(minilm_cache, tmp_path / "log", port=port) as server:
            assert 3 == server.process.wait(60)
    assert [f"port {port} on 127.0.0.1 is taken by another program; no server was started;"] == [
        line.split("ERROR ")[1].rsplit(" free it", 1)[0] for line in server.log.read_text().splitlines()
    ]


def test_answers_leave_at_once() -> None:
    """The listener names its protocol, without which asyncio leaves Nagle's delay on."""
    with _listen_on(free_port()) as listener:
        assert socket.IPPROTO_TCP == listener.proto


def test_missing_weights_are_one_sentence(tmp_path: Path) -> None:
    """The process ends with 5 and asks nobody for them."""
    with starting(tmp_path, tmp_path / "log") as server:
        assert 5 == server.process.wait(60)
    (line,) = server.log.read_text().splitlines()
    assert "config.json and tokenizer.json and model.safetensors of sentence-transformers" in line


@pytest.mark.parametrize(
    ("file", "text"), [("model.safetensors", "{"), ("config.json", "{}"), ("tokenizer.json", "{}")]
)
def test_broken_files_are_one_sentence(minilm_cache: Path, tmp_path: Path, file: str, text: str) -> None:
    """Files that cannot be loaded end the process with 5; it never was healthy."""
    with starting(spoilt(minilm_cache, tmp_path / "hub", file, text), tmp_path / "log") as server:
        assert 5 == server.process.wait(60)
    assert "do not load" in server.log.read_text().split("ERROR ")[1]


def test_other_dimensions_are_refused(minilm_cache: Path, tmp_path: Path) -> None:
    """Weights that are not what the plan says are not served."""
    with starting(minilm_cache, tmp_path / "log", "--dimensions", "768") as server:
        assert 5 == server.process.wait(60)
    assert "give 384 dimensions, 768 are wanted" in server.log.read_text()


def spoilt(cache: Path, copy: Path, file: str, text: str) -> Path:
    """Return a copy of the cache in which one file is something else."""
    (snapshot,) = cache.glob("models--*/snapshots/*")
    folder = copy / snapshot.relative_to(cache)
    folder.mkdir(parents=True)
    for path in snapshot.iterdir():
        (folder / path.name).symlink_to(path.resolve())
    (folder / file).unlink()
    (folder / file).write_text(text)
    return copy
