"""What a plan for a host that is not here takes for granted, and what decides which servers are ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.planning import ANSWERING, OWN_APP, answering, clouds, planned, simulated
from flows.settings import Settings, load
from flows.wants import Wants
from tasks.contracts import Fallback, HostFacts, Plan, Reach, Service, Use, Wish
from tasks.detect.example import from_example
from tasks.plan.request import Request
from tests.lab.bundles import SHIPPED, decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

KEYS = ("venice", "groq")
OLLAMA = "http://127.0.0.1:11434"
WISHES = (
    Wish(role="llm", models=("chat",), context=4096, may=("cloud",)),
    Wish(role="embeddings", models=("vectors",), may=("cpu",)),
    Wish(role="reranker", models=("order",), may=("cpu",)),
)
SHELF = shelf_of(
    (
        decoder("chat", roles=("llm",), sizes_mib=(4000,)),
        encoder("vectors", role="embeddings", size_mib=600, runtime="embedded"),
        encoder("order", role="reranker", size_mib=600),
    ),
    WISHES,
    services=(
        Service(
            name="chat",
            title="Chat",
            uses=(
                Use(
                    role="llm",
                    purpose="answers",
                    function="chat",
                    may_leave=True,
                    fallbacks=(Fallback(cloud="venice/qwen3-235b"), Fallback(cloud="groq/gpt-oss-120b")),
                ),
            ),
        ),
    ),
)


def lab_plan(mib: int = 24576, cloud: tuple[str, ...] = ()) -> Plan:
    """Plan a chat model in Ollama, embeddings in this program and a reranker in TEI."""
    return planned_on(make_host(cards=(device(mib=mib),)), SHELF, Request("lab", cloud=cloud))


def settings(folder: Path, *keys: str, **more: str) -> Settings:
    """Return the settings of a machine on which some providers' keys are set."""
    return load({"HOME": str(folder), "PMOVES_HOST": "lab-host", **dict.fromkeys(keys, "secret"), **more})


def host(*, engine: bool, ollama: bool = False) -> HostFacts:
    """Return a host without cards, with or without an engine and an Ollama."""
    detail = "version 0.33.3" if ollama else "nobody listens there"
    return replace(
        make_host(engine=engine), ollama=Reach("Ollama on this host", OLLAMA, answers=ollama, detail=detail)
    )


def runtimes(made: Plan) -> set[str]:
    """Return what serves the models of a plan."""
    return {one.runtime for one in made.models}


@pytest.mark.parametrize(
    ("mib", "cloud", "says"),
    [
        (2000, KEYS, ("the keys that are set here are set there (venice and groq)",)),
        (2000, ("groq", "openai"), ("the keys that are set here are set there (groq)",)),
        (24576, KEYS, ("the keys that are set here are set there (venice and groq)",)),
        (24576, ("openai",), ()),
        (2000, (), ()),
    ],
    ids=["both", "one", "fallback", "of-no-use", "no-key"],
)
def test_keys_are_taken_for_granted_where_a_route_has_a_cloud(
    mib: int, cloud: tuple[str, ...], says: tuple[str, ...]
) -> None:
    """A plan that uses no cloud rests on no key, whichever are set."""
    made = lab_plan(mib, cloud)

    assert (made.decisions[0].residency == "cloud") is (mib < 4000 and bool(says))
    assert clouds(made, Request("lab", cloud=cloud)) == says


def test_a_simulated_plan_lists_what_it_was_told_and_what_it_rests_on(tmp_path: Path) -> None:
    """What was assumed of the host comes first; every runtime that its bundle needs is used."""
    here = settings(tmp_path, "VENICE_API_KEY", "GROQ_API_KEY")
    made = simulated(here, make_host(), Wants("cpu-only"), assumed=("its store is empty",))

    told, key_line = made.assumed
    assert told == "its store is empty"
    assert runtimes(made) >= {"embedded", "ollama", "speaches"}
    assert key_line == "the keys that are set here are set there (venice and groq)"


def test_without_a_key_a_simulated_plan_names_none(tmp_path: Path) -> None:
    """And leaves no role to a cloud."""
    made = simulated(settings(tmp_path), make_host(), Wants("cpu-only"), assumed=())

    assert [one.role for one in made.decisions if one.residency == "cloud"] == []
    assert made.assumed == ()


def test_a_simulated_host_knows_nothing_of_the_servers_of_this_one(tmp_path: Path) -> None:
    """What runs here does not run there."""
    here = settings(tmp_path, PMOVES_EXTERNAL=f"llm={OLLAMA}/v1#mine", PMOVES_OLLAMA="external")
    made = simulated(here, host(engine=True), Wants("cpu-only"), assumed=())

    assert [one.external for one in made.models if one.external] == []
    assert {one.image is not None for one in made.servers if one.runtime == "ollama"} == {True}


def test_an_example_mac_is_served_by_its_own_app(tmp_path: Path) -> None:
    """No container gets Apple's GPU, so Ollama's own app is assumed there, and that is said."""
    facts = from_example(SHIPPED.profiles["apple"], host="apple")
    made = simulated(settings(tmp_path), facts, Wants("apple"), assumed=())
    theirs = {one.external for one in made.models if one.device == "gpu0"}

    assert theirs == {OLLAMA}
    assert OWN_APP in made.assumed


def test_this_host_is_planned_with_containers_where_an_engine_answers(tmp_path: Path) -> None:
    """The whole bundle, with an image for each server but this program's own."""
    made = planned(settings(tmp_path), host(engine=True), Wants("cpu-only"))

    assert runtimes(made) >= {"embedded", "ollama", "speaches"}
    assert all((one.image is None) == (one.runtime == "embedded") for one in made.servers)
    assert made.assumed == ()


def test_without_an_engine_this_program_is_what_there_is(tmp_path: Path) -> None:
    """And the plan says what a container engine would add."""
    made = planned(settings(tmp_path), host(engine=False), Wants("cpu-only"))

    assert runtimes(made) == {"embedded"}
    assert [line.split(" (")[0] for line in made.advice] == ["A container engine is not here"]


def test_without_an_engine_an_ollama_that_runs_is_used(tmp_path: Path) -> None:
    """It serves what Ollama serves; the rest needs containers."""
    made = planned(settings(tmp_path), host(engine=False, ollama=True), Wants("cpu-only"))

    assert runtimes(made) == {"embedded", "ollama"}
    assert {one.external for one in made.servers if one.runtime == "ollama"} == {OLLAMA}
    assert made.warnings[-1].startswith(f"Ollama at {OLLAMA} is not ours:")


def test_an_ollama_that_runs_makes_more_of_a_host_than_the_embedded_profile(tmp_path: Path) -> None:
    """Its hardware chooses the profile, as with an engine; with neither, this program is all there is."""
    with_ollama = planned(settings(tmp_path), host(engine=False, ollama=True), Wants("auto"))
    without = planned(settings(tmp_path), host(engine=False), Wants("auto"))

    assert with_ollama.profile == "cpu-only"
    assert "ollama" in runtimes(with_ollama)
    assert (without.profile, runtimes(without)) == ("embedded", {"embedded"})


@pytest.mark.parametrize(
    ("mode", "external"), [("auto", ""), ("own", ""), ("external", OLLAMA)], ids=["auto", "own", "external"]
)
def test_which_ollama_is_used_beside_an_engine(tmp_path: Path, mode: str, external: str) -> None:
    """Containers, unless the one that runs is asked for."""
    made = planned(settings(tmp_path, PMOVES_OLLAMA=mode), host(engine=True, ollama=True), Wants("cpu-only"))

    assert {one.external for one in made.servers if one.runtime == "ollama"} == {external}


def test_a_role_that_another_server_plays_is_not_placed(tmp_path: Path) -> None:
    """Its place in the bundle stays its own."""
    url = "http://127.0.0.1:8000/v1"
    here = settings(tmp_path, PMOVES_EXTERNAL=f"llm={url}#mine")
    made = planned(here, host(engine=True), Wants("cpu-only"))

    assert made.decisions[0].role == "llm"
    assert (made.models[0].role, made.models[0].model, made.models[0].external) == ("llm", "mine", url)


def test_a_plan_of_this_host_uses_its_keys_where_they_may_be_used(tmp_path: Path) -> None:
    """The gateway routes to clouds; with `PMOVES_CLOUD=off` it does not, and no role is left to one."""
    wants = Wants("cpu-only", accept_risk=True)
    open_to_it = planned(settings(tmp_path, "VENICE_API_KEY"), host(engine=False), wants)
    shut = planned(settings(tmp_path, "VENICE_API_KEY", PMOVES_CLOUD="off"), host(engine=False), wants)
    more = planned(settings(tmp_path, "VENICE_API_KEY"), host(engine=False), wants, everything=True)

    assert [one.role for one in open_to_it.decisions if one.residency == "cloud"] == ["llm", "vision"]
    assert [one.role for one in shut.decisions if one.residency == "cloud"] == []
    assert {tier.tier for route in shut.routes for tier in route.tiers} == set()
    assert [one.role for one in more.decisions if one.residency == "cloud"] == ["vision"]
    assert more.assumed == (ANSWERING,)


def test_answering_changes_nothing_but_who_answers() -> None:
    """How an engine hands out cards stays what it was."""
    facts = host(engine=False)
    there = answering(facts)

    assert (there.container_engine.answers, there.hub.answers, there.ollama_library.answers) == (True,) * 3
    assert there.engine_gpu == facts.engine_gpu
    assert not there.ollama.answers
