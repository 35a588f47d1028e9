"""The text that planned routes and verified servers are rendered to."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasks.contracts import NO_ROUTING, Performance, PlannedRoute, RouteTier, Routing, VerifiedServer
from tasks.errors import RouteError
from tasks.route.config.render import api_base, client_names, key_names, render, served
from tests.lab.bundles import SHIPPED
from tests.lab.tiers import plan_of, servers_of, slower
from tests.lab.verified import verified_server

CASES = sorted((Path(__file__).parents[1] / "cases" / "route" / "rendered").glob("*.json"))
CHAT = verified_server("chat", role="llm", runtime="ollama")
SEES = verified_server("sees", role="vision", runtime="ollama")
LOCAL = RouteTier("local", "local", "chat")
VENICE = RouteTier("affordable", "venice", "venice/qwen3-235b")
GROQ = RouteTier("affordable", "groq", "groq/gpt-oss-120b")
CLAUDE = RouteTier("premium", "anthropic", "anthropic/claude-sonnet-4-6")
CLOUDS = SHIPPED.routing


def inputs(case: Path) -> tuple[tuple[PlannedRoute, ...], tuple[VerifiedServer, ...]]:
    """Read the routes and servers of a case: servers alone, or what a captured host gets with some keys."""
    said = json.loads(case.read_text())
    if isinstance(said, list):
        return (), tuple(verified_server(**row) for row in said)
    may_leave = said.get("may_leave")
    plan = plan_of(
        said["host"],
        said.get("profile", "auto"),
        tuple(said["cloud"]),
        None if may_leave is None else frozenset(may_leave),
    )
    return plan.routes, servers_of(plan)


def route(
    *tiers: RouteTier,
    marked: tuple[RouteTier, ...] = (),
    function: str = "talk",
    max_tokens: int = 0,
    sampling: tuple[float | None, float | None] = (None, None),
) -> PlannedRoute:
    """Return a route of the lab; `sampling` is temperature and top_p."""
    return PlannedRoute(
        function=function,
        service="lab",
        role="llm",
        purpose="answers",
        tiers=tiers,
        complex_tiers=marked,
        temperature=sampling[0],
        top_p=sampling[1],
        max_tokens=max_tokens,
    )


def config(
    *routes: PlannedRoute,
    verified: tuple[VerifiedServer, ...] = (CHAT,),
    routing: Routing = CLOUDS,
    before: str = "",
    skip: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Return what TOML has of a rendered config."""
    return tomllib.loads(render(routes, verified, routing, before=before, skip=skip))


def waits(found: dict[str, Any], model: str = "chat") -> tuple[int, int]:
    """Return the waits of a model's one provider: for an answer, and for the first piece of a stream."""
    (provider,) = found["models"][model]["providers"].values()
    return (
        provider["timeouts"]["non_streaming"]["total_ms"],
        provider["timeouts"]["streaming"]["ttft_ms"],
    )


def measured(**found: float) -> VerifiedServer:
    """Return the chat server with what was measured of it."""
    return replace(CHAT, performance=Performance(**found))  # type: ignore[arg-type]  # context is a whole one


# --- the files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_rendered(case: Path, pytestconfig: pytest.Config) -> None:
    """Each case renders to the bytes of the file beside it."""
    text = render(*inputs(case), CLOUDS)
    golden = case.with_suffix(".toml")
    if pytestconfig.getoption("--update-golden"):
        golden.write_text(text)

    assert golden.read_text() == text


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_second_run_renders_the_same(case: Path) -> None:
    """On a healthy host, where a server is measured a little faster or slower each time."""
    routes, verified = inputs(case)
    text = render(routes, verified, CLOUDS)

    for factor in (0.7, 0.9, 1.1, 1.4):
        again = tuple(slower(one, factor) for one in verified)
        assert render(routes, again, CLOUDS, before=text) == text


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_no_phoning_home(case: Path) -> None:
    """Nothing that is rendered reports usage, keeps requests or stores objects, and no key stands in it."""
    found = tomllib.loads(render(*inputs(case), CLOUDS))
    keys = [
        provider["api_key_location"]
        for table in ("models", "embedding_models")
        for model in found.get(table, {}).values()
        for provider in model["providers"].values()
    ]

    assert found["gateway"]["observability"] == {"enabled": False}
    assert found["gateway"]["disable_pseudonymous_usage_analytics"] is True
    assert "bind_address" not in found["gateway"]
    assert found["object_storage"] == {"type": "disabled"}
    assert all(key == "none" or key.startswith("env::PMOVES_KEY_") for key in keys)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_no_wait_is_longer_than_the_gateways(case: Path) -> None:
    """TensorZero refuses one that is, and a read that is cut short would look like a dead server."""
    found = tomllib.loads(render(*inputs(case), CLOUDS))
    longest = max(
        [wait for name in found.get("models", {}) for wait in waits(found, name)]
        + [
            provider["timeout_ms"]
            for model in found.get("embedding_models", {}).values()
            for provider in model["providers"].values()
        ]
    )

    assert found["gateway"]["global_outbound_http_timeout_ms"] >= longest
    assert found["gateway"]["global_outbound_http_intra_stream_read_timeout_ms"] == longest


def test_order_does_not_matter() -> None:
    """Servers are verified in any order, and routes planned in any; the text is the same."""
    servers = tuple(verified_server(name) for name in ("c", "a", "b"))
    routes = (route(LOCAL, function="b"), route(LOCAL, VENICE, function="a"))

    assert {render((), servers, CLOUDS)} == {render((), order, CLOUDS) for order in permutations(servers)}
    assert render(routes, (CHAT,), CLOUDS) == render(routes[::-1], (CHAT,), CLOUDS)


# --- functions -----------------------------------------------------------------------------------


def test_tiers_are_one_candidate_and_ordered_fallbacks() -> None:
    """A weight would be odds."""
    function = config(route(LOCAL, VENICE, GROQ))["functions"]["talk"]

    assert function["type"] == "chat"
    assert function["experimentation"] == {
        "type": "static",
        "candidate_variants": ["local"],
        "fallback_variants": ["venice", "groq"],
    }
    assert [function["variants"][name]["model"] for name in ("local", "venice", "groq")] == [
        "chat",
        "venice/qwen3-235b",
        "groq/gpt-oss-120b",
    ]


def test_premium_is_only_for_what_is_marked() -> None:
    """In the namespace of the function, and the model itself refuses requests without it."""
    found = config(route(LOCAL, VENICE, marked=(CLAUDE, VENICE, LOCAL)))

    assert found["functions"]["talk"]["experimentation"]["namespaces"] == {
        "complex": {
            "type": "static",
            "candidate_variants": ["anthropic"],
            "fallback_variants": ["venice", "local"],
        }
    }
    assert [name for name, model in found["models"].items() if model.get("namespace")] == [CLAUDE.by]
    assert found["models"][CLAUDE.by]["namespace"] == "complex"


def test_an_answer_is_capped_where_each_server_reads_it() -> None:
    """Ollama reads `max_tokens` in the body; TensorZero writes another name for clouds that have one."""
    variants = config(route(LOCAL, VENICE, max_tokens=99))["functions"]["talk"]["variants"]

    assert variants["local"]["extra_body"] == [{"pointer": "/max_tokens", "value": 99}]
    assert "max_tokens" not in variants["local"]
    assert variants["venice"]["max_tokens"] == 99
    assert "extra_body" not in variants["venice"]


def test_a_cloud_that_wants_a_cap_has_one() -> None:
    """Anthropic's API refuses a request without; the others are left alone."""
    marked = (CLAUDE, VENICE, LOCAL)
    variants = config(route(LOCAL, VENICE, marked=marked))["functions"]["talk"]["variants"]

    assert variants["anthropic"]["max_tokens"] == 4096
    assert "max_tokens" not in variants["venice"]
    assert "extra_body" not in variants["local"]


def test_sampling_is_sent_where_it_is_understood() -> None:
    """A model that refuses temperature gets none, or its tier would fail each time."""
    one = route(LOCAL, VENICE, marked=(CLAUDE, VENICE, LOCAL), sampling=(0.0, 0.9))
    variants = config(one)["functions"]["talk"]["variants"]

    assert [(variants[name]["temperature"], variants[name]["top_p"]) for name in ("local", "venice")] == [
        (0.0, 0.9),
        (0.0, 0.9),
    ]
    assert {"temperature", "top_p"}.isdisjoint(variants["anthropic"])


def test_only_the_last_tier_is_tried_again_and_never_this_host() -> None:
    """A retry delays the next tier; a server of this host that failed fails again."""
    more = config(route(LOCAL, VENICE, GROQ))["functions"]["talk"]["variants"]
    alone = config(route(LOCAL))["functions"]["talk"]["variants"]

    assert [name for name in more if "retries" in more[name]] == ["groq"]
    assert "retries" not in alone["local"]


def test_waits_stand_on_the_provider() -> None:
    """One of the model would bound all of its providers together."""
    found = config(route(LOCAL, VENICE))

    assert all("timeouts" not in model for model in found["models"].values())
    assert all("timeouts" not in one for one in found["functions"]["talk"]["variants"].values())


def test_only_clouds_that_a_route_has_are_in_the_config() -> None:
    """One without a key would stop the whole gateway."""
    assert set(config(route(LOCAL, VENICE))["models"]) == {"chat", VENICE.by}
    assert set(config(route(LOCAL))["models"]) == {"chat"}


def test_a_cloud_has_its_address_its_name_its_key_and_its_price() -> None:
    """The key by a name of our own, that TensorZero does not look for by itself."""
    found = config(route(LOCAL, VENICE, marked=(CLAUDE, VENICE, LOCAL)))["models"]
    venice, claude = found[VENICE.by]["providers"]["venice"], found[CLAUDE.by]["providers"]["anthropic"]

    assert venice["type"] == "openai"
    assert venice["api_base"] == "https://api.venice.ai/api/v1/"
    assert venice["model_name"] == "qwen3-235b-a22b-instruct-2507"
    assert venice["api_key_location"] == "env::PMOVES_KEY_VENICE"
    assert [(one["pointer"], one["cost_per_million"]) for one in venice["cost"]] == [
        ("/usage/prompt_tokens", 0.15),
        ("/usage/completion_tokens", 0.75),
    ]
    assert "api_base" not in claude
    assert [one["pointer"] for one in claude["cost"]] == ["/usage/input_tokens", "/usage/output_tokens"]


def test_this_host_costs_nothing() -> None:
    """And is said to, so that the sum over all tiers is right."""
    found = config(verified=(CHAT, verified_server("emb")))

    for model in (found["models"]["chat"], found["embedding_models"]["emb"]):
        (provider,) = model["providers"].values()
        assert [one["cost_per_million"] for one in provider["cost"]] == [0.0]


def test_the_shorthand_is_closed_for_every_kind_that_is_used() -> None:
    """`openai::gpt-4o`, asked for by name, finds no key; our own servers say that they need none."""
    marked = (CLAUDE, VENICE, LOCAL)
    found = config(route(LOCAL, VENICE, GROQ, marked=marked))

    assert found["provider_types"] == {
        kind: {"defaults": {"api_key_location": "dynamic::closed"}}
        for kind in ("anthropic", "groq", "openai")
    }


# --- what is left out ----------------------------------------------------------------------------


def test_a_tier_without_its_server_is_left_out_and_said() -> None:
    """The next tier is then the first; a function with none is left out, and so are its clouds."""
    routes = (route(LOCAL, VENICE, function="a"), route(LOCAL, function="b"))
    others = (verified_server("emb"),)
    found = config(*routes, verified=others)
    said = served(routes, others, CLOUDS)

    assert found["functions"]["a"]["experimentation"] == {"type": "static", "candidate_variants": ["venice"]}
    assert set(found["functions"]) == {"a"}
    assert [one.tiers for one in said] == [(VENICE,), ()]
    assert [one.left_out for one in said] == [("chat is left out, because no verified server has it",)] * 2
    assert client_names(routes, others) == (
        "tensorzero::function_name::a",
        "tensorzero::embedding_model_name::emb",
    )


def test_premium_alone_is_no_function() -> None:
    """TensorZero does not load one whose base has no candidate."""
    routes = (route(LOCAL, marked=(CLAUDE, LOCAL)),)
    found = config(*routes, verified=(verified_server("emb"),))

    assert "functions" not in found
    assert "models" not in found
    assert served(routes, (), CLOUDS)[0].complex_tiers == ()


def test_a_cloud_that_the_catalogue_no_longer_has_is_left_out() -> None:
    """As when the routes of an earlier run are brought back."""
    old = RouteTier("affordable", "venice", "venice/qwen-2.5-72b-instruct")
    routes = (route(LOCAL, old, marked=(CLAUDE, old, LOCAL)),)
    found = config(*routes)
    (said,) = served(routes, (CHAT,), CLOUDS)

    assert found["functions"]["talk"]["experimentation"]["candidate_variants"] == ["local"]
    assert set(found["models"]) == {"chat", CLAUDE.by}
    assert said.left_out == (
        "venice/qwen-2.5-72b-instruct is left out, because the catalogue does not have it",
    )


def test_a_model_of_another_role_does_not_answer() -> None:
    """The tier is for text, and the server of that model was verified to see alone, unless it plays both."""
    sees = verified_server("chat", role="vision")
    both = replace(sees, server=replace(sees.server, planned=replace(sees.server.planned, also=("llm",))))

    assert "functions" not in config(route(LOCAL), verified=(sees,))
    assert set(config(route(LOCAL), verified=(both,))["functions"]) == {"talk"}


def test_keys_are_those_of_the_clouds_that_routes_have() -> None:
    """Their name in the config, and the variable that the operator sets."""
    routes = (route(LOCAL, VENICE, marked=(CLAUDE, VENICE, LOCAL)),)

    assert key_names(routes, CLOUDS) == {
        "PMOVES_KEY_VENICE": "VENICE_API_KEY",
        "PMOVES_KEY_ANTHROPIC": "ANTHROPIC_API_KEY",
    }
    assert key_names((route(LOCAL),), CLOUDS) == {}


def test_without_its_premium_cloud_a_mark_changes_nothing() -> None:
    """The other tiers would only be tried in another order."""
    gone = RouteTier("premium", "anthropic", "anthropic/claude-sonnet-4-5")
    found = config(route(LOCAL, VENICE, marked=(gone, VENICE, LOCAL)))

    assert "namespaces" not in found["functions"]["talk"]["experimentation"]
    assert set(found["functions"]["talk"]["variants"]) == {"local", "venice"}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_key_of_a_config_has_a_variable(case: Path) -> None:
    """And no variable is asked for that the config does not name."""
    routes, verified = inputs(case)
    text = render(routes, verified, CLOUDS)
    named = {
        provider["api_key_location"].removeprefix("env::")
        for model in tomllib.loads(text).get("models", {}).values()
        for provider in model["providers"].values()
    }

    assert named - {"none"} == set(key_names(served(routes, verified, CLOUDS), CLOUDS))


@pytest.mark.parametrize(
    ("hand", "ours"),
    [
        (frozenset({"gateway"}), {"object_storage", "provider_types"}),
        (frozenset({"object_storage"}), {"gateway", "provider_types"}),
        (frozenset({"provider_types"}), {"gateway", "object_storage"}),
        (frozenset({"models"}), {"gateway", "object_storage"}),
        (frozenset({"functions", "gateway"}), {"object_storage"}),
        (frozenset({"metrics", "tools"}), {"gateway", "object_storage", "provider_types"}),
    ],
)
def test_tables_of_a_hand_written_file_stand_in_the_place_of_ours(
    hand: frozenset[str], ours: set[str]
) -> None:
    """Models and functions have names of their own, so ours stand beside those."""
    assert set(config(route(LOCAL), skip=hand)) == {*ours, "models", "functions"}


# --- waits ---------------------------------------------------------------------------------------

FAST = {"first_token_s": 0.1, "tokens_per_s": 100.0, "prompt_tokens_per_s": 5000.0, "context": 10000}


@pytest.mark.parametrize(
    ("found", "max_tokens", "expected"),
    [
        ({}, 100, (600_000, 600_000)),
        (FAST, 100, (30_000, 30_000)),
        # 0.1 + 10000 / 5000 + 4096 / 100 = 43.1 s; three times that is 129 s
        (FAST, 0, (180_000, 30_000)),
        # 20 + 0.1 + 2 s before the first token: three times 22.1 s
        (FAST | {"load_s": 20.0}, 100, (90_000, 90_000)),
        # 0.1 + 100 s of reading, 10 s of writing
        (FAST | {"prompt_tokens_per_s": 100.0}, 1000, (360_000, 360_000)),
        # how fast it reads was not measured: four times as fast as it writes, 25 s
        (FAST | {"prompt_tokens_per_s": 0.0}, 100, (90_000, 90_000)),
        # nothing is waited for longer than the gateway does
        (FAST | {"tokens_per_s": 1.0}, 5000, (900_000, 30_000)),
    ],
    ids=["unmeasured", "fast", "no-cap", "slow-to-load", "slow-to-read", "reading-unknown", "slow-to-write"],
)
def test_a_wait_is_three_times_what_was_measured_up_to_a_step(
    found: dict[str, float], max_tokens: int, expected: tuple[int, int]
) -> None:
    """For a whole context and the longest answer that a function asks of the server."""
    made = config(route(LOCAL, max_tokens=max_tokens), verified=(measured(**found),))

    assert waits(made) == expected


def test_the_longest_answer_of_all_functions_counts() -> None:
    """They share the server."""
    routes = (route(LOCAL, function="a", max_tokens=10), route(LOCAL, function="b", max_tokens=2000))

    assert waits(config(*routes, verified=(measured(**FAST),)))[0] == 90_000


@pytest.mark.parametrize(
    ("factor", "stays"), [(1.0, True), (0.8, True), (2.1, True), (0.3, False), (2.2, False), (9.0, False)]
)
def test_an_earlier_wait_stays_while_it_will_do(factor: float, stays: bool) -> None:  # noqa: FBT001  # a column
    """While it is twice what is needed, and not more than twice the step that would be taken now."""
    routes = (route(LOCAL, max_tokens=4000),)
    first = measured(**FAST)
    before = render(routes, (first,), CLOUDS)
    again = render(routes, (slower(first, factor),), CLOUDS, before=before)

    assert (again == before) is stays


def test_what_was_not_measured_this_time_is_no_reason_to_change() -> None:
    """A run that keeps its servers measures less of them."""
    routes = (route(LOCAL, max_tokens=4000),)
    before = render(routes, (measured(**FAST),), CLOUDS)

    assert render(routes, (measured(first_token_s=0.1, tokens_per_s=100.0),), CLOUDS, before=before) == before
    assert render(routes, (CHAT,), CLOUDS, before=before) == before


def test_what_is_only_guessed_this_time_is_no_reason_to_wait_less() -> None:
    """It was measured to read slowly; how fast it reads now is not known."""
    routes = (route(LOCAL, max_tokens=10),)
    before = render(routes, (measured(**FAST | {"prompt_tokens_per_s": 50.0}),), CLOUDS)
    again = render(routes, (measured(**FAST | {"prompt_tokens_per_s": 0.0}),), CLOUDS, before=before)

    assert waits(tomllib.loads(before)) == (900_000, 900_000)
    assert again == before


def test_an_answer_is_never_waited_for_less_than_its_first_word() -> None:
    """Also where the one wait is an earlier one and the other is new."""
    routes = (route(LOCAL, max_tokens=1000),)
    before = render(routes, (measured(first_token_s=20.0, tokens_per_s=50.0),), CLOUDS)
    again = config(*routes, verified=(measured(first_token_s=41.0, tokens_per_s=1000.0),), before=before)

    assert waits(tomllib.loads(before)) == (120_000, 60_000)
    assert waits(again) == (180_000, 180_000)


def test_an_answer_is_no_longer_than_the_context() -> None:
    """A cap above it caps nothing."""
    small = measured(**FAST)
    planned = replace(small.server.planned, context=100)
    small = replace(small, server=replace(small.server, planned=planned))

    assert waits(config(route(LOCAL, max_tokens=9000), verified=(small,)))[0] == 30_000


@pytest.mark.parametrize("before", ["", "[", "models = 3", '[models.chat.providers]\nollama = "x"', "a = 1"])
def test_an_earlier_text_that_says_nothing_is_passed_over(before: str) -> None:
    """One that is not ours, or is damaged."""
    assert render((route(LOCAL),), (CHAT,), CLOUDS, before=before) == render((route(LOCAL),), (CHAT,), CLOUDS)


@pytest.mark.parametrize(
    ("texts_per_s", "expected"), [(100.0, 120_000), (5.0, 180_000), (0.5, 900_000), (0.0, 120_000)]
)
def test_embeddings_are_waited_for_as_long_as_a_batch_takes(texts_per_s: float, expected: int) -> None:
    """Two minutes at least."""
    one = replace(verified_server("emb"), texts_per_s=texts_per_s)
    (provider,) = config(verified=(one,))["embedding_models"]["emb"]["providers"].values()

    assert provider["timeout_ms"] == expected


# --- names ---------------------------------------------------------------------------------------


def test_names() -> None:
    """Clients send the kind of thing before its name, as TensorZero wants it."""
    names = client_names((route(LOCAL),), (CHAT, verified_server("b"), verified_server("a")))

    assert names == (
        "tensorzero::function_name::talk",
        "tensorzero::embedding_model_name::a",
        "tensorzero::embedding_model_name::b",
        "tensorzero::model_name::chat",
    )


@pytest.mark.parametrize("given", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_api_base(given: str) -> None:
    """However a server gives its address, the gateway gets one that ends in `/v1/`."""
    assert api_base(given) == "http://h:1/v1/"


def test_roles_that_the_gateway_has_no_api_for() -> None:
    """Rerankers and whisper are asked where they are; they are no reason to refuse the rest."""
    alone = (verified_server("a"),)
    more = (verified_server("b", role="reranker"), *alone, verified_server("c", role="whisper"))

    assert render((), alone, CLOUDS) == render((), more, CLOUDS)
    assert client_names((), alone) == client_names((), more)


def test_one_model_on_two_servers() -> None:
    """A model that two roles have on servers of their own has both names, and functions find theirs."""
    both = (verified_server("chat", role="llm"), verified_server("chat", role="code"))
    found = config(route(LOCAL), verified=both)

    assert client_names((), both) == ("tensorzero::model_name::chat-code", "tensorzero::model_name::chat-llm")
    assert found["functions"]["talk"]["variants"]["local"]["model"] == "chat-llm"


def test_the_gateway_asks_by_the_servers_own_name() -> None:
    """Ollama knows a model by another name than the catalogue."""
    known = replace(CHAT, server=replace(CHAT.server, model_id="pmoves/qwen:q4_0-8192"))

    assert (
        "pmoves/qwen:q4_0-8192"
        == config(verified=(known,))["models"]["chat"]["providers"]["ollama"]["model_name"]
    )


# --- what is refused -----------------------------------------------------------------------------


def test_same_model_twice() -> None:
    """Two servers of one model cannot share its name."""
    with pytest.raises(RouteError, match="2 servers of embeddings have the model all-minilm-l6-v2"):
        render((), (verified_server(), verified_server()), CLOUDS)


def test_a_server_with_the_name_of_a_cloud() -> None:
    """One that is not ours may be called anything."""
    named = verified_server(VENICE.by, role="llm")

    with pytest.raises(
        RouteError, match="venice/qwen3-235b is the name of a cloud's model and of a server's"
    ):
        render((route(LOCAL, VENICE),), (CHAT, named), CLOUDS)


@pytest.mark.parametrize("verified", [(), (verified_server("b", role="reranker"),)], ids=["none", "outside"])
def test_nothing_to_serve(verified: tuple[VerifiedServer, ...]) -> None:
    """A gateway without any model and any function is refused, not rendered."""
    with pytest.raises(RouteError, match="no verified model server to route to"):
        render((route(LOCAL),), verified, CLOUDS)


def test_clouds_alone_are_something_to_serve() -> None:
    """On a host where nothing fits, the functions that may leave are still answered."""
    found = config(route(VENICE), verified=())

    assert set(found["models"]) == {VENICE.by}
    assert set(found["functions"]) == {"talk"}


def test_without_clouds_a_route_is_this_hosts_alone() -> None:
    """As with no catalogue of clouds at all."""
    none = msgspec.structs.replace(NO_ROUTING)

    assert set(config(route(LOCAL, VENICE), routing=none)["models"]) == {"chat"}
