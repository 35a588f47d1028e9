"""The real llama.cpp on loopback: the play server says what it says, and its nonsense is no health.

xllamacpp is llama.cpp's own server (https://github.com/xorbitsai/xllamacpp) in a wheel without CUDA, of 34
MB: `python3.11 -m venv .cache/llama && .cache/llama/bin/pip install xllamacpp==2026.10.11549`. It has no
command line; the flags are checked where a `llama-server` is on the PATH or beside that Python.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from tasks.contracts import Change, ModelServer, ProcessState
from tasks.effects.http import Httpx
from tasks.errors import VerifyError
from tasks.plan.budget import Pools
from tasks.plan.servers import _llama_cpp
from tasks.verify.check import VerifyContext, verify
from tests.conftest import ROOT, planned
from tests.lab import gguf
from tests.lab.environment import free_port
from tests.lab.play import llama_flags
from tests.lab.play.starting import Playing

PYTHON = ROOT / ".cache/llama/bin/python"
BINARY = shutil.which("llama-server") or shutil.which("llama-server", path=str(PYTHON.parent))
TOKENS = 512
pytestmark = pytest.mark.real
needs_llama = pytest.mark.skipif(
    not PYTHON.exists(),
    reason=f"no llama.cpp: {PYTHON} has no xllamacpp, which the module's docstring installs",
)
SERVE = """
import json, sys, threading
import xllamacpp as llama
given = json.loads(sys.argv[1])
params = llama.CommonParams()
params.model.path, params.port = given["model"], given["port"]
params.n_ctx, params.n_parallel = given["context"], 1
params.embedding, params.n_ubatch = given["embeds"], 128
if given["ranks"]:
    params.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
server = llama.Server(params)
threading.Event().wait()
"""
Start = Callable[..., Playing]
CHAT = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 8}


class Real(Playing):
    """The real server, started and asked as a play server is."""

    def __enter__(self) -> Self:
        given, self.arguments = json.loads(self.arguments[0]), ()
        words = [str(PYTHON), "-c", SERVE, json.dumps({**given, "port": self.port})]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.wait()
        return self


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a model that chats and one that embeds, both by chance."""
    folder = tmp_path_factory.mktemp("gguf")
    return {"chat": gguf.write(folder / "chat.gguf"), "embed": gguf.write(folder / "embed.gguf", pooling=1)}


@pytest.fixture(scope="module")
def pairs(files: dict[str, Path]) -> Iterator[Callable[..., tuple[Playing, Playing]]]:
    """Return what starts the real server and the play server on one model, once each."""
    made: dict[str, tuple[Playing, Playing]] = {}
    with ExitStack() as running:

        def start(kind: str) -> tuple[Playing, Playing]:
            if kind not in made:
                file = str(files["embed" if kind == "embed" else "chat"])
                given = {"model": file, "context": TOKENS, "embeds": kind != "chat", "ranks": kind == "rank"}
                flags = {"chat": (), "embed": ("--embeddings",), "rank": ("--reranking",)}[kind]
                words = ("--model", file, "--ctx-size", str(TOKENS), "--ubatch-size", "128", *flags)
                made[kind] = (
                    running.enter_context(Real("llama.cpp", (json.dumps(given),))),
                    running.enter_context(Playing("llama_cpp", words)),
                )
            return made[kind]

        yield start


def shape(value: Any) -> Any:  # noqa: ANN401  # whatever JSON holds
    """Return the names and kinds of what an answer holds, without what it says."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return (
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    )


def less(want: Any, got: Any) -> Any:  # noqa: ANN401  # the same
    """Return what the real answer has of what the play answer has: it may say more."""
    if isinstance(want, dict) and isinstance(got, dict):
        return {name: less(one, got[name]) for name, one in want.items() if name in got}
    if isinstance(want, list) and isinstance(got, list) and want and got:
        return [less(want[0], got[0])]
    return got


# --- the play server says what the real one says -----------------------------------------------------


@needs_llama
@pytest.mark.parametrize(
    ("kind", "method", "path", "body"),
    [
        ("chat", "GET", "/health", None),
        ("chat", "GET", "/v1/models", None),
        ("chat", "GET", "/props", None),
        ("chat", "POST", "/v1/chat/completions", CHAT),
        ("embed", "POST", "/v1/embeddings", {"input": ["a", "b"], "model": "m"}),
        ("rank", "POST", "/v1/rerank", {"query": "a", "documents": ["b", "c"], "model": "m"}),
        ("rank", "POST", "/rerank", {"query": "a", "texts": ["b", "c"]}),
    ],
)
def test_the_play_server_answers_in_the_real_shape(
    pairs: Callable[..., tuple[Playing, Playing]], kind: str, method: str, path: str, body: object
) -> None:
    """Every name that the play server sends is one that llama.cpp sends, and of its kind."""
    real, play = (one.ask(method, path, body) for one in pairs(kind))

    assert (200, 200) == (real[0], play[0])
    assert shape(play[1]) == less(shape(play[1]), shape(real[1]))


@needs_llama
@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("chat", "/v1/chat/completions", {}),
        ("chat", "/v1/embeddings", {"input": "a"}),
        ("chat", "/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("chat", "/nothing", {}),
        ("embed", "/v1/embeddings", {}),
        ("rank", "/v1/rerank", {"documents": ["b"]}),
        ("rank", "/v1/rerank", {"query": "a", "documents": []}),
    ],
)
def test_the_play_server_refuses_in_the_real_words(
    pairs: Callable[..., tuple[Playing, Playing]], kind: str, path: str, body: object
) -> None:
    """Status and body of a refusal are the same."""
    real, play = (one.ask("POST", path, body) for one in pairs(kind))

    assert real == play


@needs_llama
def test_too_long_a_prompt_is_refused_by_both(pairs: Callable[..., tuple[Playing, Playing]]) -> None:
    """A prompt that does not fit is a 400 that says both numbers; nothing is cut."""
    body = {"messages": [{"role": "user", "content": "word " * 900}]}
    for one in pairs("chat"):
        status, answer = one.ask("POST", "/v1/chat/completions", body)
        error = answer["error"]

        assert (400, "exceed_context_size_error", TOKENS) == (status, error["type"], error["n_ctx"])
        assert error["n_prompt_tokens"] > TOKENS
        assert f"exceeds the available context size ({TOKENS} tokens), try increasing it" in error["message"]


@needs_llama
def test_too_long_a_text_is_refused_by_both(pairs: Callable[..., tuple[Playing, Playing]]) -> None:
    """A text to embed must fit one physical batch."""
    for one in pairs("embed"):
        status, answer = one.ask("POST", "/v1/embeddings", {"input": "word " * 200})

        assert (500, "server_error") == (status, answer["error"]["type"])
        assert "increase the physical batch size (current batch size: 128)" in answer["error"]["message"]


@needs_llama
def test_streams_are_alike(pairs: Callable[..., tuple[Playing, Playing]]) -> None:
    """Role, pieces, an end with its reason, the usage without choices, and [DONE]."""
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    for one in pairs("chat"):
        status, rows = one.ask("POST", "/v1/chat/completions", body)
        *pieces, end, usage, done = rows

        assert (200, "[DONE]", []) == (status, done, usage["choices"])
        assert usage["usage"]["completion_tokens"] <= 8
        assert "assistant" == pieces[0]["choices"][0]["delta"]["role"]
        assert end["choices"][0]["finish_reason"] in {"stop", "length"}
        assert all(piece["object"] == "chat.completion.chunk" for piece in pieces)


# --- a 200 is not health -----------------------------------------------------------------------------


def verified(url: str, model_id: str, **plan: Any) -> None:  # noqa: ANN401  # fields of a plan
    """Verify a server as the serve stage hands it on."""
    process = ProcessState("m", True, "running", 0, 0.0, "", "")  # noqa: FBT003
    made = replace(planned(), **{"model": "m", "runtime": "llama.cpp", "dimensions": None, **plan})
    server = ModelServer(
        made, "m", f"{url}/v1", process, Change("m", "create", ""), 0.0, model_id=model_id, rerank_api="jina"
    )
    with Httpx() as http:
        verify(server, VerifyContext(http, deadline_s=60.0))


@needs_llama
@pytest.mark.parametrize(
    ("kind", "role", "name"),
    [("chat", "llm", "chat"), ("embed", "embeddings", "embed"), ("rank", "reranker", "chat")],
)
def test_nonsense_of_the_real_server_is_refused(
    pairs: Callable[..., tuple[Playing, Playing]], kind: str, role: str, name: str
) -> None:
    """Weights by chance answer everything with a 200; the right questions find them out."""
    real, play = pairs(kind)
    with pytest.raises(VerifyError, match="answers wrongly"):
        verified(real.url, f"{name}.gguf", role=role)

    verified(play.url, f"{name}.gguf", role=role)


# --- the command line --------------------------------------------------------------------------------


def arguments(role: str, file: Path) -> list[str]:
    """Return what the serve stage puts on the command line for a planned model."""
    one = replace(planned(), role=role, runtime="llama.cpp", device="cpu", context=TOKENS, kv_type="f16")  # type: ignore[arg-type]
    settings = _llama_cpp((one,), Pools(()))  # type: ignore[call-arg,arg-type,unused-ignore]
    flags = [word for flag, value in settings for word in ((flag, value) if value else (flag,))]
    return ["--model", str(file), "--alias", "m", "--host", "127.0.0.1", "--no-webui", *flags]


@pytest.mark.parametrize("role", ["llm", "reranker", "embeddings"])
def test_planned_flags_are_ones_that_are_known(files: dict[str, Path], role: str) -> None:
    """The play server knows every flag that a plan sets."""
    assert "m" == llama_flags.parse(arguments(role, files["chat"]))["--alias"]


@pytest.mark.slow
@pytest.mark.skipif(
    BINARY is None,
    reason=f"no llama-server on the PATH or in {PYTHON.parent}: build llama.cpp with LLAMA_BUILD_SERVER",
)
@pytest.mark.parametrize("role", ["llm", "reranker", "embeddings"])
def test_the_real_program_takes_the_planned_flags(files: dict[str, Path], role: str) -> None:
    """llama-server starts with them, and is ready."""
    port = free_port()
    words = [
        str(BINARY),
        *arguments(role, files["embed" if role == "embeddings" else "chat"]),
        "--port",
        str(port),
    ]
    playing = Playing("llama.cpp", waits=False, port=port)
    playing.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        playing.wait("/health")
        _, listed = playing.ask("GET", "/v1/models")
    finally:
        log = playing.end()

    assert ["m"] == [row["id"] for row in listed["data"]]
    assert "offloaded" in log or "n_slots" in log


@pytest.mark.slow
@pytest.mark.skipif(
    BINARY is None,
    reason=f"no llama-server on the PATH or in {PYTHON.parent}: build llama.cpp with LLAMA_BUILD_SERVER",
)
@pytest.mark.parametrize(
    "words", [("--foo",), ("--ctx-size",), ("--ctx-size", "x"), ("--model", "/nowhere.gguf")]
)
def test_the_play_server_ends_as_the_real_program_does(words: tuple[str, ...]) -> None:
    """Exit code and the words that say why are the same."""
    ended = []
    for command in ([str(BINARY)], ["python3", str(ROOT / "tests/lab/play/llama_cpp.py")]):
        port = ("--port", str(free_port())) if words[0] == "--model" else ()
        done = subprocess.run(
            [*command, *port, *words], capture_output=True, text=True, timeout=60, check=False
        )
        why = [line for line in done.stderr.splitlines() if "error" in line.lower() and "fit" not in line]
        ended.append((done.returncode, why[0].rpartition(" E ")[2].strip()))

    assert ended[0] == ended[1]


def test_it_says_503_while_it_loads(files: dict[str, Path]) -> None:
    """tools/server/server-http.cpp, middleware_server_state: everything but the page is refused."""
    with Playing("llama_cpp", ("--model", str(files["chat"]), "--load-s", "1.5"), waits=False) as playing:
        playing.wait("/health", status=503)
        status, body = playing.ask("GET", "/v1/models")
        begun = time.monotonic()
        playing.wait()

    assert (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}) == (
        status,
        body,
    )
    assert time.monotonic() - begun < 20
