"""What a plan for a host that is not here takes for granted: runtimes that are not started yet, and keys."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.planning import ANSWERING, clouds, later, planned, simulated
from flows.settings import Settings, load
from flows.wants import Wants
from tasks.contracts import Plan, RuntimeName, Wish
from tasks.plan.request import Request
from tasks.serve import runtimes
from tests.lab.bundles import decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

KEYS = ("venice", "groq")
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
)


def lab_plan(mib: int = 24576, cloud: tuple[str, ...] = ()) -> Plan:
    """Plan a chat model in Ollama, embeddings in this program and a reranker in TEI."""
    return planned_on(make_host(cards=(device(mib=mib),)), SHELF, Request("lab", cloud=cloud))


def settings(folder: Path, *keys: str) -> Settings:
    """Return the settings of a machine on which some providers' keys are set."""
    return load({"HOME": str(folder), "PMOVES_HOST": "lab-host", **dict.fromkeys(keys, "secret")})


@pytest.mark.parametrize(
    ("started", "says"),
    [
        ((), ("a later version starts embedded, ollama and tei; this one does not yet",)),
        (("embedded",), ("a later version starts ollama and tei; this one does not yet",)),
        (("ollama", "embedded", "vllm"), ("a later version starts tei; this one does not yet",)),
        (("embedded", "ollama", "tei"), ()),
    ],
)
def test_runtimes_that_this_version_starts_are_not_left_to_a_later_one(
    monkeypatch: pytest.MonkeyPatch, started: tuple[RuntimeName, ...], says: tuple[str, ...]
) -> None:
    """Each of the others is named once; where all are started, nothing is said."""
    made = lab_plan()
    monkeypatch.setattr(runtimes, "RUNTIMES", tuple(SimpleNamespace(name=name) for name in started))

    assert [one.runtime for one in made.models] == ["ollama", "embedded", "tei"]
    assert later(made) == says


@pytest.mark.parametrize(
    ("mib", "cloud", "says"),
    [
        (2000, KEYS, ("the keys that are set here are set there (venice and groq)",)),
        (2000, ("groq",), ("the keys that are set here are set there (groq)",)),
        (24576, KEYS, ()),
        (2000, (), ()),
    ],
    ids=["both", "one", "fits", "no-key"],
)
def test_keys_are_taken_for_granted_where_a_role_is_left_to_a_cloud(
    mib: int, cloud: tuple[str, ...], says: tuple[str, ...]
) -> None:
    """A plan that uses no cloud rests on no key, whichever are set."""
    made = lab_plan(mib, cloud)

    assert (made.decisions[0].residency == "cloud") is bool(says)
    assert clouds(made, Request("lab", cloud=cloud)) == says


def test_a_simulated_plan_lists_what_it_was_told_and_what_it_rests_on(tmp_path: Path) -> None:
    """What was assumed of the host comes first; the runtime that this version has is not among the rest."""
    here = settings(tmp_path, "VENICE_API_KEY", "GROQ_API_KEY")
    made = simulated(here, make_host(), Wants("cpu-only"), assumed=("its store is empty",))
    used = {one.runtime for one in made.models}

    told, runtime_line, key_line = made.assumed
    assert told == "its store is empty"
    assert used > {"embedded"}
    assert all(name in runtime_line for name in used - {"embedded"})
    assert "embedded" not in runtime_line
    assert key_line == "the keys that are set here are set there (venice and groq)"


def test_without_a_key_a_simulated_plan_names_none(tmp_path: Path) -> None:
    """And leaves no role to a cloud."""
    made = simulated(settings(tmp_path), make_host(), Wants("cpu-only"), assumed=())

    assert [one.role for one in made.decisions if one.residency == "cloud"] == []
    assert not any("keys" in line for line in made.assumed)


def test_a_simulated_plan_of_what_is_started_here_assumes_nothing_more(tmp_path: Path) -> None:
    """The embedded profile has one runtime, and this version starts it."""
    here = settings(tmp_path, "VENICE_API_KEY")
    made = simulated(here, make_host(), Wants("embedded"), assumed=("its store is empty",))

    assert made.assumed == ("its store is empty",)


def test_only_a_plan_with_everything_leaves_roles_of_this_host_to_a_cloud(tmp_path: Path) -> None:
    """This version routes to none; the keys of this host are no assumption about it."""
    here = settings(tmp_path, "VENICE_API_KEY")
    facts = make_host(engine=False)
    now = planned(here, facts, Wants("cpu-only", accept_risk=True))
    then = planned(here, facts, Wants("cpu-only", accept_risk=True), everything=True)

    assert [one.role for one in now.decisions if one.residency == "cloud"] == []
    assert now.assumed == ()
    assert [one.role for one in then.decisions if one.residency == "cloud"] == ["vision"]
    assert then.assumed[0] == ANSWERING
    assert not any("keys" in line for line in then.assumed)
