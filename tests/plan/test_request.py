"""Overrides: how they are written, what is refused, and that they are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks import catalogue
from tasks.contracts import Plan, PlannedModel, Service, Use, Wish
from tasks.errors import NoRoomError, UsageError
from tasks.plan.request import Override, Request, parse_overrides
from tests.lab.bundles import decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

SHELF = catalogue.load(catalogue.DEFAULT)
BIG = decoder("big", roles=("llm", "code"), sizes_mib=(4000, 3000))
SMALL = decoder("small", roles=("llm",), sizes_mib=(1500,))
VECTORS = encoder("vectors", role="embeddings", size_mib=600)
LLM = Wish(role="llm", models=("big", "small"), context=16384, min_context=4096)
EMBEDDINGS = Wish(role="embeddings", models=("vectors",))
BUNDLE = shelf_of((BIG, SMALL, VECTORS), (LLM, EMBEDDINGS))
TWO_CARDS = make_host(cards=(device(index=0), device(index=1)))


def made(*overrides: str) -> Plan:
    """Plan the small bundle on two cards."""
    return planned_on(TWO_CARDS, BUNDLE, Request("lab", overrides=parse_overrides(overrides, BUNDLE)))


def llm(*overrides: str) -> PlannedModel:
    """Return the chat model that is planned."""
    return next(one for one in made(*overrides).models if one.role == "llm")


def test_every_key_is_read() -> None:
    """Target, key and value are kept as they are written."""
    texts = (
        "llm.context=16384",
        "llm.quantisation=q4_k_m",
        "llm.model=qwen2.5-14b-instruct",
        "qwen2.5-32b-instruct.residency=on-demand",
        "vision.device=gpu0+gpu1",
        "llm.memory_bytes=9000000",
    )

    found = parse_overrides(texts, SHELF)

    assert texts == tuple(str(one) for one in found)
    assert Override("qwen2.5-32b-instruct", "residency", "on-demand") == found[3]
    assert found[5].number == 9_000_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("llm", "it is not written target.key=value; nothing was changed; write for example"),
        ("llm.context=", "it is not written target.key=value"),
        ("llm.context = 3", "it is not written target.key=value"),
        ("lm.context=8192", 'there is no role and no model "lm" (did you mean "llm"?)'),
        ("qwen2.5-32b-instrct.context=1", '(did you mean "qwen2.5-32b-instruct"?)'),
        ("llm.contxt=8192", 'there is no key "contxt" (did you mean "context"?)'),
        ("llm.context=0", "its value is not a number of tokens from 256 on"),
        ("llm.context=255", "its value is not a number of tokens from 256 on"),
        ("llm.context=8k", "write for example llm.context=8192"),
        (
            "llm.memory_bytes=lots",
            "its value is not a size; nothing was changed; write for example llm.memory_bytes=21GiB",
        ),
        (f"llm.memory_bytes={1 << 51}", "its value is not a size"),
        ("llm.residency=clod", 'there is no residency "clod"; nothing was changed; take one of resident,'),
        ("llm.device=cuda0", '"cuda0" is not a device; nothing was changed; write cpu, gpu0, gpu1'),
        ("llm.model=qwen3-32", 'there is no model "qwen3-32" (did you mean "qwen3-32b"?)'),
        ("qwen3-8b.model=qwen2.5-7b-instruct", "a model is chosen for a role"),
        ("llm.model=bge-m3", "bge-m3 does not play the role llm"),
        ("llm.quantisation=q9_9", 'no model of it has the variant "q9_9"'),
        ("bge-m3.quantisation=q4_k_m", 'no model of it has the variant "q4_k_m"'),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, says: str) -> None:
    """The refusal repeats what was written and says what is wrong with it."""
    with pytest.raises(UsageError) as refused:
        parse_overrides((text,), SHELF)

    assert f"the override {text!r} cannot be used: " in str(refused.value)
    assert says in str(refused.value)


def test_the_last_override_wins() -> None:
    """Also where one names the role and the other the model."""
    assert llm("llm.context=8192", "big.context=4096").context == 4096
    assert llm("big.context=4096", "llm.context=8192").context == 8192


def test_context_is_taken_as_it_is_written() -> None:
    """It stands neither on the ladder nor above the wished floor."""
    assert llm("llm.context=1000").context == 1000


def test_quantisation_is_taken() -> None:
    """The second variant is planned although the first would fit."""
    assert llm("llm.quantisation=v1").quantisation == "v1"


def test_model_is_taken() -> None:
    """The second model is planned although the first would fit; the role's wish is then that model."""
    plan = made("llm.model=small")

    assert [one.model for one in plan.models] == ["small", "vectors"]
    assert plan.decisions[0].wish == "small"


def test_residency_is_taken() -> None:
    """A role can be sent to the CPU or made to wait although its wish does not say so."""
    assert (llm("llm.residency=cpu").device, llm("llm.residency=cpu").residency) == ("cpu", "cpu")
    assert llm("llm.residency=on-demand").residency == "on-demand"


def test_no_residency_leaves_the_role_out_and_says_who_said_so() -> None:
    """The role is dropped, the plan is not refused, and the decision names the override."""
    plan = made("llm.residency=none")

    assert [one.model for one in plan.models] == ["vectors"]
    assert plan.decisions[0].verdict == "dropped"
    assert "llm.residency=none" in plan.decisions[0].why


def test_no_residency_for_a_model_leaves_the_next_one() -> None:
    """A model that must not be used is passed over; its role is not."""
    assert llm("big.residency=none").model == "small"
    assert llm("small.residency=none").model == "big"


def test_a_device_is_taken() -> None:
    """One card, two cards, in whatever order they are written, or main memory."""
    assert llm("llm.device=gpu1").device == "gpu1"
    assert set(llm("llm.device=gpu0+gpu1").device.split("+")) == {"gpu0", "gpu1"}
    assert set(llm("llm.device=gpu1+gpu0").device.split("+")) == {"gpu0", "gpu1"}


def test_the_device_cpu_needs_no_second_override() -> None:
    """Who names main memory decided that the model runs there."""
    assert llm("llm.device=cpu").residency == "cpu"


def test_memory_is_taken_instead_of_what_is_computed() -> None:
    """The plan counts with the number that was written."""
    one = llm("llm.memory_bytes=7000000000")

    assert one.memory_bytes == 7_000_000_000
    assert "as it was set" in (one.need.basis if one.need else "")


def test_an_override_for_one_role_leaves_the_others() -> None:
    """The embeddings are planned as before."""
    assert made("llm.residency=cpu").models[1] == made().models[1]


def test_what_was_decided_is_not_replaced_in_silence() -> None:
    """An override that does not fit is refused with its own text and both numbers."""
    with pytest.raises(
        NoRoomError, match=r"with llm\.memory_bytes=90000000000, llm cannot be placed: .*83\.8"
    ):
        made("llm.memory_bytes=90000000000")


def test_a_device_that_is_not_here_is_named() -> None:
    """The refusal says which device there is none of, not only that nothing could be done."""
    with pytest.raises(UsageError) as refused:
        made("llm.device=gpu7")

    assert "there is no gpu7 to plan on, only gpu0, gpu1 and cpu" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("code.context=8192", "profile lab has no role code"),
        ("qwen3-8b.context=8192", "does not wish for qwen3-8b"),
        ("embeddings.context=512", "its models have no context that could be set"),
        ("llm.context=65536", "its models take 32768 tokens at most"),
        ("llm.device=gpu0+gpu0", "a model is cut over different cards"),
        ("llm.device=cpu+gpu0", "a model is cut over different cards"),
    ],
)
def test_what_cannot_be_kept_is_refused(text: str, says: str) -> None:
    """Nothing that a person decided is dropped in silence."""
    target, _, rest = text.partition(".")
    key, _, value = rest.partition("=")
    with pytest.raises(UsageError) as refused:
        planned_on(TWO_CARDS, BUNDLE, Request("lab", overrides=(Override(target, key, value),)))

    assert says in str(refused.value)


def test_a_cloud_without_a_key_is_said() -> None:
    """A role that is left to a cloud by hand is not left to nobody."""
    with pytest.raises(NoRoomError, match=r"as llm\.residency=cloud says, and no cloud has a key"):
        made("llm.residency=cloud")


def test_a_cloud_that_may_not_answer_is_said() -> None:
    """A key is there, and no service of the bundle lets its prompts go where it is."""
    with pytest.raises(NoRoomError, match=r"as llm\.residency=cloud says, and none may answer it"):
        planned_on(
            TWO_CARDS,
            BUNDLE,
            Request("lab", cloud=("venice",), overrides=(Override("llm", "residency", "cloud"),)),
        )


def test_a_function_that_is_misspelt_may_not_leave_in_silence() -> None:
    """The name that was probably meant is said."""
    talk = Use(role="llm", purpose="answers", function="talk")
    shelf = replace(BUNDLE, services={"talk": Service(name="talk", title="Talk", uses=(talk,))})

    with pytest.raises(UsageError) as refused:
        planned_on(TWO_CARDS, shelf, Request("lab", may_leave=frozenset({"talk", "tlak"})))

    assert 'names "tlak", and no service has that function (did you mean "talk"?)' in str(refused.value)
