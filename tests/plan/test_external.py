"""Servers that already run and are not ours: roles that they play, and an Ollama that is used."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tasks.contracts import Plan, RunRecord, RuntimeName, RuntimeOffer, Service, StoreView, Use, Wish
from tasks.errors import RefusedError, UsageError
from tasks.plan.choose import make_plan
from tasks.plan.difference import difference
from tasks.plan.request import External, Request, parse_overrides
from tests.lab.bundles import ALL_OFFERS, decoder, encoder, shelf_of
from tests.lab.hosts import device, make_host

TEI = "ghcr.io/huggingface/text-embeddings-inference"
URL, OLLAMA = "http://127.0.0.1:8000/v1", "http://127.0.0.1:11434"
SHELF = shelf_of(
    (
        decoder("chat", roles=("llm", "code"), sizes_mib=(6000, 3000)),
        decoder("coder", roles=("code",), sizes_mib=(5000,)),
        encoder("vectors", role="embeddings", size_mib=600),
        encoder("order", role="reranker", size_mib=600),
    ),
    (
        Wish(role="llm", models=("chat",), context=8192, parallel=4, may=("wait",)),
        Wish(role="embeddings", models=("vectors",), may=("cpu",)),
        Wish(role="reranker", models=("order",), may=("cpu",)),
        Wish(role="code", models=("coder",), context=8192, may=("wait",)),
    ),
    services=(
        Service(
            name="archon",
            title="Archon",
            uses=(
                Use(role="llm", purpose="answers", models=("chat",)),
                Use(role="embeddings", purpose="search", models=("vectors",)),
            ),
        ),
    ),
)
FACTS = make_host(cards=(device(mib=24576),))
THEIRS = {**ALL_OFFERS, "ollama": RuntimeOffer("ollama", available=True, external=OLLAMA)}


def plan(
    *external: External,
    offers: dict[RuntimeName, RuntimeOffer] | None = None,
    strict: bool = False,
    mib: int = 24576,
    overrides: tuple[str, ...] = (),
) -> Plan:
    """Plan the lab's bundle on one card."""
    request = Request("lab", strict=strict, external=external, overrides=parse_overrides(overrides, SHELF))
    facts = replace(FACTS, accelerators=(device(mib=mib),))
    view = StoreView("/store", {})
    return make_plan(facts, SHELF, offers=offers or ALL_OFFERS, store=view, request=request)


def test_a_role_that_another_server_plays_takes_nothing() -> None:
    """It has its place in the bundle, and neither memory nor a download nor an image."""
    made = plan(External("embeddings", URL, "mine"))
    one = made.models[1]
    server = next(one for one in made.servers if one.name == "external-embeddings")

    assert [one.role for one in made.decisions] == ["llm", "embeddings", "reranker", "code"]
    assert [one.role for one in made.models] == ["llm", "embeddings", "reranker", "code"]
    assert (one.model, one.runtime, one.residency, one.external) == ("mine", "external", "resident", URL)
    assert (one.device, one.devices, one.memory_bytes, one.download_bytes, one.port) == ("", (), 0, 0, 8000)
    assert (server.external, server.image, server.settings, server.devices) == (URL, None, (), ())
    assert (server.memory_bytes, server.device_bytes) == (0, 0)


def test_the_decision_says_who_serves_it() -> None:
    """It was decided by a person, so it is kept, and `strict` has nothing against it."""
    decision = plan(External("embeddings", URL, "mine"), strict=True).decisions[1]

    assert (decision.verdict, decision.wish, decision.model) == ("kept", "mine", "mine")
    assert decision.why.startswith(f"{URL} serves it, as PMOVES_EXTERNAL says")
    assert decision.residency == "resident"


def test_what_it_frees_is_used() -> None:
    """The card has room for the whole chat model once the coder is elsewhere."""
    assert plan(mib=9000).decisions[0].verdict == "changed"
    assert plan(External("code", URL), mib=9000).decisions[0].verdict == "kept"


def test_a_model_without_a_name_is_called_by_its_role() -> None:
    """That is what is asked for."""
    assert plan(External("llm", URL)).models[0].model == "llm"


def test_a_role_that_the_bundle_has_not_stands_last() -> None:
    """It is served all the same."""
    made = plan(External("whisper", URL, "ears"))

    assert (made.decisions[-1].role, made.models[-1].model) == ("whisper", "ears")


def test_what_the_catalogue_knows_of_a_model_is_kept() -> None:
    """The dimensions of its vectors, for the services."""
    known, unknown = plan(External("embeddings", URL, "vectors")), plan(External("embeddings", URL, "mine"))

    assert known.models[1].dimensions == 8
    assert known.services[0].uses[1].as_wished
    assert unknown.models[1].dimensions is None
    assert "mine takes over, which is not in the catalogue" in unknown.services[0].uses[1].why
    assert all(one.served for one in (*known.services, *unknown.services))


def test_an_override_of_such_a_role_is_refused() -> None:
    """It would be dropped in silence otherwise."""
    with pytest.raises(UsageError) as caught:
        plan(External("llm", URL), overrides=("llm.context=4096",))

    assert str(caught.value) == (
        f"the override 'llm.context=4096' cannot be kept: {URL} serves llm, as PMOVES_EXTERNAL says; nothing"
        " was changed; leave it out, or take llm out of PMOVES_EXTERNAL."
    )


def test_a_plan_of_such_roles_alone_is_a_plan() -> None:
    """Where nothing else can be served, a refusal still names a role that could not."""
    nothing = {name: RuntimeOffer(name, available=False, reason="no engine") for name in ALL_OFFERS}
    made = plan(External("llm", URL), offers=nothing)

    assert [one.role for one in made.models] == ["llm"]
    with pytest.raises(RefusedError):
        plan(offers=nothing)


def test_the_difference_leaves_it_alone() -> None:
    """It is neither fetched nor started nor stopped; its route is ours."""
    made = plan(External("llm", URL, "mine"))
    last = RunRecord("r", "1", "h", "t", 1, "changed", "", "f", "lab", plan=made)
    first = {one.resource: one.kind for one in difference(made, None)}
    gone = [one.resource for one in difference(plan(External("reranker", URL)), last) if one.kind == "remove"]

    assert first["server external-llm"] == "keep"
    assert "weights mine" not in first
    assert first["route llm"] == "create"
    assert "server external-llm" not in gone


# --- an Ollama that already runs -----------------------------------------------------------------


def test_all_models_of_an_ollama_that_runs_are_on_its_one_server() -> None:
    """Those that stay and those that take turns; nothing is claimed that cannot be set."""
    made = plan(offers=THEIRS, mib=9000)
    mine = [one for one in made.models if one.runtime == "ollama"]
    (server,) = [one for one in made.servers if one.runtime == "ollama"]

    assert {one.residency for one in mine} == {"on-demand"}
    assert (server.name, server.external, server.port) == ("ollama-external", OLLAMA, 11434)
    assert (server.image, server.settings, server.memory_bytes) == (None, (), 0)
    assert server.models == tuple(one.model for one in mine)
    assert server.device_bytes == max(one.memory_bytes for one in mine)
    assert {one.external for one in mine} == {OLLAMA}


def test_an_ollama_that_runs_is_told_the_context_alone() -> None:
    """Its KV type is taken to be f16, and it answers one request at a time."""
    one = plan(offers=THEIRS).models[0]

    assert one.settings == (("num_ctx", "8192"),)
    assert (one.kv_type, one.parallel) == ("f16", 1)
    assert plan().models[0].parallel == 4


def test_the_ports_of_our_servers_do_not_count_it() -> None:
    """They begin at the first."""
    made = plan(offers=THEIRS)

    assert sorted(one.port for one in made.servers if not one.external) == [7990, 7991]


@pytest.mark.parametrize(
    ("made", "begins"),
    [
        (plan(offers=THEIRS), f"Ollama at {OLLAMA} is not ours: it is used and verified, and never started"),
        (plan(External("llm", URL)), f"The server at {URL} is not ours: it is used and verified"),
    ],
    ids=["ollama", "server"],
)
def test_the_plan_says_that_it_is_not_ours(made: Plan, begins: str) -> None:
    """In one sentence, once for each server."""
    assert [line.startswith(begins) for line in made.warnings] == [True]
    assert plan().warnings == ()


def test_it_is_used_where_no_image_would_be() -> None:
    """What its card can do is its owner's to know."""
    facts = replace(FACTS, accelerators=(device("apple"),))
    request, view = Request("lab"), StoreView("/store", {})
    made = make_plan(facts, SHELF, offers=THEIRS, store=view, request=request)

    assert {one.device for one in made.models if one.runtime == "ollama"} == {"gpu0"}


def test_its_kv_type_is_not_turned_to_make_room() -> None:
    """Ours would take q8_0 where f16 does not fit; the other gets a shorter context instead."""
    sizes = range(3650, 4000, 10)
    ours = {one.kv_type for mib in sizes for one in plan(mib=mib).models if one.runtime == "ollama"}
    theirs = {
        one.kv_type for mib in sizes for one in plan(offers=THEIRS, mib=mib).models if one.runtime == "ollama"
    }

    assert ours == {"f16", "q8_0"}
    assert theirs == {"f16"}


def test_two_roles_with_one_model_stay_on_its_one_server() -> None:
    """A server of ours that has a model already gets a second one beside it; theirs cannot."""
    shelf = shelf_of(
        (decoder("chat", roles=("llm", "code"), sizes_mib=(3000,)),),
        (
            Wish(role="llm", models=("chat",), context=8192, may=()),
            Wish(role="code", models=("chat",), context=4096, may=()),
        ),
    )
    request, view = Request("lab"), StoreView("/store", {})
    theirs = make_plan(FACTS, shelf, offers=THEIRS, store=view, request=request)
    ours = make_plan(FACTS, shelf, offers=ALL_OFFERS, store=view, request=request)

    assert [one.name for one in theirs.servers] == ["ollama-external"]
    assert len(ours.servers) == 2


def test_another_image_is_another_server() -> None:
    """As after a release that names a new one."""
    made = plan()
    older = tuple(
        replace(one, image=msgspec.structs.replace(one.image, tag="0.1") if one.image else None)
        for one in made.servers
    )
    last = RunRecord("r", "1", "h", "t", 1, "changed", "", "f", "lab", plan=replace(made, servers=older))
    found = {one.resource: one for one in difference(made, last)}
    tei = found["server model-vectors"]

    assert tei.kind == "replace"
    assert tei.reason == f"image {TEI}:0.1 → {TEI}:86-1.9.3"
