"""What a rendered config does in the real TensorZero: who answers when tiers fail, each way they can.

Every cloud is a server on loopback that speaks as OpenAI does; so a request that should not leave is seen.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tasks.contracts import Performance, PlannedRoute, RouteTier
from tasks.route.config.render import key_names, render
from tests.lab.bundles import SHIPPED
from tests.lab.gateway import Gateway, free_port
from tests.lab.openai_server import FakeOpenAI, Fault
from tests.lab.tiers import loopback
from tests.lab.verified import verified_server

pytestmark = pytest.mark.real

CLOUDS = ("venice", "groq", "anthropic", "gemini")
LOCAL = RouteTier("local", "local", "chat")
VENICE = RouteTier("affordable", "venice", "venice/qwen3-235b")
GROQ = RouteTier("affordable", "groq", "groq/gpt-oss-120b")
CLAUDE = RouteTier("premium", "anthropic", "anthropic/claude-sonnet-4-6")
GEMINI = RouteTier("premium", "gemini", "gemini/gemini-3.8-flash")
MEASURED = Performance(first_token_s=0.01, tokens_per_s=1000.0, prompt_tokens_per_s=1e6, context=1000)
SHORT_MS = 700
"""How long the gateway waits for the server of this host here, where a real config has 30 s at least."""
LOCAL_MS = 30_000
FUNCTION = "tensorzero::function_name::"
FAULTS: tuple[Fault, ...] = (
    "500",
    "503",
    "429",
    "401",
    "404",
    "400",
    "dropped",
    "hang",
    "nonsense",
    "no choices",
)


def route(
    function: str, *tiers: RouteTier, marked: tuple[RouteTier, ...] = (), max_tokens: int = 64
) -> PlannedRoute:
    """Return a route of the lab."""
    return PlannedRoute(
        function=function,
        service="lab",
        role="llm",
        purpose="answers",
        tiers=tiers,
        complex_tiers=marked,
        temperature=0.25,
        top_p=0.75,
        max_tokens=max_tokens,
    )


ROUTES = (
    route("talk", LOCAL, VENICE, marked=(CLAUDE, VENICE, LOCAL)),
    route("secret", LOCAL),
    route("away", VENICE, GROQ),
)


@dataclass
class House:
    """A gateway, the server of this host behind it, and the clouds."""

    gateway: Gateway
    servers: dict[str, FakeOpenAI] = field(default_factory=dict)

    def ask(self, function: str = "talk", **more: Any) -> httpx.Response:  # noqa: ANN401  # a request's own
        """Ask a function a question."""
        body = {
            "model": function if "::" in function else FUNCTION + function,
            "messages": [{"role": "user", "content": "What is two plus two?"}],
            **more,
        }
        return self.gateway.client.post("/openai/v1/chat/completions", json=body)

    def who(self, function: str = "talk", *, marked: bool = False) -> str:
        """Return the tier that answers a function, and what it said; or the status of a failure."""
        more = {"tensorzero::namespace": "complex"} if marked else {}
        reply = self.ask(function, **more)
        if reply.status_code != httpx.codes.OK:
            return str(reply.status_code)
        said = reply.json()
        tier = str(said["model"]).rpartition("::variant_name::")[2]
        assert said["choices"][0]["message"]["content"] == f"the answer of {tier}"
        return tier

    def asked(self) -> dict[str, int]:
        """Return how many requests each server got."""
        return {name: len(one.requests) for name, one in self.servers.items() if one.requests}


@pytest.fixture(scope="module")
def whole_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Return a gateway with one server of this host and four clouds."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(FakeOpenAI(name)) for name in ("local", *CLOUDS)}
        text = config(ROUTES, servers)
        folder = tmp_path_factory.mktemp("gateway")
        yield House(stack.enter_context(Gateway(folder, text, keys=keys(ROUTES))), servers)


@pytest.fixture
def house(whole_house: House) -> Iterator[House]:
    """Return it with every server well and nothing asked."""
    for one in whole_house.servers.values():
        one.fault = ""
        one.release.set()
        one.requests.clear()
        one.keys.clear()
    yield whole_house
    for one in whole_house.servers.values():
        one.release.set()


def config(routes: tuple[PlannedRoute, ...], servers: dict[str, FakeOpenAI]) -> str:
    """Return the config, with clouds on loopback and a short wait for the server of this host."""
    local = verified_server("chat", base_url=servers["local"].base_url, role="llm", runtime="ollama")
    routing = loopback(SHIPPED.routing, {name: one.base_url for name, one in servers.items()})
    text = render(routes, (replace(local, performance=MEASURED),), routing)
    assert text.count(f"_ms = {LOCAL_MS}}}") == 2
    return text.replace(f"_ms = {LOCAL_MS}}}", f"_ms = {SHORT_MS}}}")


def keys(routes: tuple[PlannedRoute, ...]) -> str:
    """Return the environment of the gateway: our keys, and the usual ones, which must not be found."""
    usual = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY")
    named = {name: f"key-of-{name}" for name in (*key_names(routes, SHIPPED.routing), *usual)}
    return "".join(f'{name}="{value}"\n' for name, value in named.items())


# --- who answers ---------------------------------------------------------------------------------


def test_this_host_answers_all_while_it_is_well(house: House) -> None:
    """200 of 200, and not one request leaves."""
    answered = Counter(house.who() for _ in range(200))

    assert answered == {"local": 200}
    assert house.asked() == {"local": 200}


@pytest.mark.parametrize("fault", FAULTS)
def test_when_this_host_fails_the_cloud_answers(house: House, fault: Fault) -> None:
    """Each way a server can fail; and no premium one is asked."""
    house.servers["local"].fault = fault
    house.servers["local"].release.clear()

    assert house.who() == "venice"
    assert house.asked() == {"local": 1, "venice": 1}


def test_a_port_that_nobody_has(house: House, tmp_path: Path) -> None:
    """As after a server was stopped."""
    routing = loopback(SHIPPED.routing, {name: one.base_url for name, one in house.servers.items()})
    gone = verified_server(
        "chat", base_url=f"http://127.0.0.1:{free_port()}/v1", role="llm", runtime="ollama"
    )
    with Gateway(tmp_path / "g", render(ROUTES, (gone,), routing), keys=keys(ROUTES)) as gateway:
        assert House(gateway, house.servers).who() == "venice"


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_not_leave_does_not(house: House, fault: Fault) -> None:
    """A function of this host alone fails with it, and no cloud sees the prompt."""
    house.servers["local"].fault = fault
    house.servers["local"].release.clear()

    assert house.who("secret") == "502"
    assert house.asked() == {"local": 1}


def test_the_last_tier_is_tried_twice(house: House) -> None:
    """And this host once; when all fail, the client is told of each, and premium ones are not asked."""
    for name in ("local", "venice"):
        house.servers[name].fault = "503"
    reply = house.ask()

    assert reply.status_code == httpx.codes.BAD_GATEWAY
    assert "local" in reply.text
    assert "venice" in reply.text
    assert house.asked() == {"local": 1, "venice": 2}


def test_a_function_without_this_host_goes_down_its_clouds(house: House) -> None:
    """The first one's key is wrong; the second answers."""
    assert house.who("away") == "venice"
    house.servers["venice"].fault = "401"

    assert house.who("away") == "groq"
    assert house.asked() == {"venice": 2, "groq": 1}


# --- complex requests ----------------------------------------------------------------------------


def test_premium_answers_what_is_marked_and_nothing_else(house: House) -> None:
    """The mark is the caller's; another namespace is none."""
    assert [house.who(marked=True), house.who()] == ["anthropic", "local"]
    assert house.ask(**{"tensorzero::namespace": "simple"}).json()["model"].endswith("::local")
    assert house.asked() == {"anthropic": 1, "local": 2}


def test_what_is_marked_goes_down_the_tiers_too(house: House) -> None:
    """Premium first, then affordable, then this host."""
    house.servers["anthropic"].fault = "429"
    assert house.who(marked=True) == "venice"
    house.servers["venice"].fault = "500"

    assert house.who(marked=True) == "local"


def test_a_mark_does_not_open_what_may_not_leave(house: House) -> None:
    """The function has no other tiers, marked or not."""
    assert house.who("secret", marked=True) == "local"
    assert house.asked() == {"local": 1}


# --- ways around ---------------------------------------------------------------------------------


def test_a_premium_model_by_its_name_needs_the_mark(house: House) -> None:
    """So does its variant."""
    by_name = house.ask(f"tensorzero::model_name::{CLAUDE.by}")
    pinned = house.ask(**{"tensorzero::variant_name": "anthropic"})

    assert (by_name.status_code, pinned.status_code) == (400, 400)
    assert "namespace" in by_name.text
    assert house.asked() == {}


@pytest.mark.parametrize("model", ["openai::gpt-4o", "openai::gpt-6-sol"])
def test_the_shorthand_finds_no_key(house: House, model: str) -> None:
    """Although the usual variable is set: without our line the request would go to the provider."""
    reply = house.ask(f"tensorzero::model_name::{model}")

    assert reply.status_code == httpx.codes.BAD_GATEWAY
    assert "Dynamic api key `closed` is missing" in reply.text
    assert house.asked() == {}


def test_models_of_this_host_answer_by_their_name(house: House) -> None:
    """As they did before there were functions."""
    reply = house.ask("tensorzero::model_name::chat")

    assert reply.json()["choices"][0]["message"]["content"] == "the answer of local"


# --- on the wire ---------------------------------------------------------------------------------


def test_caps_and_sampling_reach_each_server(house: House) -> None:
    """`max_tokens` for Ollama, the newer name for clouds; no sampling where it would be refused."""
    house.who()
    house.servers["local"].fault = "500"
    house.who()
    house.who(marked=True)
    local, venice, claude = (house.servers[name].requests[0] for name in ("local", "venice", "anthropic"))

    assert (local["max_tokens"], local["temperature"], local["top_p"]) == (64, 0.25, 0.75)
    assert (venice["max_completion_tokens"], venice["temperature"]) == (64, 0.25)
    assert claude["max_completion_tokens"] == 64
    assert {"temperature", "top_p"}.isdisjoint(claude)
    assert claude["model"] == "claude-sonnet-4-6"


def test_each_cloud_gets_its_own_key_and_this_host_none(house: House) -> None:
    """By the names that the environment has."""
    house.who()
    house.who("away")
    house.who(marked=True)

    assert {name: one.keys for name, one in house.servers.items() if one.keys} == {
        "local": [""],
        "venice": ["Bearer key-of-PMOVES_KEY_VENICE"],
        "anthropic": ["Bearer key-of-PMOVES_KEY_ANTHROPIC"],
    }


def test_the_answer_says_what_it_cost(house: House) -> None:
    """This host nothing, a cloud by its price: 1000 tokens in, 100 out."""
    ours, theirs = house.ask(), house.ask("away")

    assert ours.json()["usage"]["tensorzero_cost"] == 0
    assert theirs.json()["usage"]["tensorzero_cost"] == pytest.approx(0.15e-3 + 0.075e-3)


# --- streams -------------------------------------------------------------------------------------


def events(reply: httpx.Response) -> list[dict[str, Any]]:
    """Return the events of a stream, without its last line."""
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("fault", ["500", "hang", "dropped", ""])
def test_a_stream_that_does_not_begin_begins_elsewhere(house: House, fault: Fault) -> None:
    """The client sees one whole stream, of one tier."""
    house.servers["local"].fault = fault
    if fault:
        house.servers["local"].release.clear()
    found = events(house.ask(stream=True))

    assert {one["model"].rpartition("::")[2] for one in found} == {"venice" if fault else "local"}
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in found if one["choices"]) == (
        "firstsecond"
    )


def test_a_stream_that_breaks_off_is_said_and_nobody_else_is_asked(house: House) -> None:
    """What was sent cannot be taken back; the client is told with an event."""
    house.servers["local"].fault = "dies"
    reply = house.ask(stream=True)
    found = events(reply)

    assert reply.status_code == httpx.codes.OK
    assert ["error" in one for one in found].count(True) == 1
    assert all(one["model"].endswith("::local") for one in found if "model" in one)
    assert house.asked() == {"local": 1}


# --- whatever is planned -------------------------------------------------------------------------

base_tiers = st.lists(st.sampled_from([LOCAL, VENICE, GROQ]), unique=True, min_size=1, max_size=3)
premium_tiers = st.lists(st.sampled_from([CLAUDE, GEMINI]), unique=True, max_size=2)


@st.composite
def planned_routes(draw: st.DrawFn) -> tuple[PlannedRoute, ...]:
    """Return a few functions with tiers as a plan has them."""
    names = draw(
        st.lists(st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True), unique=True, min_size=1, max_size=3)
    )
    routes = []
    for name in names:
        base = sorted(draw(base_tiers), key=lambda tier: tier != LOCAL)
        premium = draw(premium_tiers)
        clouds = [tier for tier in base if tier != LOCAL]
        marked = (*premium, *clouds, *(tier for tier in base if tier == LOCAL)) if premium else ()
        routes.append(route(name, *base, marked=marked, max_tokens=draw(st.sampled_from([0, 1, 4096]))))
    return tuple(routes)


@settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(planned_routes())
def test_whatever_is_planned_loads_and_every_tier_can_be_reached(
    house: House, tmp_path_factory: pytest.TempPathFactory, routes: tuple[PlannedRoute, ...]
) -> None:
    """Tier after tier fails, and the next one answers, marked or not."""
    routing = loopback(SHIPPED.routing, {name: one.base_url for name, one in house.servers.items()})
    local = verified_server("chat", base_url=house.servers["local"].base_url, role="llm", runtime="ollama")
    text = render(routes, (local,), routing)
    with Gateway(tmp_path_factory.mktemp("g"), text, keys=keys(routes)) as gateway:
        here = House(gateway, house.servers)
        for one in routes:
            for marked in (False, True):
                tiers = one.complex_tiers or one.tiers if marked else one.tiers
                order = [tier.name for tier in tiers]
                assert answers_in_order(here, one.function, order, marked=marked) == order

    assert set(tomllib.loads(text)["functions"]) == {one.function for one in routes}


def answers_in_order(house: House, function: str, order: list[str], *, marked: bool) -> list[str]:
    """Return who answers while one server after another fails."""
    found = []
    for at in range(len(order)):
        for name, server in house.servers.items():
            server.fault = "500" if name in order[:at] else ""
        found.append(house.who(function, marked=marked))
    return found
