"""Explaining: every step that was taken or refused, with both numbers."""

from __future__ import annotations

import msgspec
import pytest

from tasks import catalogue
from tasks.contracts import Decision, Fallback, HostFacts, Plan, Role, Service, Use, Wish
from tasks.plan.request import Request
from tasks.plan.rungs import both
from tests.lab.bundles import decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

MIB = 1 << 20
GIB = 1 << 30
SHELF = catalogue.load(catalogue.DEFAULT)
BIG = decoder("big", roles=("llm",), sizes_mib=(9000, 7000), heads=32)
SMALL = decoder("small", roles=("llm", "code"), sizes_mib=(3000,))
VECTORS = encoder("vectors", role="embeddings", size_mib=600)
WISHES = (
    Wish(role="llm", models=("big", "small"), context=32768, min_context=4096),
    Wish(role="embeddings", models=("vectors",), may=("cpu",)),
)


def on(mib: int, *, memory_gib: float = 64) -> Plan:
    """Plan two roles on one card."""
    facts = make_host(memory_gib=memory_gib, cards=(device(mib=mib),))
    return planned_on(facts, shelf_of((BIG, SMALL, VECTORS), WISHES))


def of(plan: Plan, role: Role) -> Decision:
    """Return one role's decision."""
    return next(one for one in plan.decisions if one.role == role)


@pytest.mark.parametrize("mib", [4200, 5200, 6000, 8000, 8600, 9200, 10000, 10400, 10800])
def test_every_refused_step_has_two_numbers_and_does_not_fit(mib: int) -> None:
    """The step is refused because what it needs is more than what is left, and says both."""
    decision = of(on(mib), "llm")

    *refused, taken = decision.steps
    assert taken.taken
    assert "taken" in taken.text
    assert refused
    for step in refused:
        assert not step.taken
        assert step.text.endswith(": does not fit")
        assert step.needs_bytes is not None
        assert step.left_bytes is not None
        assert step.needs_bytes > step.left_bytes
        assert step.text.count("iB") == 2 or "nothing is left" in step.text


def test_steps_go_down_the_ladder_in_its_order() -> None:
    """Place, then quantisation, then context and KV type; the taken one is the last."""
    texts = [step.text for step in of(on(8200), "llm").steps]

    assert texts[0].startswith("big v0 resident on gpu0 needs at least ")
    assert "with 4096 tokens of q8_0 KV" in texts[0]
    assert texts[1].startswith("32768 tokens of f16 KV need ")
    assert texts[2].startswith("32768 tokens of q8_0 KV need ")
    assert texts[3].startswith("24576 tokens of f16 KV need ")
    assert texts[-1].startswith("big v1 resident on gpu0 takes ")


def test_the_next_model_s_steps_follow_those_of_the_first() -> None:
    """The first model is refused at the foot of its ladder."""
    decision = of(on(5200), "llm")

    assert decision.model == "small"
    assert decision.verdict == "changed"
    assert decision.steps[0].text.startswith("big resident on gpu0 needs at least 7.")
    assert "big resident on gpu0 needs at least 7." in decision.why


def test_a_role_that_gets_its_wish_has_one_step() -> None:
    """Nothing was refused, so nothing is told of it."""
    decision = of(on(24000), "llm")

    assert decision.verdict == "kept"
    assert [step.taken for step in decision.steps] == [True]
    assert decision.why.startswith("big v0 resident on gpu0 takes ")


def test_a_role_that_nobody_serves_says_what_it_lacks() -> None:
    """The last step says that nobody does."""
    decision = of(on(2000, memory_gib=4), "llm")

    assert (decision.verdict, decision.model, decision.residency) == ("dropped", None, "none")
    assert decision.steps[-1].text == "nobody serves it"
    assert "small resident on gpu0 needs at least " in decision.why


TALK = Service(
    name="talk",
    title="Talk",
    uses=(
        Use(
            role="llm",
            purpose="answers",
            function="talk",
            may_leave=True,
            fallbacks=(Fallback(cloud="venice/qwen3-235b"), Fallback(cloud="anthropic/claude-sonnet-4-6")),
        ),
    ),
)


@pytest.mark.parametrize(
    ("cloud", "may_leave", "residency"),
    [
        (("venice", "groq"), None, "cloud"),
        (("venice", "groq"), frozenset(), "none"),
        (("groq",), None, "none"),
        (("anthropic",), None, "none"),
    ],
    ids=["named", "nothing-leaves", "no-key-of-one-that-is-named", "premium-alone"],
)
def test_a_role_is_left_to_a_cloud_that_answers_for_it(
    cloud: tuple[str, ...], may_leave: frozenset[str] | None, residency: str
) -> None:
    """Its verdict is that it changed, and the cloud is named; a key alone is no cloud that answers."""
    wish = Wish(role="llm", models=("big",), context=32768, min_context=4096, may=("cloud",))
    bundle = shelf_of((BIG, VECTORS), (wish, WISHES[1]), services=(TALK,))
    facts = make_host(cards=(device(mib=2000),))

    decision = of(planned_on(facts, bundle, Request("lab", cloud=cloud, may_leave=may_leave)), "llm")

    assert decision.residency == residency
    assert decision.verdict == ("changed" if residency == "cloud" else "dropped")
    assert (decision.steps[-1].text == "left to a cloud (venice): taken") is (residency == "cloud")


def test_a_shared_server_needs_nothing_more() -> None:
    """The sharing role names the role whose server it is."""
    code = Wish(role="code", models=("small",), context=8192, min_context=2048, may=("share",))
    llm = Wish(role="llm", models=("small",), context=8192, min_context=2048)
    plan = planned_on(make_host(cards=(device(mib=5000),)), shelf_of((SMALL,), (llm, code)))

    decision = of(plan, "code")

    assert decision.verdict == "kept"
    assert decision.steps[-1].text == (
        "small v0, the server that plays llm, with 8192 tokens: taken, it needs nothing more"
    )
    assert plan.models[0].also == ("code",)


def _in_turns() -> tuple[Wish, ...]:
    """Return two wishes that may wait for each other and for nothing else."""
    return (
        Wish(role="llm", models=("big",), context=8192, min_context=8192, kv_types=("q8_0",), may=("wait",)),
        Wish(
            role="code", models=("small",), context=8192, min_context=8192, kv_types=("q8_0",), may=("wait",)
        ),
    )


def test_roles_that_take_turns_name_each_other() -> None:
    """In the one sentence of the decision."""
    plan = planned_on(make_host(cards=(device(mib=11000),)), shelf_of((BIG, SMALL), _in_turns()))

    assert of(plan, "llm").why.endswith(", in turns with code")
    assert of(plan, "code").why.endswith(", in turns with llm")


@pytest.mark.parametrize("profile", sorted(SHELF.profiles))
@pytest.mark.parametrize(
    "facts",
    [
        make_host(memory_gib=32),
        make_host(memory_gib=256),
        make_host(cards=(device(),)),
        make_host(cards=(device(mib=143000, capability="9.0"),), memory_gib=512),
        make_host(cards=(device(index=0), device(index=1))),
    ],
    ids=["cpu", "large-cpu", "card", "large-card", "two-cards"],
)
def test_a_kept_role_has_no_refused_step(facts: HostFacts, profile: str) -> None:
    """What was wished was taken: a place that is worse is no step on the way there."""
    plan = planned_on(facts, SHELF, Request(profile, accept_risk=True))

    kept = [one for one in plan.decisions if one.verdict == "kept" and one.steps]
    assert [(one.role, step.text) for one in kept for step in one.steps if not step.taken] == []


def test_taking_turns_on_a_cpu_comes_after_being_resident_there() -> None:
    """Where two cannot stay in main memory together, that is what the steps say."""
    models = (decoder("big", roles=("llm",), sizes_mib=(4000,)), SMALL)
    plan = planned_on(make_host(memory_gib=6), shelf_of(models, _in_turns()))

    decision = of(plan, "llm")
    assert decision.residency == "on-demand"
    assert decision.steps[0].text.startswith("big on the CPU needs at least ")
    assert decision.steps[0].text.endswith(": does not fit")


def test_a_32b_model_on_24_gb_says_why_its_cache_is_smaller() -> None:
    """The shipped catalogue on one card: what 32,768 tokens need, in f16 and in q8_0."""
    facts = make_host(cards=(device(mib=24564),))
    plan = planned_on(facts, SHELF, Request("rtx-3090-ti"))

    decision = of(plan, "llm")
    texts = [step.text for step in decision.steps if not step.taken]
    model = next(one for one in plan.models if one.role == "llm")

    assert any(text.startswith("32768 tokens of f16 KV need 8.0 GiB and ") for text in texts)
    assert any(text.startswith("32768 tokens of q8_0 KV need 4.2 GiB and ") for text in texts)
    assert all(text.endswith(": does not fit") for text in texts)
    assert decision.verdict == "changed"
    assert model.model == "qwen2.5-32b-instruct"
    assert 0 < model.context < 32768


@pytest.mark.parametrize(
    ("needs", "left", "want"),
    [
        (8 * GIB, 4 * GIB, ("8.0 GiB", "4.0 GiB are")),
        (8 * GIB, 8 * GIB - 10 * MIB, ("8192 MiB", "8182 MiB are")),
        (8 * GIB, 0, ("8.0 GiB", "nothing is")),
        (8 * GIB, -GIB, ("8.0 GiB", "nothing is")),
        (8 * GIB, 8 * GIB, ("8.0 GiB", "8.0 GiB are")),
    ],
)
def test_numbers_that_would_print_equal_are_printed_in_mib(
    needs: int, left: int, want: tuple[str, str]
) -> None:
    """A person sees that they differ."""
    assert want == both(needs, left)


@pytest.mark.parametrize("less", [1, 1000, 400_000, MIB - 1])
def test_numbers_that_differ_by_less_than_a_mib_still_print_apart(less: int) -> None:
    """That 8192 MiB do not fit into 8192 MiB would be no reason."""
    needs, left = both(8 * GIB, 8 * GIB - less)

    assert needs != left.removesuffix(" are")


def test_a_model_that_takes_fewer_tokens_than_are_wished_is_changed() -> None:
    """Nothing is wrong with memory, so the step has no numbers of it; the reason says both lengths."""
    short = msgspec.structs.replace(SMALL, context=4096)
    wish = Wish(role="llm", models=("small",), context=32768, min_context=2048)

    decision = of(planned_on(make_host(cards=(device(),)), shelf_of((short,), (wish,))), "llm")

    assert decision.verdict == "changed"
    assert decision.steps[0].text == "small takes 4096 tokens at most, and 32768 are wished"
    assert decision.why.startswith("small takes 4096 tokens at most, and 32768 are wished; small v0 ")


def test_a_model_that_is_too_short_for_the_wish_is_no_candidate() -> None:
    """Fewer tokens than the fewest that are worth serving: the next model is taken."""
    short = msgspec.structs.replace(SMALL, name="short", context=1024)
    wish = Wish(role="llm", models=("short", "small"), context=4096, min_context=2048)

    decision = of(planned_on(make_host(cards=(device(),)), shelf_of((short, SMALL), (wish,))), "llm")

    assert decision.model == "small"
    assert "1024 tokens" in decision.steps[0].text


def test_a_cache_that_would_fit_alone_says_what_keeps_it_back() -> None:
    """One Ollama server has one KV type, so who takes turns with a large model has its type."""
    wishes = (
        Wish(role="llm", models=("big",), context=32768, min_context=32768, may=("wait",)),
        Wish(role="code", models=("small",), context=8192, min_context=8192, may=("wait",)),
    )
    plan = planned_on(make_host(cards=(device(mib=10600),)), shelf_of((BIG, SMALL), wishes))

    decision = of(plan, "code")

    assert {one.kv_type for one in plan.models} == {"q8_0"}
    assert (
        "left for them: it would fit, but it shares a server with llm, and a server has one KV type;"
        in decision.why
    )
