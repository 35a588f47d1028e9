"""The play TEI, pinned against huggingface/text-embeddings-inference, router/src.

main.rs, lib.rs, http/{server,types}.rs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.play.starting import Playing
from tests.play.conftest import Start

pytestmark = pytest.mark.real
Folder = Callable[..., Path]


@pytest.fixture
def tei(start: Start, safetensors: Folder) -> Playing:
    """Return one that embeds, with the flags of a plan."""
    words = ("--served-model-name", "m", "--dtype", "float16", "--max-batch-tokens", 16384)
    return start("tei", "--model-id", safetensors(max_position_embeddings=64), *words, AUTO_TRUNCATE="false")


def test_what_it_says_of_itself(tei: Playing) -> None:
    """lib.rs, struct Info; /health has an empty body; there is no list of models."""
    _, info = tei.ask("GET", "/info")

    assert (200, "") == tei.ask("GET", "/health")
    assert (404, "") == tei.ask("GET", "/v1/models")
    assert ("m", 64, "float16", 16384, 32, False) == tuple(
        info[key]
        for key in (
            "served_model_name",
            "max_input_length",
            "model_dtype",
            "max_batch_tokens",
            "max_client_batch_size",
            "auto_truncate",
        )
    )
    assert {"embedding": {"pooling": "mean"}} == info["model_type"]


def test_vectors(tei: Playing) -> None:
    """types.rs, OpenAICompatResponse and EmbedResponse: of length 1, and the same both ways."""
    _, openai = tei.ask("POST", "/v1/embeddings", {"input": ["a cat sits", "b"], "model": "m"})
    _, own = tei.ask("POST", "/embed", {"inputs": "a cat sits"})

    assert ["list", "m", {"prompt_tokens": 8, "total_tokens": 8}] == [
        openai[key] for key in ("object", "model", "usage")
    ]
    assert [("embedding", 0), ("embedding", 1)] == [(row["object"], row["index"]) for row in openai["data"]]
    assert own[0] == openai["data"][0]["embedding"]
    assert math.isclose(1.0, math.hypot(*own[0]))


@pytest.mark.parametrize(
    ("path", "body", "status", "answer"),
    [
        ("/embed", {"inputs": []}, 400, {"error": "`inputs` cannot be empty", "error_type": "empty"}),
        (
            "/embed",
            {"inputs": ["a"] * 33},
            422,
            {"error": "batch size 33 > maximum allowed batch size 32", "error_type": "validation"},
        ),
        (
            "/embed",
            {"inputs": "a " * 100},
            422,
            {"error": "`inputs` must have less than 64 tokens. Given: 102", "error_type": "validation"},
        ),
        (
            "/v1/embeddings",
            {"input": []},
            400,
            {"message": "`inputs` cannot be empty", "code": 400, "type": "empty"},
        ),
        (
            "/rerank",
            {"query": "a", "texts": ["b"]},
            424,
            {"error": "model is not a re-ranker model", "error_type": "backend"},
        ),
    ],
)
def test_refusals(tei: Playing, path: str, body: object, status: int, answer: object) -> None:
    """server.rs, From<&ErrorType> for StatusCode; OpenAI's paths write them otherwise."""
    assert (status, answer) == tei.ask("POST", path, body)


def test_overload(tei: Playing) -> None:
    """server.rs: what has no permit left is a 429."""
    tei.fail("overloaded", times=2)

    assert (429, {"error": "Model is overloaded", "error_type": "overloaded"}) == tei.ask(
        "POST", "/embed", {"inputs": "a"}
    )
    assert "overloaded" == tei.ask("POST", "/v1/embeddings", {"input": "a"})[1]["type"]


def test_truncation_is_the_default(start: Start, safetensors: Folder) -> None:
    """main.rs: --auto-truncate is true by default; then too long a text is cut without a word."""
    playing = start("tei", "--model-id", safetensors(max_position_embeddings=64))
    status, rows = playing.ask("POST", "/embed", {"inputs": "word " * 100})

    assert (200, 1) == (status, len(rows))


def test_ranks(start: Start, safetensors: Folder) -> None:
    """types.rs, Rank: the best first, as probabilities unless raw scores are asked for."""
    playing = start("tei", "--model-id", safetensors(architectures=["XLMRobertaForSequenceClassification"]))
    body = {
        "query": "why does bread rise",
        "texts": ["a piano has keys", "yeast makes the dough of bread rise"],
    }
    _, rows = playing.ask("POST", "/rerank", {**body, "return_text": True})
    _, raw = playing.ask("POST", "/rerank", {**body, "raw_scores": True})

    assert [1, 0] == [row["index"] for row in rows]
    assert body["texts"][1] == rows[0]["text"]
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert raw[1]["score"] < 0
    assert {"index", "score"} == set(raw[0])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--foo",), "error: unexpected argument '--foo' found"),
        (("--dtype", "int4"), "error: invalid value 'int4' for '--dtype <VALUE>'"),
        (("--port",), "error: a value is required for '--port <VALUE>' but none was supplied"),
        (("--max-batch-tokens", "x"), "error: invalid value 'x'"),
    ],
)
def test_flags_that_do_not_fit(start: Start, words: tuple[str, ...], why: str) -> None:
    """Clap ends with 2."""
    playing = start("tei", *words, waits=False)

    assert 2 == playing.ends()
    assert why in playing.log()


@pytest.mark.parametrize("gone", ["config.json", "tokenizer.json", "model.safetensors"])
def test_files_that_are_missing(start: Start, safetensors: Folder, gone: str) -> None:
    """lib.rs: it ends with 1 and says what it lacks."""
    folder = safetensors()
    (folder / gone).unlink()
    playing = start("tei", "--model-id", folder, waits=False)

    assert 1 == playing.ends()
    assert playing.log().startswith("Error: ")
