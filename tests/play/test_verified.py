"""The real verification takes every play server for right, and none that is broken."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts import Change, ModelServer, ProcessState, RerankApi, VerifiedServer
from tasks.effects.http import Httpx
from tasks.errors import VerifyError
from tasks.verify.check import VerifyContext, verify
from tests.conftest import planned
from tests.lab.ollama import OllamaLab
from tests.lab.play.starting import Playing
from tests.play.conftest import Start

pytestmark = pytest.mark.real
Folder = Callable[..., Path]


def served(url: str, rerank_api: RerankApi = "", model_id: str = "", **plan: Any) -> ModelServer:  # noqa: ANN401
    """Return a server as the serve stage hands it on."""
    changed = {"model": "m", "dimensions": None, "device": "gpu0", **plan}
    process = ProcessState("m", True, "running", 0, 0.0, "", "")  # noqa: FBT003
    change = Change("m", "create", "")
    return ModelServer(
        replace(planned(), **changed),
        "m",
        f"{url}/v1",
        process,
        change,
        0.0,
        model_id=model_id,
        rerank_api=rerank_api,
    )


def verified(server: ModelServer, log: str = "") -> VerifiedServer:
    """Verify it, through real HTTP."""
    with Httpx() as http:
        return verify(server, VerifyContext(http, deadline_s=60.0, log=lambda: log))


@pytest.fixture
def llama(start: Start, tiny_gguf: Path) -> Playing:
    """Return llama.cpp with a chat model."""
    return start(
        "llama_cpp", "--model", tiny_gguf, "--alias", "m", "--ctx-size", "1024", "--n-gpu-layers", "999"
    )


def chat(playing: Playing, **plan: Any) -> ModelServer:  # noqa: ANN401
    """Return llama.cpp's server as one that plays `role`."""
    return served(playing.url, **{"runtime": "llama.cpp", "role": "llm", "context": 1024, **plan})


def test_llama_cpp(llama: Playing) -> None:
    """A chat model that codes, too, with its layers on the card."""
    made = verified(chat(llama, also=("code",)), "load_tensors: offloaded 33/33 layers to GPU")

    assert "" == made.degraded
    assert 900 < made.performance.context <= 1024
    assert made.performance.tokens_per_s > 0


def test_llama_cpp_sees(start: Start, tiny_gguf: Path) -> None:
    """Colour, shape and word of drawn pictures are seen, not known."""
    playing = start(
        "llama_cpp", "--model", tiny_gguf, "--alias", "m", "--mmproj", tiny_gguf, "--ctx-size", 1024
    )

    assert 7 <= len(verified(chat(playing, role="vision", context=0)).answers)


def test_llama_cpp_ranks(start: Start, tiny_gguf: Path) -> None:
    """Documents are ranked by logits."""
    playing = start("llama_cpp", "--model", tiny_gguf, "--alias", "m", "--reranking")

    assert (
        verified(served(playing.url, "jina", runtime="llama.cpp", role="reranker")).performance.texts_per_s
        > 0
    )


def test_tei(start: Start, safetensors: Folder) -> None:
    """An embedding model is named by /info."""
    playing = start(
        "tei", "--model-id", safetensors(), "--served-model-name", "m", "--max-client-batch-size", 64
    )

    assert verified(served(playing.url, runtime="tei", dimensions=384)).performance.texts_per_s > 0


def test_tei_ranks(start: Start, safetensors: Folder) -> None:
    """A reranker is asked in TEI's own style."""
    folder = safetensors(architectures=["BertForSequenceClassification"])
    playing = start("tei", "--model-id", folder, "--served-model-name", "m")

    assert verified(served(playing.url, "tei", runtime="tei", role="reranker")).latency_s > 0


@pytest.mark.parametrize("role", ["llm", "reranker", "embeddings"])
def test_vllm(start: Start, safetensors: Folder, role: str) -> None:
    """All that vLLM serves here."""
    kinds = {
        "llm": "Qwen3ForCausalLM",
        "reranker": "BertForSequenceClassification",
        "embeddings": "Qwen3Model",
    }
    folder = safetensors(architectures=[kinds[role]], max_position_embeddings=1024)
    playing = start("vllm", "--model", folder, "--served-model-name", "m", "--max-model-len", 1024)
    context = 1024 if role == "llm" else 0

    made = verified(served(playing.url, "jina", runtime="vllm", role=role, context=context))

    assert context * 0.85 <= made.performance.context <= context


def test_speaches(start: Start, hub: Path) -> None:
    """The recording is told from any other, and its first part from the whole."""
    playing = start("speaches", HF_HUB_CACHE=hub)
    name = "Systran/faster-whisper-tiny"

    assert (
        verified(served(playing.url, runtime="speaches", role="whisper", model_id=name)).performance.realtime
        > 0
    )


def test_ollama(tmp_path: Path, tiny_gguf: Path) -> None:
    """One that was made from another with its context; all of it is on the card."""
    with OllamaLab(tmp_path / "models", "http://127.0.0.1:9/") as lab:
        made_of(lab, tiny_gguf)
        server = served(lab.url, runtime="ollama", role="llm", context=1024, model_id="pmoves/m:q4-1024")
        made = verified(server)

    assert 900 < made.performance.context <= 1024
    assert [("gpu0", True)] == [(one.device, one.memory_bytes > 0) for one in made.held]


def made_of(lab: OllamaLab, file: Path) -> None:
    """Bring a file to the server, and give it the name of ours."""
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    rows = (
        (f"/api/blobs/{digest}", file.read_bytes()),
        ("/api/create", {"model": "base:1", "files": {"m.gguf": digest}, "license": "MIT", "stream": False}),
        (
            "/api/create",
            {
                "model": "pmoves/m:q4-1024",
                "from": "base:1",
                "parameters": {"num_ctx": 1024, "num_gpu": 999},
                "stream": False,
            },
        ),
    )
    for path, body in rows:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with urllib.request.urlopen(lab.url + path, data) as answer:  # noqa: S310  # loopback
            assert answer.status < 300


# --- what is broken is refused -----------------------------------------------------------------------

BROKEN = {
    "wrong": 'expected 42, got "I would rather talk',
    "gibberish": "one token over and over",
    "empty": "an empty answer",
    "500": "Compute error",
    "overloaded": "no slot available",
    "not-json": "It works!",
    "close": "answers wrongly: What is 17 + 25",
    "unlisted": "expected m, got another-model",
    "endless-stream": "does an answer stream",
    "die-mid-stream": "does an answer stream",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_broken_is_refused(llama: Playing, fault: str) -> None:
    """A 200 is not health."""
    llama.fail(fault, times=1000)
    with pytest.raises(VerifyError) as caught:
        verified(chat(llama))

    assert BROKEN[fault] in caught.value.what


@pytest.mark.parametrize("fault", ["wrong", "same", "nan", "drift", "wrong-index", "empty", "unnormed"])
def test_broken_vectors_are_refused(start: Start, safetensors: Folder, fault: str) -> None:
    """So are vectors that mean nothing, change, or are not as many as the texts."""
    playing = start(
        "tei", "--model-id", safetensors(), "--served-model-name", "m", "--max-client-batch-size", 64
    )
    playing.fail(fault, times=1000)
    with pytest.raises(VerifyError):
        verified(served(playing.url, runtime="tei", dimensions=384, model="all-minilm-l6-v2"))


@pytest.mark.parametrize("fault", ["wrong", "same", "nan", "wrong-index", "empty"])
def test_broken_ranks_are_refused(start: Start, tiny_gguf: Path, fault: str) -> None:
    """And rankings."""
    playing = start("llama_cpp", "--model", tiny_gguf, "--alias", "m", "--reranking")
    playing.fail(fault, times=1000)
    with pytest.raises(VerifyError):
        verified(served(playing.url, "jina", runtime="llama.cpp", role="reranker"))


@pytest.mark.parametrize("fault", ["cpu", "half"])
def test_silent_fallback_is_refused(start: Start, tiny_gguf: Path, fault: str) -> None:
    """Layers that went to no card are seen in the log."""
    playing = start("llama_cpp", "--model", tiny_gguf, "--alias", "m", "--ctx-size", 1024, PLAY_FAULT=fault)
    server = chat(playing, context=0)
    with Httpx() as http:
        verify(server, VerifyContext(http, deadline_s=60.0))
    log = playing.end()
    playing = start("llama_cpp", "--model", tiny_gguf, "--alias", "m", "--ctx-size", 1024)
    with pytest.raises(VerifyError, match="layers on GPUs"):
        verified(chat(playing, context=0), log)


def test_a_small_context_is_refused(start: Start, tiny_gguf: Path) -> None:
    """A server that says less than planned is not taken at its word."""
    playing = start(
        "llama_cpp", "--model", tiny_gguf, "--alias", "m", "--ctx-size", 1024, "--fault", "small-context:512"
    )
    with pytest.raises(VerifyError, match="how many tokens does the server take"):
        verified(chat(playing))


@pytest.mark.parametrize("fault", ["cpu", "half", "small-context:512"])
def test_ollama_that_does_less_is_refused(tmp_path: Path, tiny_gguf: Path, fault: str) -> None:
    """What /api/ps says of memory and context is compared with the plan."""
    with OllamaLab(tmp_path / "models", "http://127.0.0.1:9/") as lab:
        made_of(lab, tiny_gguf)
        lab.fail(fault)
        server = served(lab.url, runtime="ollama", role="llm", context=1024, model_id="pmoves/m:q4-1024")
        with pytest.raises(VerifyError):
            verified(server)
