"""One real request for every model through the gateway, beside the same request to its server."""

from __future__ import annotations

import math
from collections.abc import Callable

from tasks.contracts import Answer, Role, VerifiedServer
from tasks.effects.http import OK, Http, HttpError
from tasks.effects.openai import Vector, embed
from tasks.errors import RouteError
from tasks.route.config import api_base, client_name, in_order
from tasks.route.validate import INTACT

TEXT = "the gateway reaches the right server"
TIMEOUT_S = 60.0
CHAT_TIMEOUT_S = 600.0
QUESTION = "What is two plus two? Answer with one number."
MOST_TOKENS = 16
LENGTH_TOLERANCE = 0.01
SAME_DIRECTION = 0.999


def probe(verified: tuple[VerifiedServer, ...], base_url: str, http: Http) -> tuple[Answer, ...]:
    """Ask every model through the gateway; return its answers, which are all right.

    Args:
        verified: The servers behind the gateway.
        base_url: The gateway's address that ends in `/openai/v1`.
        http: What asks.

    Raises:
        RouteError: an answer is missing, or is not the one that the model's own server gives.
    """
    answers = tuple(
        ASKS[server.server.planned.role](server, client_name(server, verified), base_url, http)
        for server in in_order(verified)
    )
    for answer in answers:
        if not answer.right:
            what = f"the gateway's answer to {answer.question} is wrong: {answer.got}, not {answer.expected}"
            raise RouteError(what, INTACT, "look at the model server's log")
    return answers


def judge(routed: Vector, own: Vector) -> tuple[str, bool]:
    """Compare a vector that came through the gateway with the server's own; return words and verdict."""
    length = math.hypot(*routed)
    likeness = 0.0
    if len(routed) == len(own) and length > 0 and any(own):
        likeness = sum(a * b for a, b in zip(routed, own, strict=True)) / length / math.hypot(*own)
    right = abs(length - 1) <= LENGTH_TOLERANCE and likeness >= SAME_DIRECTION
    return f"{len(routed)} numbers of length {length:.3f}, likeness {likeness:.3f}", right


def _embed(server: VerifiedServer, model: str, base_url: str, http: Http) -> Answer:
    behind = server.server
    try:
        routed = embed(http, base_url, model, (TEXT,), timeout_s=TIMEOUT_S)
        own = embed(http, api_base(behind.base_url), behind.asked_as, (TEXT,), timeout_s=TIMEOUT_S)
    except HttpError as error:
        raise _silent(model, error) from error
    got, right = judge(routed.vectors[0], own.vectors[0])
    expected = f"{len(own.vectors[0])} numbers of length 1.000, likeness 1.000 to the server's own"
    return Answer(f"embeddings of {model}", expected, got, right, routed.seconds)


def _chat(_server: VerifiedServer, model: str, base_url: str, http: Http) -> Answer:
    """Ask for a few words; that they are right is what verification asked the server itself."""
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": MOST_TOKENS,
    }
    try:
        reply = http.post(f"{base_url}/chat/completions", asked, timeout_s=CHAT_TIMEOUT_S)
        body = reply.json() if reply.status == OK else None
    except HttpError as error:
        raise _silent(model, error) from error
    if body is None:
        raise _silent(model, HttpError(reply.shown()))
    tokens = _completion_tokens(body)
    got = f"{tokens} tokens" if tokens else f"no token: {reply.shown()}"
    return Answer(f"chat with {model}", "at least 1 token", got, tokens > 0, reply.seconds)


def _completion_tokens(body: object) -> int:
    usage = body.get("usage") if isinstance(body, dict) else None
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else 0


def _silent(model: str, error: HttpError) -> RouteError:
    what = f"{model} does not answer through the gateway ({error})"
    return RouteError(what, INTACT, "look at the model server's log")


ASKS: dict[Role, Callable[[VerifiedServer, str, str, Http], Answer]] = {
    "embeddings": _embed,
    "llm": _chat,
    "vision": _chat,
    "code": _chat,
}
