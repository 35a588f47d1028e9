"""Every captured host, planned with every profile: what changes in a plan is seen in a file.

    pytest tests/plan/test_golden.py --update-golden     writes the files again

A section a profile: `auto` as it is, the others with their risk accepted, for most do not fit the host.
A line a role: verdict, model, variant, runtime, residency, place, MiB, context and KV type. Under `auto`
then, without any key, a line for each model that functions of the gateway have, and one for those of nobody.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.planning import answering
from tasks import catalogue
from tasks.contracts import HostFacts, Plan, StoreView
from tasks.detect.replay import read_case, replay
from tasks.errors import ProvisionError
from tasks.plan.choose import AUTO, Request, make_plan
from tasks.plan.offers import offers

CASES = Path(__file__).parent.parent / "cases"
HOSTS = sorted((CASES / "hosts").glob("*.json"))
SHELF = catalogue.load(catalogue.DEFAULT)
FEWEST = 60
MIB = 1 << 20


def written(facts: HostFacts, profile: str) -> str:
    """Write one plan, or the sentence with which it is refused."""
    request = Request(profile, accept_risk=profile != AUTO)
    try:
        there = answering(facts)
        plan = make_plan(there, SHELF, offers=offers(there), store=StoreView("/store", {}), request=request)
    except ProvisionError as refusal:
        return f"== {profile}\nrefused: {refusal}\n"
    head = profile if profile == plan.profile else f"{profile}: {plan.profile}"
    return "\n".join([f"== {head}", *lines(plan), *(routed(plan) if profile == AUTO else []), ""])


def lines(plan: Plan) -> list[str]:
    """Return a line a role."""
    placed = {role: one for one in plan.models for role in (one.role, *one.also)}
    found = []
    for one in plan.decisions:
        model = placed.get(one.role)
        if model is None:
            found.append(f"{one.role}: {one.verdict}, {one.residency}")
            continue
        cache = f" {model.context} {model.kv_type}" if model.need and model.need.kv_bytes else ""
        shared = f" with {model.role}" if model.role != one.role else ""
        found.append(
            f"{one.role}: {one.verdict} {model.model} {model.quantisation} {model.runtime} {model.residency}"
            f" {model.device} {model.memory_bytes // MIB} MiB{cache}{shared}"
        )
    return found


def routed(plan: Plan) -> list[str]:
    """Return a line for each model that functions have."""
    by: dict[str, list[str]] = {}
    for one in plan.routes:
        by.setdefault(", ".join(tier.by for tier in one.tiers) or "nobody", []).append(one.function)
    return [f"functions of {model}: {', '.join(sorted(functions))}" for model, functions in by.items()]


@pytest.mark.parametrize("case", HOSTS, ids=lambda path: path.stem)
def test_plans_of_a_captured_host(case: Path, pytestconfig: pytest.Config) -> None:
    """The plans of a host are those in its file."""
    facts = replay(read_case(case), host=case.stem)
    text = "\n".join(written(facts, profile) for profile in (AUTO, *SHELF.profiles))
    golden = CASES / "plans" / f"{case.stem}.txt"
    if pytestconfig.getoption("--update-golden"):
        golden.write_text(text)

    assert golden.read_text() == text


def test_every_host_has_a_file_and_every_file_a_host() -> None:
    """None is left over from a host that went."""
    assert len(HOSTS) >= FEWEST
    assert [path.stem for path in sorted((CASES / "plans").iterdir())] == [path.stem for path in HOSTS]
