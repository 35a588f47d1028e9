"""The smoke: one real request for every function and embedding model, beside the same request to its server.

Only what this host's own servers answer is asked: an answer of a cloud costs money. A server is asked itself
first, so that a gateway is not blamed for it, and does not turn to a cloud while it is tried.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tasks.contracts import Answer, PlannedRoute, VerifiedServer
from tasks.effects.chat import picture_part, text_part, without_thoughts
from tasks.effects.http import Http, HttpError
from tasks.effects.openai import Vector, embed, json_object
from tasks.errors import RouteError
from tasks.route.config.names import FUNCTION, api_base, client_name
from tasks.route.config.tiers import server_of
from tasks.route.context import INTACT

TEXT = "the gateway reaches the right server"
TIMEOUT_S = 60.0
CHAT_TIMEOUT_S = 600.0
MOST_TOKENS = 16
LENGTH_TOLERANCE = 0.01
SAME_DIRECTION = 0.999
PICTURE_SIDE = 64
"""Pixels; some vision models refuse a picture below 28."""

Kind = Literal["embeddings", "text", "picture"]
QUESTIONS: dict[Kind, tuple[str, str]] = {
    "text": ("What is two plus two? Answer with one number.", "4"),
    "picture": ("Which colour is this picture? Answer with one word.", "red"),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what clients send as `model`, and which server is to answer it.

    `server` ends in "/v1/" and knows the model as `asked_as`. `variant` is the tier that must answer; empty
    where no function is asked.
    """

    model: str
    kind: Kind
    server: str
    asked_as: str
    variant: str = ""


class SilentGatewayError(RouteError):
    """Raised when a gateway gives no answer, or one that is none."""


class SilentServerError(RouteError):
    """Raised when a model server itself does not answer, whatever the gateway does."""


def asks(routes: tuple[PlannedRoute, ...], verified: tuple[VerifiedServer, ...]) -> tuple[Ask, ...]:
    """Return what a gateway must answer: each embedding model, and each function whose first tier is local.

    What one server answers stands together, so that models which take turns are loaded once.
    """
    found = [*_embedding_models(verified), *_functions(routes, verified)]
    return tuple(sorted(found, key=lambda ask: (ask.server, ask.asked_as, ask.kind, ask.model)))


def smoke(
    wanted: tuple[Ask, ...], base_url: str, http: Http, *, between: Callable[[], None] = lambda: None
) -> tuple[Answer, ...]:
    """Ask a gateway everything; return its answers, which are all right.

    Args:
        wanted: What to ask.
        base_url: The gateway's address that ends in `/openai/v1`.
        http: What asks.
        between: Called before each question; what it raises ends the smoke.

    Raises:
        SilentServerError: a model server does not answer.
        SilentGatewayError: the gateway does not.
        RouteError: an answer of the gateway is wrong, or another tier gave it.
    """
    answers: list[Answer] = []
    own: dict[tuple[str, str, Kind], str] = {}
    for ask in wanted:
        between()
        answer = _embed(ask, base_url, http) if ask.kind == "embeddings" else _chat(ask, base_url, http, own)
        if not answer.right:
            what = f"the gateway's answer to {answer.question} is wrong: {answer.got}, not {answer.expected}"
            raise RouteError(what, INTACT, "look at the model server's log")
        answers.append(answer)
    return tuple(answers)


def judge(routed: Vector, own: Vector) -> tuple[str, bool]:
    """Compare a vector that came through the gateway with the server's own; return words and verdict."""
    length = math.hypot(*routed)
    likeness = 0.0
    if len(routed) == len(own) and length > 0 and any(own):
        likeness = sum(a * b for a, b in zip(routed, own, strict=True)) / length / math.hypot(*own)
    right = abs(length - 1) <= LENGTH_TOLERANCE and likeness >= SAME_DIRECTION
    return f"{len(routed)} numbers of length {length:.3f}, likeness {likeness:.3f}", right


def picture() -> str:
    """Return a red square as the address of a picture (PNG)."""
    row = b"\0" + b"\xff\0\0" * PICTURE_SIDE
    head = struct.pack(">2I5B", PICTURE_SIDE, PICTURE_SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(row * PICTURE_SIDE)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _embedding_models(verified: tuple[VerifiedServer, ...]) -> Iterator[Ask]:
    for one in verified:
        if one.server.planned.role == "embeddings":
            behind = api_base(one.server.base_url)
            yield Ask(client_name(one, verified), "embeddings", behind, one.server.asked_as)


def _functions(routes: tuple[PlannedRoute, ...], verified: tuple[VerifiedServer, ...]) -> Iterator[Ask]:
    for route in routes:
        first = route.tiers[0] if route.tiers else None
        if (
            first is None
            or first.tier != "local"
            or (one := server_of(first.by, route.role, verified)) is None
        ):
            continue
        kind: Kind = "picture" if route.role == "vision" else "text"
        name = f"{FUNCTION}{route.function}"
        yield Ask(name, kind, api_base(one.server.base_url), one.server.asked_as, first.name)


def _embed(ask: Ask, base_url: str, http: Http) -> Answer:
    try:
        own = embed(http, ask.server, ask.asked_as, (TEXT,), timeout_s=TIMEOUT_S)
    except HttpError as error:
        raise _silent_server(ask, error) from error
    try:
        routed = embed(http, base_url, ask.model, (TEXT,), timeout_s=TIMEOUT_S)
    except HttpError as error:
        raise _silent(ask, error) from error
    got, right = judge(routed.vectors[0], own.vectors[0])
    expected = f"{len(own.vectors[0])} numbers of length 1.000, likeness 1.000 to the server's own"
    return Answer(f"embeddings of {ask.model}", expected, got, right, routed.seconds)


def _chat(ask: Ask, base_url: str, http: Http, own: dict[tuple[str, str, Kind], str]) -> Answer:
    """Ask a function. Where its server gets the known answer right, the gateway must get it right as well."""
    key = (ask.server, ask.asked_as, ask.kind)
    if key not in own:
        try:
            own[key] = _say(http, ask.server, ask.asked_as, ask.kind, {}).text
        except HttpError as error:
            raise _silent_server(ask, error) from error
    known = QUESTIONS[ask.kind][1]
    must = known if known in own[key].lower() else ""
    try:
        heard = _say(http, base_url, ask.model, ask.kind, _dry(ask))
    except HttpError as error:
        raise _silent(ask, error) from error
    text, by = heard.text, heard.variant
    right = by == ask.variant and must in text.lower() and bool(text or heard.tokens)
    expected = f"{must!r} by {ask.variant}" if must else f"an answer by {ask.variant}"
    got = f"{text[:60]!r} by {by}" if text or not heard.tokens else f"{heard.tokens} tokens by {by}"
    return Answer(f"chat with {ask.model}", expected, got, right, heard.seconds)


def _dry(ask: Ask) -> dict[str, object]:
    """Return what keeps a request out of the gateway's own store, and its answer short."""
    cap = {"variant_name": ask.variant, "pointer": "/max_tokens", "value": MOST_TOKENS}
    return {"tensorzero::dryrun": True, "tensorzero::extra_body": [cap]}


@dataclass(frozen=True, slots=True)
class _Heard:
    """An answer: which tier of a function gave it, and what it says without its thoughts."""

    variant: str
    text: str
    tokens: int
    seconds: float


def _say(http: Http, base_url: str, model: str, kind: Kind, more: dict[str, object]) -> _Heard:
    """Ask the question with a known answer.

    Raises:
        HttpError: no answer, not a 200, or not a chat completion.
    """
    question = QUESTIONS[kind][0]
    content = question if kind == "text" else [text_part(question), picture_part(picture())]
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": MOST_TOKENS,
        **more,
    }
    reply = http.post(f"{base_url.rstrip('/')}/chat/completions", asked, timeout_s=CHAT_TIMEOUT_S)
    body = json_object(reply)
    choices = body.get("choices")
    message = choices[0].get("message") if isinstance(choices, list) and _objects(choices) else None
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        raise HttpError(f"an answer without a message ({reply.shown()})")
    usage = body.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    text = without_thoughts(message.get("content") or "")
    _, _, variant = str(body.get("model") or "").rpartition("::variant_name::")
    return _Heard(variant or "none", text, tokens if isinstance(tokens, int) else 0, reply.seconds)


def _objects(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(one, dict) for one in items)


def _silent(ask: Ask, error: HttpError) -> SilentGatewayError:
    what = f"{ask.model} does not answer through the gateway ({error})"
    return SilentGatewayError(what, INTACT, "look at the model server's log")


def _silent_server(ask: Ask, error: HttpError) -> SilentServerError:
    what = f"the server of {ask.asked_as} at {ask.server} does not answer ({error})"
    return SilentServerError(what, INTACT, "look at the model server's log")
