"""Services: which of them the bundle serves, and by what."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tasks.contracts import (
    Catalogue,
    Decision,
    Fallback,
    PlannedModel,
    Role,
    ServedUse,
    Service,
    ServicePlan,
    Use,
)
from tasks.plan.services import services
from tests.lab.bundles import decoder, encoder, shelf_of

CHAT = decoder("chat", roles=("llm", "code"), sizes_mib=(4000,))
SMALL = decoder("small", roles=("llm",), sizes_mib=(900,))
VECTORS = encoder("vectors", role="embeddings", size_mib=600)
WIDE = msgspec.structs.replace(encoder("wide", role="embeddings", size_mib=900), dimensions=1024)
CLOUD = Fallback(cloud="venice/qwen3-235b")
OTHER = Fallback(cloud="groq/gpt-oss-120b")
PREMIUM = Fallback(cloud="anthropic/claude-sonnet-4-6")
NOTE = Fallback(text="it keeps the order that it has")
NOWHERE = Decision("llm", "dropped", "chat", None, "chat needs 9.0 GiB and 2.0 GiB are left")


def placed(
    model: str, role: Role = "llm", *, context: int = 8192, also: tuple[Role, ...] = ()
) -> PlannedModel:
    """Return a model that the plan places."""
    return PlannedModel(
        role=role,
        model=model,
        runtime="ollama",
        residency="resident",
        device="gpu0",
        port=7990,
        memory_bytes=900,
        memory_measured=False,
        download_bytes=0,
        context=context,
        also=also,
    )


def served(
    *uses: Use,
    models: tuple[PlannedModel, ...] = (),
    decisions: tuple[Decision, ...] = (),
    cloud: tuple[str, ...] = (),
) -> ServicePlan:
    """Return what one service gets."""
    shelf: Catalogue = shelf_of(
        (CHAT, SMALL, VECTORS, WIDE), (), services=(Service(name="archon", title="Archon", uses=uses),)
    )
    (found,) = services(shelf, models, decisions, cloud)
    return found


def use(role: Role = "llm", *models: str, context: int | None = None, required: bool = True) -> Use:
    """Return a need of one role."""
    return Use(role=role, purpose="answers", models=models, context=context, required=required)


def falling(*fallbacks: Fallback, required: bool = True, may_leave: bool = True) -> Use:
    """Return a need of a chat model that something takes over."""
    return Use(
        role="llm",
        purpose="answers",
        models=("chat",),
        fallbacks=fallbacks,
        required=required,
        function="answer",
        may_leave=may_leave,
    )


def only(found: ServicePlan) -> ServedUse:
    """Return the one need of a service."""
    (one,) = found.uses
    return one


def test_a_service_gets_the_model_it_is_made_for() -> None:
    """As wished, with nothing to add."""
    found = served(use("llm", "chat"), models=(placed("chat"),))

    use_of = ServedUse("llm", "answers", "chat", as_wished=True, why="")
    assert found == ServicePlan("archon", "Archon", served=True, uses=(use_of,))


def test_a_service_that_names_no_model_takes_any() -> None:
    """Whatever plays the role is as wished."""
    assert only(served(use(), models=(placed("small"),))) == ServedUse(
        "llm", "answers", "small", as_wished=True, why=""
    )


def test_a_model_that_plays_the_role_beside_another_serves_it() -> None:
    """A shared server counts for each of its roles."""
    assert only(served(use("code", "chat"), models=(placed("chat", also=("code",)),))).by == "chat"


def test_another_model_serves_and_is_said() -> None:
    """It is served, but not as wished."""
    one = only(served(use("llm", "chat"), models=(placed("small"),)))

    assert (one.by, one.as_wished) == ("small", False)
    assert one.why == "it is made for chat, and small takes over"


def test_other_dimensions_are_said() -> None:
    """What was stored before must be embedded again, with both numbers; equal dimensions need no word."""
    one = only(served(use("embeddings", "wide"), models=(placed("vectors", "embeddings", context=512),)))
    same = msgspec.structs.replace(WIDE, dimensions=8)
    shelf = shelf_of(
        (same, VECTORS), (), services=(Service(name="a", title="A", uses=(use("embeddings", "wide"),)),)
    )
    (other,) = services(shelf, (placed("vectors", "embeddings"),), (), ())

    assert (
        "with 8 dimensions in place of 1024: what was stored with the other must be embedded again" in one.why
    )
    assert "dimensions" not in other.uses[0].why


@pytest.mark.parametrize(
    ("context", "as_wished"), [(4096, False), (8191, False), (8192, True), (16384, True)]
)
def test_a_short_context_is_said(context: int, as_wished: bool) -> None:  # noqa: FBT001  # a column of the table
    """With both numbers; the service is served all the same."""
    found = served(use("llm", "chat", context=8192), models=(placed("chat", context=context),))

    assert found.served
    assert only(found).as_wished is as_wished
    assert (
        f"it sends up to 8192 tokens and chat takes {context}: cut longer ones" == only(found).why
    ) is not as_wished


def test_nothing_for_a_role_is_not_served_and_why() -> None:
    """The decision's own reason is repeated."""
    found = served(use("llm", "chat"), decisions=(NOWHERE,))

    assert not found.served
    assert only(found) == ServedUse("llm", "answers", "", as_wished=False, why=NOWHERE.why)


def test_a_role_that_the_bundle_does_not_have_is_said() -> None:
    """It was never wished for."""
    assert only(served(use("code"))).why == "the bundle has no role code"


def test_what_is_not_required_may_be_missing() -> None:
    """The service is served without it, and the other need decides."""
    optional = use("code", required=False)

    assert served(optional).served
    assert served(optional, use("llm", "chat"), models=(placed("chat"),)).served
    assert not served(optional, use("llm", "chat")).served


def test_a_cloud_takes_over_when_there_is_a_key() -> None:
    """The first provider that has one; the reason says why it was needed."""
    first = served(falling(CLOUD, OTHER), decisions=(NOWHERE,), cloud=("groq", "venice"))
    second = served(falling(CLOUD, OTHER), decisions=(NOWHERE,), cloud=("groq",))

    assert first.served
    assert (only(first).by, only(second).by) == ("venice/qwen3-235b", "groq/gpt-oss-120b")
    assert not only(first).as_wished
    assert only(first).why == f"{NOWHERE.why}; venice/qwen3-235b takes over"


def test_a_cloud_without_a_key_is_named_and_takes_nothing_over() -> None:
    """So is what the service does without."""
    found = served(falling(NOTE, CLOUD, OTHER), decisions=(NOWHERE,), cloud=("openai",))

    assert not found.served
    assert only(found).why == (
        f"{NOWHERE.why}; it keeps the order that it has;"
        " venice/qwen3-235b would take over, but VENICE_API_KEY is not set;"
        " groq/gpt-oss-120b would take over, but GROQ_API_KEY is not set"
    )


def test_prompts_that_stay_in_the_house_are_taken_over_by_nobody() -> None:
    """A key does not change that."""
    found = served(falling(CLOUD, may_leave=False), decisions=(NOWHERE,), cloud=("venice",))

    assert not found.served
    assert only(found).why == (
        f"{NOWHERE.why}; prompts of answer stay in the house, so venice/qwen3-235b is left out"
    )


def test_a_premium_cloud_alone_does_not_serve_a_service() -> None:
    """It answers what is marked as complex, and the service has more to ask."""
    found = served(falling(PREMIUM), decisions=(NOWHERE,), cloud=("anthropic",))

    assert not found.served
    assert only(found).why == (
        f"{NOWHERE.why}; anthropic/claude-sonnet-4-6 answers only what is marked as complex"
    )


def test_a_placed_model_goes_before_a_cloud() -> None:
    """Local first, whatever has a key."""
    assert only(served(falling(CLOUD), models=(placed("chat"),), cloud=("venice",))).by == "chat"


def test_a_prefix_of_a_provider_is_not_the_provider() -> None:
    """A key for "ven" is none for "venice"."""
    assert not served(falling(CLOUD), cloud=("ven",)).served


def test_services_stand_in_the_order_of_the_catalogue() -> None:
    """One plan for each."""
    shelf = shelf_of((CHAT,), ())
    two = {name: Service(name=name, title=name, uses=(use(),)) for name in ("b", "a")}

    assert [one.service for one in services(replace(shelf, services=two), (), (), ())] == ["b", "a"]
