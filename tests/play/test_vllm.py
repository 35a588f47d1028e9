"""The play vLLM, pinned against vllm-project/vllm.

vllm/entrypoints/openai/engine/protocol.py, chat_completion/protocol.py, pooling/scoring/protocol.py,
vllm/renderers/params.py, vllm/utils/argparse_utils.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.play.starting import Playing
from tests.play.conftest import Start

pytestmark = pytest.mark.real
Folder = Callable[..., Path]
PLANNED = (
    "--gpu-memory-utilization",
    "0.35",
    "--kv-cache-memory-bytes",
    "1000000",
    "--max-num-seqs",
    "4",
    "--tensor-parallel-size",
    "1",
    "--max-model-len",
    "256",
)


@pytest.fixture
def vllm(start: Start, safetensors: Folder) -> Playing:
    """Return one that chats, with the flags of a plan."""
    folder = safetensors(architectures=["Qwen3ForCausalLM"])
    return start("vllm", "--model", folder, "--served-model-name", "m", *PLANNED)


def asks(text: str, **more: object) -> dict[str, object]:
    """Return a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def test_it_lists_its_context(vllm: Playing) -> None:
    """engine/protocol.py, ModelCard."""
    _, body = vllm.ask("GET", "/v1/models")
    row = body["data"][0]

    assert ("m", "model", "vllm", 256) == tuple(
        row[key] for key in ("id", "object", "owned_by", "max_model_len")
    )
    assert (200, "") == vllm.ask("GET", "/health")


def test_a_chat(vllm: Playing) -> None:
    """chat_completion/protocol.py, ChatCompletionResponse."""
    status, body = vllm.ask("POST", "/v1/chat/completions", asks("What is 6 times 7?"))
    choice = body["choices"][0]

    assert (200, "chat.completion", "42", "stop") == (
        status,
        body["object"],
        choice["message"]["content"],
        choice["finish_reason"],
    )
    assert {"stop_reason": None, "token_ids": None, "logprobs": None} == {
        key: choice[key] for key in ("stop_reason", "token_ids", "logprobs")
    }
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 1


def test_usage_of_a_stream_is_asked_for(vllm: Playing) -> None:
    """stream_options.include_usage adds an event without choices."""
    _, plain = vllm.ask("POST", "/v1/chat/completions", asks("hi", stream=True))
    _, told = vllm.ask(
        "POST", "/v1/chat/completions", asks("hi", stream=True, stream_options={"include_usage": True})
    )

    assert all(one.get("usage") is None for one in plain[:-1])
    assert ([], True) == (told[-2]["choices"], told[-2]["usage"]["completion_tokens"] > 0)


def test_too_long_a_prompt(vllm: Playing) -> None:
    """renderers/params.py, _token_len_check: prompt and answer together must fit."""
    status, body = vllm.ask("POST", "/v1/chat/completions", asks("word " * 300, max_tokens=16))
    just = [
        vllm.ask("POST", "/v1/chat/completions", asks("word " * words, max_tokens=16))[0]
        for words in (236, 237)
    ]

    assert (400, "BadRequestError", "input_tokens", 400) == (
        status,
        body["error"]["type"],
        body["error"]["param"],
        body["error"]["code"],
    )
    assert body["error"]["message"].startswith(
        "You passed 304 input tokens and requested 16 output tokens. However, the"
        " model's context length is only 256"
    )
    assert [200, 400] == just


def test_another_model(vllm: Playing) -> None:
    """models/serving.py: a name that it does not serve is a 404."""
    status, body = vllm.ask("POST", "/v1/chat/completions", {**asks("hi"), "model": "x"})

    assert (404, "The model `x` does not exist.", "NotFoundError") == (
        status,
        body["error"]["message"],
        body["error"]["type"],
    )


def test_paths_follow_the_model(vllm: Playing) -> None:
    """A chat model has no path for vectors or ranks."""
    assert [404, 404] == [vllm.ask("POST", path, {})[0] for path in ("/v1/embeddings", "/v1/rerank")]


def test_ranks(start: Start, safetensors: Folder) -> None:
    """pooling/scoring/protocol.py, RerankResponse; --hf-overrides makes a chat model a ranker."""
    folder = safetensors(architectures=["Qwen3ForCausalLM"])
    overrides = '{"architectures":["Qwen3ForSequenceClassification"],"classifier_from_token":["no","yes"]}'
    playing = start("vllm", "serve", folder, "--served-model-name", "m", "--hf-overrides", overrides)
    texts = ["a piano has keys", "yeast makes bread rise"]
    _, body = playing.ask(
        "POST", "/v1/rerank", {"model": "m", "query": "why does bread rise", "documents": texts, "top_n": 1}
    )

    assert [(1, texts[1])] == [(row["index"], row["document"]["text"]) for row in body["results"]]
    assert {"id", "model", "usage", "results"} == set(body)
    assert 404 == playing.ask("POST", "/v1/chat/completions", asks("hi"))[0]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--foo", "1"), 2, "vllm serve: error: unrecognized arguments: --foo"),
        (("--max-num-seqs", "x"), 2, "invalid int value: 'x'"),
        (("--hf-overrides", "{"), 2, "argument --hf-overrides"),
        (("--gpu-memory-utilization", "1.5"), 1, "less than or equal to 1"),
        (("--model", "/no/such"), 1, "Invalid repository ID or local directory specified: '/no/such'"),
    ],
)
def test_flags_that_do_not_fit(start: Start, words: tuple[str, ...], code: int, why: str) -> None:
    """Argparse ends with 2, what comes later with 1."""
    playing = start("vllm", *words, waits=False)

    assert code == playing.ends()
    assert why in playing.log()


@pytest.mark.parametrize(
    ("words", "variables", "why"),
    [
        (("--max-model-len", "100000"), {}, "is greater than the derived max_model_len"),
        ((), {"PLAY_GPU": "none"}, "Failed to infer device type"),
        (("--fault", "cuda-oom"), {}, "CUDA out of memory"),
    ],
)
def test_it_does_not_start(
    start: Start, safetensors: Folder, words: tuple[str, ...], variables: dict[str, str], why: str
) -> None:
    """The engine says why, and the program ends with 1."""
    playing = start("vllm", "--model", safetensors(), *words, waits=False, **variables)

    assert 1 == playing.ends()
    assert why in playing.log()
