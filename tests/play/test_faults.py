"""Every fault that a play server can be given breaks it in the way that it says."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import time
import urllib.error
from pathlib import Path

import pytest

from tests.lab.play.starting import Playing
from tests.play.conftest import Start

pytestmark = pytest.mark.real
CHAT = {"messages": [{"role": "user", "content": "What is 6 times 7?"}]}
PATH = "/v1/chat/completions"


@pytest.fixture
def llama(start: Start, tiny_gguf: Path) -> Playing:
    """Return a server that is well."""
    return start("llama_cpp", "--model", tiny_gguf)


def said(playing: Playing) -> str:
    """Return what it answers."""
    return str(playing.ask("POST", PATH, CHAT)[1]["choices"][0]["message"]["content"])


def test_a_fault_lasts_as_long_as_it_was_told_to(llama: Playing) -> None:
    """`times` answers are broken, and the next is right; `clear` heals."""
    llama.fail("wrong", times=2)
    first = [said(llama) == "42" for _ in range(3)]
    llama.fail("wrong", times=5)
    llama.ask("POST", "/_ctl", {"clear": True})

    assert ([False, False, True], "42") == (first, said(llama))
    assert 4 == llama.ask("GET", "/_ctl")[1]["requests"][f"POST {PATH}"]


def test_wrong_words(llama: Playing) -> None:
    """A run of one letter, and nothing."""
    llama.fail("gibberish")
    gibberish = said(llama)
    llama.fail("empty")

    assert ({"G"}, "") == (set(gibberish), said(llama))


def test_an_answer_that_never_comes(llama: Playing) -> None:
    """The connection stays open and silent."""
    llama.fail("hang")
    with pytest.raises(TimeoutError):
        llama.ask("POST", PATH, CHAT, timeout_s=0.5)


def test_a_connection_that_ends(llama: Playing) -> None:
    """Without a byte."""
    llama.fail("close")
    with pytest.raises((http.client.RemoteDisconnected, urllib.error.URLError)):
        llama.ask("POST", PATH, CHAT)


def test_a_stream_that_dies(llama: Playing) -> None:
    """After its second part."""
    llama.fail("die-mid-stream")
    with pytest.raises(http.client.IncompleteRead):
        llama.ask("POST", PATH, {**CHAT, "stream": True})


@pytest.mark.parametrize(
    ("fault", "body"), [("endless-stream", {**CHAT, "stream": True}), ("endless-body", CHAT)]
)
def test_what_does_not_end(llama: Playing, fault: str, body: dict[str, object]) -> None:
    """More comes as long as somebody reads."""
    llama.fail(fault)
    connection = http.client.HTTPConnection("127.0.0.1", llama.port, timeout=10)
    connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    read = sum(len(answer.read1(4096)) for _ in range(40))
    connection.close()

    assert read > 3000
    assert "42" == said(llama)


@pytest.mark.parametrize(("fault", "code"), [("exit:3", 3), ("crash", -signal.SIGSEGV)])
def test_a_process_that_ends(llama: Playing, fault: str, code: int) -> None:
    """By itself, or by a signal."""
    llama.fail(fault)
    with pytest.raises((OSError, http.client.HTTPException)):
        llama.ask("POST", PATH, CHAT)

    assert code == llama.ends()


def test_memory_until_it_is_killed(llama: Playing) -> None:
    """Where no limit is set it ends as one would end it."""
    llama.fail("oom")
    with pytest.raises((OSError, http.client.HTTPException)):
        llama.ask("POST", PATH, CHAT, timeout_s=120)

    assert -signal.SIGKILL == llama.ends(120)


def test_trouble_while_it_starts(start: Start, tiny_gguf: Path) -> None:
    """An exit while it loads, one after a while, a card that is too small."""
    loading = start("llama_cpp", "--model", tiny_gguf, PLAY_FAULT="exit-loading:7", waits=False)
    later = start("llama_cpp", "--model", tiny_gguf, "--fault", "exit-after:0.3:9")
    full = start("llama_cpp", "--model", tiny_gguf, "--fault", "cuda-oom", waits=False)

    assert (7, 9, 1) == (loading.ends(), later.ends(), full.ends())
    assert "cudaMalloc failed: out of memory" in full.log()


def test_a_load_that_stalls(start: Start, tiny_gguf: Path) -> None:
    """It says 503 and goes on saying so; a signal still ends it."""
    playing = start("llama_cpp", "--model", tiny_gguf, "--fault", "stalled-load", waits=False)
    playing.wait("/health", status=503)
    time.sleep(0.3)

    assert 503 == playing.ask("GET", "/health")[0]
    playing.process.terminate()
    assert 0 == playing.ends()


def test_a_slow_load(start: Start, tiny_gguf: Path) -> None:
    """It is not ready before its time."""
    begun = time.monotonic()
    start("llama_cpp", "--model", tiny_gguf, "--fault", "slow-load:0.8")

    assert time.monotonic() - begun >= 0.8


def test_others_refuse_connections_while_they_load(start: Start, tmp_path: Path) -> None:
    """TEI and vLLM listen when the model is there, and not before (their main.rs and api_server.py)."""
    for kind in ("tei", "vllm"):
        playing = start(
            kind, "--model-id" if kind == "tei" else "--model", tmp_path, "--load-s", "30", waits=False
        )
        time.sleep(0.3)
        with socket.socket() as one:
            assert one.connect_ex(("127.0.0.1", playing.port)) != 0
