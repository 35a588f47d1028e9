"""Reranking, in the two styles that servers have: what comes back is checked before it is used.

"tei": POST {root}/rerank {query, texts} -> [{index, score}]
(https://huggingface.co/docs/text-embeddings-inference/quick_tour). "jina": POST {base}/rerank
{model, query, documents} -> {results: [{index, relevance_score}]} (llama.cpp, vLLM, Jina AI).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.contracts import ModelServer, RerankApi
from tasks.effects.http import OK, Http, HttpError, Reply
from tasks.effects.openai import json_object


@dataclass(frozen=True, slots=True)
class Scores:
    """The score of each document, in the order of the documents. They may be probabilities or not."""

    values: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Style:
    path: Callable[[str], str]
    body: Callable[[str, str, list[str]], dict[str, object]]
    rows: Callable[[Reply], Any]
    score: str


def _listed(reply: Reply) -> object:
    if reply.status != OK:
        raise HttpError(reply.shown())
    return reply.json()


_STYLES: dict[RerankApi, _Style] = {
    "tei": _Style(
        lambda base: f"{root_of(base)}/rerank",
        lambda _model, query, documents: {"query": query, "texts": documents},
        _listed,
        "score",
    ),
    "jina": _Style(
        lambda base: f"{base.rstrip('/')}/rerank",
        lambda model, query, documents: {"model": model, "query": query, "documents": documents},
        lambda reply: json_object(reply).get("results"),
        "relevance_score",
    ),
}


def root_of(base_url: str) -> str:
    """Return the address without the "/v1" of an OpenAI client's."""
    return base_url.rstrip("/").removesuffix("/v1")


def rerank(http: Http, server: ModelServer, query: str, documents: Sequence[str], timeout_s: float) -> Scores:
    """Let the server score each document.

    Raises:
        HttpError: no answer, not a 200, or not one finite score for each document.
    """
    style = _STYLES.get(server.rerank_api)
    if style is None:
        raise HttpError("no way to ask it: the server has no rerank API")
    asked = style.body(server.asked_as, query, list(documents))
    reply = http.post(style.path(server.base_url), asked, timeout_s=timeout_s)
    rows = style.rows(reply)
    if not isinstance(rows, list) or len(rows) != len(documents):
        got = len(rows) if isinstance(rows, list) else "no"
        raise HttpError(f"{got} scores for {len(documents)} documents")
    scores = dict(_score(row, style.score) for row in rows)
    if sorted(scores) != list(range(len(documents))):
        raise HttpError(f"scores with the indexes {sorted(scores)} for {len(documents)} documents")
    return Scores(tuple(scores[place] for place in range(len(documents))), reply.seconds)


def _score(row: object, field: str) -> tuple[int, float]:
    index, value = (row.get("index"), row.get(field)) if isinstance(row, dict) else (None, None)
    if isinstance(index, bool) or not isinstance(index, int):
        raise HttpError(f"a score with the index {index!r:.40}")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise HttpError(f"document {index} has the score {value!r:.40}, which is not a finite number")
    return index, float(value)
