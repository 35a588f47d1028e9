"""The play Ollama, pinned against ollama/ollama: server/{routes,create}.go, api/types.go, openai/."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.lab.ollama_registry import OllamaRegistry, lab_tag
from tests.lab.play.starting import FOLDER, Playing
from tests.play.conftest import Start

pytestmark = pytest.mark.real


@pytest.fixture
def ollama(start: Start, tmp_path: Path, tiny_gguf: Path) -> Playing:
    """Return one that has `base:1`."""
    playing = start("ollama_chat", "serve", OLLAMA_MODELS=tmp_path / "models", OLLAMA_NOPRUNE="1")
    digest = f"sha256:{hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()}"
    with urllib.request.urlopen(f"{playing.url}/api/blobs/{digest}", tiny_gguf.read_bytes()) as answer:  # noqa: S310
        assert 201 == answer.status
    made(playing, model="base:1", files={"m.gguf": digest}, license="MIT")
    return playing


def made(playing: Playing, **body: object) -> Any:  # noqa: ANN401  # whatever it says
    """Make a model."""
    status, said = playing.ask("POST", "/api/create", {"stream": False, **body})
    assert (200, {"status": "success"}) == (status, said)


def loaded(playing: Playing) -> list[dict[str, Any]]:
    """Return what is in memory."""
    return list(playing.ask("GET", "/api/ps")[1]["models"])


def test_its_own_paths(ollama: Playing) -> None:
    """routes.go, GenerateRoutes."""
    assert (200, "Ollama is running") == ollama.ask("GET", "/")
    assert re.fullmatch(r"\d+\.\d+\.\d+", ollama.ask("GET", "/api/version")[1]["version"])
    assert (404, "404 page not found") == ollama.ask("GET", "/health")
    assert ["base:1"] == [row["name"] for row in ollama.ask("GET", "/api/tags")[1]["models"]]


def test_a_model_of_ours(ollama: Playing) -> None:
    """create.go: from another model, with parameters; /api/show says what it is."""
    made(ollama, model="pmoves/m:q4", **{"from": "base:1"}, parameters={"num_ctx": 512, "num_gpu": 999})
    _, shown = ollama.ask("POST", "/api/show", {"model": "pmoves/m:q4"})
    rows = [line.split() for line in shown["parameters"].splitlines()]

    assert [["num_ctx", "512"], ["num_gpu", "999"]] == rows
    assert ("base:1", ["completion"]) == (shown["details"]["parent_model"], shown["capabilities"])
    assert 2 == shown["model_info"]["llama.block_count"]
    assert (500, {"error": "pull model manifest: file does not exist"}) == ollama.ask(
        "POST", "/api/create", {"model": "x", "from": "nothing:1", "stream": False}
    )


def test_loading_and_letting_go(ollama: Playing) -> None:
    """routes.go, GenerateHandler and PsHandler: an empty prompt loads, with keep_alive 0 it lets go."""
    made(ollama, model="m", **{"from": "base:1"}, parameters={"num_ctx": 512})
    _, load = ollama.ask("POST", "/api/generate", {"model": "m", "stream": False, "keep_alive": -1})
    there = loaded(ollama)
    _, unload = ollama.ask("POST", "/api/generate", {"model": "m", "keep_alive": 0})

    assert ("load", "unload", []) == (load["done_reason"], unload["done_reason"], loaded(ollama))
    assert ("m:latest", 512) == (there[0]["name"], there[0]["context_length"])
    assert there[0]["size"] == there[0]["size_vram"] > 500_000
    assert there[0]["expires_at"] > "2300"


def test_time_runs_out(ollama: Playing) -> None:
    """A model goes after its keep_alive, and an unknown one is not loaded."""
    ollama.ask("POST", "/api/generate", {"model": "base:1", "keep_alive": "300ms"})
    before = len(loaded(ollama))
    late = time.monotonic() + 10
    while loaded(ollama) and time.monotonic() < late:
        time.sleep(0.05)

    assert (1, []) == (before, loaded(ollama))
    assert (404, {"error": "model 'x' not found"}) == ollama.ask("POST", "/api/generate", {"model": "x"})


@pytest.mark.parametrize(
    ("variables", "contexts"),
    [
        ({}, [4096]),
        ({"OLLAMA_CONTEXT_LENGTH": "1024"}, [1024]),
        ({"OLLAMA_CONTEXT_LENGTH": "many"}, [4096]),
        ({"OLLAMA_CONTEXT_LENGTH": "100000"}, [2048]),
    ],
)
def test_the_context_that_is_served(
    start: Start, tmp_path: Path, ollama: Playing, variables: dict[str, str], contexts: list[int]
) -> None:
    """envconfig/config.go: what is no number is logged and forgotten; no context is longer than trained."""
    again = start("ollama_chat", OLLAMA_MODELS=tmp_path / "models", OLLAMA_NOPRUNE="1", **variables)
    again.ask("POST", "/api/generate", {"model": "base:1"})
    trained = 2048

    assert [min(one, trained) for one in contexts] == [one["context_length"] for one in loaded(again)]
    assert ("invalid environment variable" in again.end()) == (
        variables.get("OLLAMA_CONTEXT_LENGTH") == "many"
    )
    assert ollama.process.poll() is None


@pytest.mark.parametrize(("fault", "part"), [("cpu", 0.0), ("half", 0.5)])
def test_a_silent_fallback(ollama: Playing, fault: str, part: float) -> None:
    """size_vram says how much of a model is on cards; nothing else does."""
    ollama.fail(fault)
    ollama.ask("POST", "/api/generate", {"model": "base:1"})
    one = loaded(ollama)[0]

    assert part == pytest.approx(one["size_vram"] / one["size"], abs=0.01)


def test_layers_that_are_kept_off_the_card(ollama: Playing) -> None:
    """num_gpu 0 is the processor's."""
    made(ollama, model="m", **{"from": "base:1"}, parameters={"num_gpu": 0})
    ollama.ask("POST", "/api/generate", {"model": "m"})

    assert 0 == loaded(ollama)[0]["size_vram"]


def test_one_at_a_time(start: Start, tmp_path: Path, ollama: Playing) -> None:
    """OLLAMA_MAX_LOADED_MODELS: the one that was used longest ago goes."""
    made(ollama, model="m", **{"from": "base:1"}, parameters={"num_ctx": 512})
    again = start(
        "ollama_chat", OLLAMA_MODELS=tmp_path / "models", OLLAMA_NOPRUNE="1", OLLAMA_MAX_LOADED_MODELS="1"
    )
    for name in ("base:1", "m"):
        again.ask("POST", "/api/generate", {"model": name})

    assert ["m:latest"] == [one["name"] for one in loaded(again)]


def test_a_chat_of_its_own(ollama: Playing) -> None:
    """api/types.go, ChatResponse: lines, of which the last counts."""
    body = {"model": "base:1", "messages": [{"role": "user", "content": "What is 6 times 7?"}]}
    _, rows = ollama.ask("POST", "/api/chat", body)
    _, whole = ollama.ask("POST", "/api/chat", {**body, "stream": False})

    assert ("42", True, "stop") == (
        "".join(row["message"]["content"] for row in rows),
        rows[-1]["done"],
        rows[-1]["done_reason"],
    )
    assert ("42", 10) == (whole["message"]["content"], whole["prompt_eval_count"])


def test_too_long_a_prompt_is_cut_without_a_word(ollama: Playing) -> None:
    """The newest stays: a fact at the start is lost, and a 200 comes all the same."""
    made(ollama, model="m", **{"from": "base:1"}, parameters={"num_ctx": 128})
    facts = (
        "The number of the blue door is 7351.\n"
        + "A line of no use.\n" * 100
        + "The number of the green door is 4826.\n"
    )
    asks = "\nWhat are the two numbers of the blue door and of the green door?"
    _, cut = ollama.ask(
        "POST",
        "/v1/chat/completions",
        {"model": "m", "messages": [{"role": "user", "content": facts + asks}]},
    )
    made(ollama, model="long", **{"from": "base:1"}, parameters={"num_ctx": 2048})
    _, whole = ollama.ask(
        "POST",
        "/v1/chat/completions",
        {"model": "long", "messages": [{"role": "user", "content": facts + asks}]},
    )

    assert ("4826", 127) == (cut["choices"][0]["message"]["content"], cut["usage"]["prompt_tokens"])
    assert "7351, 4826" == whole["choices"][0]["message"]["content"]
    assert whole["usage"]["prompt_tokens"] > 500


def test_openai(ollama: Playing) -> None:
    """openai/openai.go: list, chat, vectors, and errors of its kind."""
    _, listed = ollama.ask("GET", "/v1/models")
    _, said = ollama.ask(
        "POST",
        "/v1/chat/completions",
        {"model": "base:1", "messages": [{"role": "user", "content": "2 + 2"}]},
    )
    _, vectors = ollama.ask("POST", "/v1/embeddings", {"model": "base:1", "input": ["a", "b"]})
    error = {"message": "model 'x' not found", "type": "not_found_error", "param": None, "code": None}

    assert [("base:1", "library")] == [(row["id"], row["owned_by"]) for row in listed["data"]]
    assert ("fp_ollama", "4") == (said["system_fingerprint"], said["choices"][0]["message"]["content"])
    assert [0, 1] == [row["index"] for row in vectors["data"]]
    assert (404, {"error": error}) == ollama.ask(
        "POST", "/v1/chat/completions", {"model": "x", "messages": [{}]}
    )


def test_vectors_of_its_own(ollama: Playing) -> None:
    """routes.go, EmbedHandler: no text is a load; too long a text is cut unless that is refused."""
    _, none = ollama.ask("POST", "/api/embed", {"model": "base:1", "input": ""})
    _, some = ollama.ask("POST", "/api/embed", {"model": "base:1", "input": ["a", "b"]})
    long = {"model": "base:1", "input": "word " * 5000}

    assert ([], 2, 1) == (none["embeddings"], len(some["embeddings"]), len(loaded(ollama)))
    assert [200, 400] == [
        ollama.ask("POST", "/api/embed", {**long, "truncate": cut})[0] for cut in (True, False)
    ]


def test_a_queue_that_is_full(ollama: Playing) -> None:
    """server/sched.go, ErrMaxQueue."""
    ollama.fail("overloaded")
    body = {"model": "base:1", "messages": [{"role": "user", "content": "hi"}]}

    assert (
        503,
        {"error": "server busy, please try again.  maximum pending requests exceeded"},
    ) == ollama.ask("POST", "/api/chat", body)


def test_pull_make_load_answer_unload(start: Start, tmp_path: Path) -> None:
    """One server goes the whole way, alone on the standard library."""
    with OllamaRegistry({"library/lab:1": lab_tag(big_bytes=300_000)}) as registry:
        playing = start("ollama_chat", OLLAMA_MODELS=tmp_path / "models", PLAY_REGISTRY=registry.base)
        _, rows = playing.ask("POST", "/api/pull", {"model": "lab:1"}, timeout_s=60)
    made(playing, model="m", **{"from": "lab:1"}, parameters={"num_ctx": 512})
    _, said = playing.ask(
        "POST", "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "2 + 2"}]}
    )
    playing.ask("POST", "/api/generate", {"model": "m", "keep_alive": 0})

    assert ({"status": "success"}, "4", []) == (
        rows[-1],
        said["choices"][0]["message"]["content"],
        loaded(playing),
    )


def test_pruning(start: Start, tmp_path: Path) -> None:
    """routes.go, Serve: what no manifest names is deleted at the start, unless OLLAMA_NOPRUNE is set."""
    blobs = tmp_path / "models/blobs"
    blobs.mkdir(parents=True)
    left = []
    for value in ("1", "0"):
        (blobs / "sha256-00").write_bytes(b"x")
        start("ollama_chat", OLLAMA_MODELS=tmp_path / "models", OLLAMA_NOPRUNE=value)
        left.append([path.name for path in blobs.iterdir()])

    assert [["sha256-00"], []] == left


def test_the_command(ollama: Playing) -> None:
    """cmd/cmd.go: `list` is what a health check runs; an unknown command ends with 1."""

    def run(word: str, port: int) -> tuple[int, str]:
        command = [sys.executable, str(FOLDER / "ollama_chat.py"), word]
        done = subprocess.run(
            command,
            env={"OLLAMA_HOST": f"0.0.0.0:{port}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    code, listed = run("list", ollama.port)

    assert (0, True) == (code, "base:1" in listed)
    assert 1 == run("list", 1)[0]
    assert (1, 'Error: unknown command "fly" for "ollama"\n') == run("fly", 1)
