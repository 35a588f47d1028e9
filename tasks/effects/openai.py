"""The OpenAI-compatible API as verify and route use it: what comes back is checked before it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.effects.http import OK, Http, HttpError, Reply

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of a request's texts, in the order of the texts."""

    vectors: tuple[Vector, ...]
    prompt_tokens: int
    seconds: float


def embed(http: Http, base_url: str, model: str, texts: Sequence[str], timeout_s: float) -> Embeddings:
    """Ask for the embeddings of `texts`.

    Args:
        http: What asks.
        base_url: As an OpenAI client takes it: it ends in "/v1".
        model: The name that the server knows the model by.
        texts: At least one.
        timeout_s: For the whole answer.

    Raises:
        HttpError: no answer, not a 200, or not one finite vector for each text, all of one length.
    """
    asked = {"model": model, "input": list(texts), "encoding_format": "float"}
    reply = http.post(f"{base_url.rstrip('/')}/embeddings", asked, timeout_s=timeout_s)
    body = json_object(reply)
    rows = body.get("data")
    if not isinstance(rows, list) or len(rows) != len(texts):
        got = len(rows) if isinstance(rows, list) else "no"
        raise HttpError(f"{got} embeddings for {len(texts)} texts")
    vectors = tuple(_vector(row, place) for place, row in enumerate(_in_order(rows)))
    if len({len(vector) for vector in vectors}) > 1:
        raise HttpError(f"vectors of different lengths: {sorted({len(vector) for vector in vectors})}")
    return Embeddings(vectors, _prompt_tokens(body), reply.seconds)


def models(http: Http, base_url: str, timeout_s: float) -> tuple[str, ...]:
    """Return the names that the server lists.

    Raises:
        HttpError: no answer, not a 200, or not a list of models.
    """
    body = json_object(http.get(f"{base_url.rstrip('/')}/models", timeout_s=timeout_s))
    rows = body.get("data")
    if not isinstance(rows, list):
        raise HttpError("an answer without a list of models")
    return tuple(str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row)


def json_object(reply: Reply) -> dict[str, Any]:
    """Return the object that a server answered with.

    Raises:
        HttpError: not a 200, not said to be JSON, or not an object.
    """
    if reply.status != OK:
        raise HttpError(reply.shown())
    body = reply.json()
    if not isinstance(body, dict):
        raise HttpError(f"{reply.shown()}, which is not an object")
    if reply.content_type and "json" not in reply.content_type.lower():
        raise HttpError(f"{reply.shown()}, which says that it is {reply.content_type:.40}")
    return body


def _in_order(rows: list[Any]) -> list[Any]:
    indexes = [row.get("index") if isinstance(row, dict) else None for row in rows]
    if sorted(index for index in indexes if isinstance(index, int)) != list(range(len(rows))):
        raise HttpError(f"embeddings with the indexes {indexes[:8]} for {len(rows)} texts")
    return sorted(rows, key=lambda row: int(row["index"]))


def _vector(row: dict[str, Any], place: int) -> Vector:
    values = row.get("embedding")
    if not isinstance(values, list) or not values:
        raise HttpError(f"embedding {place} is not a list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise HttpError(f"embedding {place} holds {value!r:.40}, which is not a finite number")
    return tuple(values)


def _prompt_tokens(body: dict[str, Any]) -> int:
    usage = body.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else 0
