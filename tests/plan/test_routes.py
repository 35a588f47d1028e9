"""Routes: what each function of the gateway is answered by, in which order, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts import (
    Catalogue,
    CloudModel,
    Fallback,
    PlannedModel,
    PlannedRoute,
    Provider,
    Role,
    RouteTier,
    Routing,
    Service,
    Tier,
    Use,
    Wish,
)
from tasks.plan.request import Request
from tasks.plan.routes import routes
from tasks.plan.services import services
from tests.lab.bundles import SHIPPED, decoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

CHAT = decoder("chat", roles=("llm", "vision"), sizes_mib=(4000,))


def provider(name: str, tier: Tier) -> Provider:
    """Return a cloud."""
    return Provider(name=name, title=name, tier=tier, type="openai", key=f"{name.upper()}_KEY")


def model(name: str, *roles: Role) -> CloudModel:
    """Return a cloud's model."""
    return CloudModel(
        name=name,
        model_name=name,
        roles=roles or ("llm",),
        input_usd_per_million=1,
        output_usd_per_million=2,
        priced_on="2026-11-25",
    )


ROUTING = Routing(
    providers=(
        provider("cheap", "affordable"),
        provider("fast", "affordable"),
        provider("dear", "premium"),
        provider("best", "premium"),
    ),
    models=(model("cheap/a"), model("fast/b"), model("dear/c", "llm", "vision"), model("best/d")),
)
ALL = ("cheap", "fast", "dear", "best")
LOCAL = RouteTier("local", "local", "chat")
CHEAP = RouteTier("affordable", "cheap", "cheap/a")
FAST = RouteTier("affordable", "fast", "fast/b")
DEAR = RouteTier("premium", "dear", "dear/c")
BEST = RouteTier("premium", "best", "best/d")


def placed(*also: Role) -> PlannedModel:
    """Return the chat model as the plan places it."""
    return PlannedModel(
        role="llm",
        model="chat",
        runtime="ollama",
        residency="resident",
        device="gpu0",
        port=7990,
        memory_bytes=900,
        memory_measured=False,
        download_bytes=0,
        also=also,
    )


def use(*clouds: str, role: Role = "llm", may_leave: bool = True, function: str | None = "talk") -> Use:
    """Return a need with fallbacks."""
    return Use(
        role=role,
        purpose="answers",
        function=function,
        may_leave=may_leave,
        fallbacks=tuple(Fallback(cloud=one) for one in clouds),
        temperature=0.5,
        top_p=0.9,
        max_tokens=64,
    )


def shelf(*uses: Use) -> Catalogue:
    """Return a catalogue with one service."""
    made = shelf_of((CHAT,), (), services=(Service(name="lab", title="Lab", uses=uses),))
    return replace(made, routing=ROUTING)


@dataclass(frozen=True)
class Asked:
    """What is planned for: the models that are placed, the keys that are set, what may leave."""

    models: tuple[PlannedModel, ...] = (placed(),)
    cloud: tuple[str, ...] = ALL
    may_leave: frozenset[str] | None = None


def routed(*uses: Use, asked: Asked = Asked()) -> tuple[PlannedRoute, ...]:
    """Return the routes of a service."""
    made = shelf(*uses)
    plans = services(made, asked.models, (), asked.cloud, may_leave=asked.may_leave)
    return routes(made, asked.models, plans, asked.cloud, may_leave=asked.may_leave)


def only(*uses: Use, asked: Asked = Asked()) -> PlannedRoute:
    """Return the one route of a service."""
    (found,) = routed(*uses, asked=asked)
    return found


def test_local_first_then_affordable_in_the_order_of_the_fallbacks() -> None:
    """The service's own order decides, not the catalogue's; premium stands apart, and first there."""
    found = only(use("fast/b", "dear/c", "cheap/a", "best/d"))

    assert found.tiers == (LOCAL, FAST, CHEAP)
    assert found.complex_tiers == (DEAR, BEST, FAST, CHEAP, LOCAL)
    assert found.left_out == ()


def test_a_route_has_what_its_use_says() -> None:
    """Names, sampling and the cap."""
    found = only(use("cheap/a"))

    assert (found.function, found.service, found.role, found.purpose) == ("talk", "lab", "llm", "answers")
    assert (found.temperature, found.top_p, found.max_tokens) == (0.5, 0.9, 64)


def test_without_a_premium_cloud_nothing_is_special_about_complex_requests() -> None:
    """They go the way of all others."""
    assert only(use("cheap/a")).complex_tiers == ()


def test_without_a_model_here_the_affordable_clouds_answer() -> None:
    """That there is none is said."""
    found = only(use("cheap/a", "dear/c"), asked=Asked(models=()))

    assert found.tiers == (CHEAP,)
    assert found.complex_tiers == (DEAR, CHEAP)
    assert found.left_out == ("this host has no model for llm",)


def test_premium_alone_answers_nothing() -> None:
    """The gateway does not load a function that only marked requests could use."""
    found = only(use("dear/c"), asked=Asked(models=()))

    assert (found.tiers, found.complex_tiers) == ((), ())
    assert found.left_out == (
        "this host has no model for llm",
        "dear/c answers what is marked as complex, and nobody would answer the rest",
    )


def test_a_key_that_is_missing_is_said() -> None:
    """By the name of its variable, and what it would add."""
    found = only(use("cheap/a", "fast/b", "dear/c"), asked=Asked(cloud=("fast",)))

    assert found.tiers == (LOCAL, FAST)
    assert found.left_out == (
        "cheap/a would take over, but CHEAP_KEY is not set",
        "dear/c would answer what is marked as complex, but DEAR_KEY is not set",
    )


def test_a_need_to_see_gets_no_cloud_that_reads_text_alone() -> None:
    """It would answer about an image that it never saw."""
    found = only(use("cheap/a", "dear/c", role="vision"), asked=Asked(models=(placed("vision"),)))

    assert found.tiers == (LOCAL,)
    assert found.complex_tiers == (DEAR, LOCAL)
    assert found.left_out == ("cheap/a reads no images, so it is left out",)


@pytest.mark.parametrize(
    ("service_says", "operator_says", "leaves"),
    [
        (True, None, True),
        (False, None, False),
        (True, frozenset(), False),
        (False, frozenset(), False),
        (True, frozenset({"talk"}), True),
        (False, frozenset({"talk"}), True),
        (True, frozenset({"other"}), True),
        (False, frozenset({"other"}), False),
    ],
)
def test_a_prompt_leaves_only_where_it_may(
    service_says: bool,  # noqa: FBT001  # a column of the table
    operator_says: frozenset[str] | None,
    leaves: bool,  # noqa: FBT001  # the same
) -> None:
    """The operator may forbid all, or allow more; without a word the service decides."""
    found = only(use("cheap/a", "dear/c", may_leave=service_says), asked=Asked(may_leave=operator_says))

    assert found.tiers == ((LOCAL, CHEAP) if leaves else (LOCAL,))
    assert found.complex_tiers == ((DEAR, CHEAP, LOCAL) if leaves else ())
    assert found.left_out == (
        () if leaves else ("prompts of talk stay in the house, so cheap/a and dear/c are left out",)
    )


def test_a_model_of_another_role_with_the_name_of_a_cloud_is_not_that_cloud() -> None:
    """A server that is not ours may be called anything."""
    named = replace(placed(), role="embeddings", model="cheap/a")

    assert only(use("cheap/a"), asked=Asked(models=(named,))).tiers == (CHEAP,)


def test_a_use_without_a_function_has_no_route() -> None:
    """Embeddings, rerankers and whisper are asked by the name of their model, or where they are."""
    assert routed(use(function=None, role="embeddings"), use()) == (only(use()),)


def test_routes_stand_in_the_order_of_the_services() -> None:
    """One for each use with a function."""
    found = routed(use(function="b"), use(function="a"))

    assert [one.function for one in found] == ["b", "a"]


clouds = st.lists(st.sampled_from(["cheap/a", "fast/b", "dear/c", "best/d"]), unique=True, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    clouds,
    st.sets(st.sampled_from(ALL)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, frozenset(), frozenset({"talk"})]),
)
def test_what_always_holds(
    named: list[str],
    keys: set[str],
    may: bool,  # noqa: FBT001  # drawn
    here: bool,  # noqa: FBT001  # drawn
    operator: frozenset[str] | None,
) -> None:
    """No premium before the mark, local first where there is one, no cloud without a key and a leave.

    And every fallback is either a tier or has a sentence that names it.
    """
    cloud = tuple(sorted(keys))
    asked = Asked((placed(),) if here else (), cloud, operator)
    found = only(use(*named, may_leave=may), asked=asked)
    tiers = (*found.tiers, *found.complex_tiers)
    used = {tier.by for tier in tiers}

    assert all(tier.tier != "premium" for tier in found.tiers)
    assert (found.tiers[:1] == (LOCAL,)) is here
    assert found.complex_tiers == () or found.complex_tiers[0].tier == "premium"
    assert {tier.name for tier in tiers} <= {"local", *keys}
    assert operator != frozenset() or used <= {"chat"}
    assert may or operator or used <= {"chat"}
    assert all(name in used or any(name in line for line in found.left_out) for name in named)
    assert all(name not in used or not any(name in line for line in found.left_out) for name in named)


# --- as it is shipped ----------------------------------------------------------------------------

FUNCTIONS = {
    "agent_zero",
    "archon",
    "archon_forms",
    "chat",
    "deepresearch",
    "hirag",
    "pmoves_yt_summarise",
    "supaserch",
    "supaserch_vision",
}
KEYS = ("venice", "groq", "together", "anthropic", "openai", "gemini")


def shipped(cloud: tuple[str, ...], may_leave: frozenset[str] | None = None) -> dict[str, PlannedRoute]:
    """Return the routes of the shipped services on a host with one model for text and images."""
    made = replace(shelf_of((CHAT,), ()), services=SHIPPED.services, routing=SHIPPED.routing)
    here = (placed("vision"),)
    plans = services(replace(made, models=SHIPPED.models), here, (), cloud, may_leave=may_leave)
    return {one.function: one for one in routes(made, here, plans, cloud, may_leave=may_leave)}


def test_every_service_that_chats_has_a_function() -> None:
    """With every key each of them is answered, by this host first."""
    found = shipped(KEYS)

    assert set(found) == FUNCTIONS
    assert all(one.tiers[0].tier == "local" for one in found.values())


def test_what_reads_documents_stays_in_the_house() -> None:
    """Whatever keys are set, unless the operator says so."""
    found = shipped(KEYS)
    stay = {name for name, one in found.items() if [tier.tier for tier in one.tiers] == ["local"]}

    assert stay == {"hirag", "supaserch", "archon_forms"}
    assert [tier.by for tier in shipped(KEYS, frozenset({"hirag"}))["hirag"].tiers[1:]] == [
        "venice/qwen3-235b"
    ]


def test_the_guides_premium_fallbacks_are_for_complex_requests() -> None:
    """Claude for Agent Zero, Archon, DeepResearch and the chat, as the guide has it."""
    found = shipped(KEYS)

    for name in ("agent_zero", "archon", "deepresearch", "chat"):
        assert found[name].complex_tiers[0].name == "anthropic", name


def test_with_nothing_allowed_no_cloud_is_in_any_route() -> None:
    """`off` is off."""
    tiers = [tier for one in shipped(KEYS, frozenset()).values() for tier in (*one.tiers, *one.complex_tiers)]

    assert {tier.tier for tier in tiers} == {"local"}


def test_a_plan_has_its_routes() -> None:
    """The planner hands on what was asked."""
    wish = Wish(role="llm", models=("chat",), may=())
    made = shelf_of(
        (CHAT,),
        (wish,),
        services=(Service(name="lab", title="Lab", uses=(use("cheap/a", may_leave=False),)),),
    )
    facts = make_host(cards=(device(),))
    request = Request("lab", cloud=ALL, may_leave=frozenset({"talk"}))
    plan = planned_on(facts, replace(made, routing=ROUTING), request)

    assert [one.tiers for one in plan.routes] == [(LOCAL, CHEAP)]


def test_the_price_of_a_cloud_can_be_looked_up() -> None:
    """Every price that is no estimate has an address where it stands."""
    for one in SHIPPED.routing.models:
        assert one.estimate or any(source.startswith("https://") for source in one.sources), one.name


def test_every_cloud_model_is_of_use() -> None:
    """But for the second one that the guide names for Venice, each is a fallback of a service."""
    named = {
        fallback.cloud for one in SHIPPED.services.values() for use in one.uses for fallback in use.fallbacks
    }

    assert {one.name for one in SHIPPED.routing.models} - named == {"venice/llama-3.3-70b"}
