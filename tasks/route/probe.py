"""One real request for every model through the gateway, beside the same request to its server."""

from __future__ import annotations

import math

from tasks.contracts import Answer, VerifiedServer
from tasks.effects.http import Http, HttpError
from tasks.effects.openai import Vector, embed
from tasks.errors import RouteError
from tasks.route.config import api_base, client_name, in_order
from tasks.route.validate import INTACT

TEXT = "the gateway reaches the right server"
TIMEOUT_S = 60.0
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
    answers = tuple(_ask(server, base_url, http) for server in in_order(verified))
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


def _ask(server: VerifiedServer, base_url: str, http: Http) -> Answer:
    model, behind = client_name(server), server.server
    try:
        routed = embed(http, base_url, model, (TEXT,), timeout_s=TIMEOUT_S)
        own = embed(http, api_base(behind.base_url), behind.planned.model, (TEXT,), timeout_s=TIMEOUT_S)
    except HttpError as error:
        what = f"{model} does not answer through the gateway ({error})"
        raise RouteError(what, INTACT, "look at the model server's log") from error
    got, right = judge(routed.vectors[0], own.vectors[0])
    expected = f"{len(own.vectors[0])} numbers of length 1.000, likeness 1.000 to the server's own"
    return Answer(f"embeddings of {model}", expected, got, right, routed.seconds)
