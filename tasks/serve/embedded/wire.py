"""The OpenAI embeddings API as values: JSON in, JSON out, refusals. Pure."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from tasks.serve.embedded.engine import Vector


class Refusal(Exception):  # noqa: N818  # it is an answer, not a fault
    """Raised when a request is not answered with vectors; holds what the client gets instead."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: int = 0) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Served:
    """What requests are checked against."""

    model: str
    dimensions: int
    max_texts: int


@dataclass(frozen=True, slots=True)
class Question:
    """One valid request for embeddings."""

    texts: tuple[str, ...]
    as_base64: bool
    truncate: bool


def read(body: bytes, served: Served) -> Question:
    """Turn a request body into a question.

    Raises:
        Refusal: the body is not a request that this server can answer.
    """
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad(f"the body is not valid JSON: {error}") from None
    if not isinstance(asked, dict):
        raise bad(f"the body must be a JSON object, not {_kind(asked)}")
    check_model(asked.get("model"), served.model)
    _check_dimensions(asked.get("dimensions"), served)
    encoding = asked.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise bad(f'encoding_format must be "float" or "base64", not {_shown(encoding)}')
    truncate = asked.get("truncate") or False
    if truncate is not True and truncate is not False:
        raise bad(f"truncate must be true or false, not {_shown(truncate)}")
    return Question(_texts(asked.get("input"), served.max_texts), encoding == "base64", truncate)


def check_model(asked: object, served: str) -> None:
    """Refuse a model that is not the served one."""
    if asked is None:
        raise bad(f'model is missing; send "model": "{served}"')
    if asked != served:
        raise Refusal(404, "model_not_found", f'model {_shown(asked)} is not served here, "{served}" is')


def _check_dimensions(asked: object, served: Served) -> None:
    if asked is not None and (isinstance(asked, bool) or asked != served.dimensions):
        raise bad(f"{served.model} has {served.dimensions} dimensions, it cannot give {_shown(asked)}")


def _texts(given: object, most: int) -> tuple[str, ...]:
    if given is None:
        raise bad("input is missing; send a text or a list of texts")
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, (list, tuple)):
        raise bad(f"input must be a text or a list of texts, not {_kind(given)}")
    if not texts:
        raise bad("input is an empty list; send at least one text")
    if len(texts) > most:
        raise bad(f"input has {len(texts)} texts and the limit is {most} a request; send fewer at a time")
    for index, text in enumerate(texts):
        if isinstance(text, (int, list)) and not isinstance(text, bool):
            raise bad("input holds token numbers; this server takes texts only")
        if not isinstance(text, str):
            raise bad(f"text {index} of input is {_kind(text)}, not a text")
        if not text:
            raise bad(f"text {index} of input is empty; leave it out")
    return tuple(texts)


def too_long(index: int, tokens: int, limit: int) -> Refusal:
    """Return the refusal of a text with too many tokens."""
    hint = 'shorten it, or send "truncate": true to have it cut'
    return bad(f"text {index} of input has {tokens} tokens and the limit is {limit}; {hint}", code="too_long")


def bad(message: str, *, code: str = "invalid_value") -> Refusal:
    """Return the refusal of a request that is wrong in itself."""
    return Refusal(400, code, message)


def render(question: Question, vectors: Sequence[Vector], tokens: int, model: str) -> bytes:
    """Return the answer's body."""
    encode = _base64 if question.as_base64 else list
    data = [
        {"object": "embedding", "index": index, "embedding": encode(vector)}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def render_error(status: int, code: str, message: str) -> bytes:
    """Return an error body as OpenAI's clients read it; `message` becomes one sentence."""
    kind = "invalid_request_error" if status < 500 else "server_error"  # noqa: PLR2004  # HTTP classes
    return orjson.dumps({"error": {"message": f"{message}.", "type": kind, "param": None, "code": code}})


def _base64(vector: Vector) -> str:
    little = array("f", vector)
    if sys.byteorder == "big":
        little.byteswap()
    return base64.b64encode(little.tobytes()).decode()


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:80]}..."  # noqa: PLR2004  # fits one line of a log
