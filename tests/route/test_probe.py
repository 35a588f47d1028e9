"""What a gateway is asked before it gets a request, and which answers are right."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from dataclasses import replace
from typing import Any

import pytest

from tasks.contracts import PlannedRoute, Role, RouteTier
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import RouteError, StoppedError
from tasks.route.probe import (
    Ask,
    SilentGatewayError,
    SilentServerError,
    asks,
    judge,
    picture,
    smoke,
)
from tests.lab.routing import reply
from tests.lab.verified import verified_server

GATEWAY = "http://127.0.0.1:40001/openai/v1"
SERVER = "http://127.0.0.1:8102/v1/"
CHAT = Ask("tensorzero::function_name::chat", "text", SERVER, "talker", "local")
SEES = replace(CHAT, model="tensorzero::function_name::sees", kind="picture")
LOCAL = RouteTier("local", "local", "talker")
CLOUD = RouteTier("affordable", "venice", "venice/big")


def planned(function: str, *tiers: RouteTier, role: Role = "llm") -> PlannedRoute:
    """Return a route."""
    return PlannedRoute(function, function, role, "talks", tiers, complex_tiers=(CLOUD, *tiers))


def test_asks() -> None:
    """Embedding models and functions whose first tier is here are asked, those of one server together."""
    verified = (
        verified_server("talker", base_url="http://127.0.0.1:8102/v1", role="llm", runtime="ollama"),
        verified_server("embed", base_url="http://127.0.0.1:8101"),
        verified_server("rank", role="reranker"),
    )
    routes = (
        planned("chat", LOCAL, CLOUD),
        planned("cloudy", CLOUD, LOCAL),
        planned("lost", RouteTier("local", "local", "another")),
        planned("none"),
        planned("archon", LOCAL),
    )

    assert asks(routes, verified) == (
        Ask("tensorzero::embedding_model_name::embed", "embeddings", "http://127.0.0.1:8101/v1/", "embed"),
        Ask("tensorzero::function_name::archon", "text", SERVER, "talker", "local"),
        Ask("tensorzero::function_name::chat", "text", SERVER, "talker", "local"),
    )


def test_vision_is_asked_with_a_picture() -> None:
    """A function that sees gets a picture."""
    verified = (verified_server("talker", base_url="http://127.0.0.1:8102/v1", role="vision"),)

    assert asks((planned("sees", LOCAL, role="vision"),), verified) == (SEES,)


class Host:
    """A model server and a gateway before it."""

    def __init__(self, own: str = "4", routed: str = "4", *, by: str = "local") -> None:
        self.own: str | int = own
        self.routed: str | int = routed
        self.by = by
        self.http = MemoryHttp(self._answer)

    def asked(self, base_url: str) -> list[dict[str, Any]]:
        """Return what was asked of one of both."""
        found = [one.json for one in self.http.requests if one.url.startswith(base_url)]
        return [one for one in found if isinstance(one, dict)]

    def _answer(self, request: Request) -> Reply:
        routed = request.url.startswith(GATEWAY)
        assert isinstance(request.json, dict)
        text = self.routed if routed else self.own
        if isinstance(text, int):
            return reply(text, {"error": "no"})
        model = f"{request.json['model']}::variant_name::{self.by}" if routed else "talker"
        message = {"role": "assistant", "content": text}
        return reply(
            200, {"model": model, "choices": [{"message": message}], "usage": {"completion_tokens": 3}}
        )


@pytest.mark.parametrize("ask", [CHAT, SEES])
def test_right(ask: Ask) -> None:
    """The gateway gives the known answer, through the tier that is the first."""
    known = "4" if ask is CHAT else "red"
    host = Host(known.upper(), f"It is {known}.")
    (answer,) = smoke((ask,), GATEWAY, host.http)

    assert answer.question == f"chat with {ask.model}"
    assert answer.expected == f"{known!r} by local"
    assert (answer.got, answer.right) == (f"'It is {known}.' by local", True)


def test_nothing_is_kept_and_little_is_said() -> None:
    """A smoke leaves no trace in the gateway's store, and asks for few tokens, whatever a function allows."""
    host = Host()
    smoke((CHAT,), GATEWAY, host.http)
    (asked,) = host.asked(GATEWAY)

    assert asked["tensorzero::dryrun"] is True
    assert asked["tensorzero::extra_body"] == [
        {"variant_name": "local", "pointer": "/max_tokens", "value": asked["max_tokens"]}
    ]
    assert not [key for key in host.asked(SERVER)[0] if key.startswith("tensorzero")]


def test_a_server_is_asked_once() -> None:
    """Functions of one model share the server's own answer."""
    host = Host()
    smoke((CHAT, replace(CHAT, model="tensorzero::function_name::archon")), GATEWAY, host.http)

    assert (len(host.asked(SERVER)), len(host.asked(GATEWAY))) == (1, 2)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        (Host("4", "5"), "is wrong: '5' by local, not '4' by local"),
        (Host("4", "4", by="venice"), "is wrong: '4' by venice, not '4' by local"),
        (Host("5", "4", by="venice"), "is wrong: '4' by venice, not an answer by local"),
        (Host("4", ""), "is wrong: 3 tokens by local, not '4' by local"),
    ],
)
def test_wrong(host: Host, says: str) -> None:
    """Another answer than the server's right one is refused, and so is another tier."""
    with pytest.raises(RouteError) as caught:
        smoke((CHAT,), GATEWAY, host.http)

    assert says in caught.value.what


@pytest.mark.parametrize("routed", ["7", "", "<think>four, I"])
def test_a_server_that_cannot_count(routed: str) -> None:
    """Where the server itself does not know, any answer of it is right: that was verified elsewhere."""
    (answer,) = smoke((CHAT,), GATEWAY, Host("seven", routed).http)

    assert answer.right
    assert answer.expected == "an answer by local"


def test_silent_server() -> None:
    """A server that does not answer is blamed itself, and the gateway is not asked: a cloud might answer."""
    host = Host()
    host.own = 500
    with pytest.raises(SilentServerError, match="the server of talker at http://127"):
        smoke((CHAT,), GATEWAY, host.http)

    assert host.asked(GATEWAY) == []


def test_silent_gateway() -> None:
    """A gateway that does not answer is named by what was asked."""
    host = Host()
    host.routed = 502
    with pytest.raises(SilentGatewayError, match="chat does not answer through the gateway"):
        smoke((CHAT,), GATEWAY, host.http)


BODIES: list[object] = [
    [],
    {},
    {"choices": []},
    {"choices": [1]},
    {"choices": [{}]},
    {"choices": [{"message": {"content": 4}}]},
    {"choices": [{"message": {"content": ""}}], "model": "x::variant_name::local"},
]


@pytest.mark.parametrize("body", BODIES, ids=json.dumps)
def test_answers_that_are_none(body: object) -> None:
    """A 200 without a message, or with an empty one and no token, is no answer."""
    host = Host()

    def answer(request: Request) -> Reply:
        return reply(200, body) if request.url.startswith(GATEWAY) else host._answer(request)

    with pytest.raises(RouteError):
        smoke((CHAT,), GATEWAY, MemoryHttp(answer))


def test_no_connection() -> None:
    """A refused connection is a sentence."""

    def refuse(_request: Request) -> Reply:
        raise HttpError("the connection is refused")

    with pytest.raises(SilentServerError, match=r"\(the connection is refused\)"):
        smoke((CHAT,), GATEWAY, MemoryHttp(refuse))


def test_between() -> None:
    """What is called between the questions can end them."""

    def stop() -> None:
        raise StoppedError("stopped", "", "")

    host = Host()
    with pytest.raises(StoppedError):
        smoke((CHAT,), GATEWAY, host.http, between=stop)

    assert host.http.requests == []


@pytest.mark.parametrize(
    ("routed", "own", "right"),
    [
        ((1.0, 0.0), (1.0, 0.0), True),
        ((1.0, 0.0), (2.0, 0.0), True),
        ((0.0, 1.0), (1.0, 0.0), False),
        ((2.0, 0.0), (1.0, 0.0), False),
        ((1.0,), (1.0, 0.0), False),
        ((0.0, 0.0), (1.0, 0.0), False),
    ],
)
def test_judge(routed: tuple[float, ...], own: tuple[float, ...], *, right: bool) -> None:
    """Vectors are right when they have the length one and point where the server's own do."""
    assert judge(routed, own)[1] is right


def test_picture() -> None:
    """The picture is a PNG of one red square."""
    raw = base64.b64decode(picture().removeprefix("data:image/png;base64,"))
    width, height = struct.unpack(">2I", raw[16:24])
    size = struct.unpack(">I", raw[33:37])[0]
    pixels = zlib.decompress(raw[41 : 41 + size])

    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    assert (width, height) == (64, 64)
    assert pixels == (b"\0" + b"\xff\0\0" * 64) * 64
