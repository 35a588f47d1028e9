"""What holds for every host and every shipped profile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from shutil import copytree

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tasks import catalogue
from tasks.contracts import (
    Accelerator,
    Catalogue,
    DeviceMemory,
    HostFacts,
    KvType,
    Plan,
    Profile,
    RuntimeName,
    RuntimeOffer,
    StoreView,
    Unknown,
)
from tasks.errors import ProvisionError
from tasks.plan.budget import pools
from tasks.plan.candidates import Maker
from tasks.plan.choose import make_plan
from tasks.plan.fill import Board, Fill
from tasks.plan.loads import Candidate
from tasks.plan.preference import Values, cost
from tasks.plan.request import Request, parse_overrides
from tasks.plan.search import solve
from tests.lab.bundles import ALL_OFFERS, planned_on
from tests.lab.hosts import device, main_memory, make_host, shared_device

MIB = 1 << 20
SHELF = catalogue.load(catalogue.DEFAULT)
SLOW = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=60,
    phases=(Phase.explicit, Phase.generate),
)
"""The same examples each time, and no search for a smaller one: that would take a minute."""


@dataclass(frozen=True)
class Card:
    """A device of a random host."""

    vendor: str
    mib: int
    used_percent: int
    capability: str
    slice: bool


@dataclass(frozen=True)
class Host:
    """A random host: its sizes, before they become facts."""

    cards: tuple[Card, ...]
    main_mib: int
    free_percent: int
    unified: bool

    def facts(self) -> HostFacts:
        """Return what detection would say of it."""
        memory = main_memory(self.main_mib, self.main_mib * self.free_percent // 100)
        found = tuple(_device(one, at) for at, one in enumerate(self.cards))
        if self.unified:
            found = (shared_device("nvidia", memory), *found)
        return replace(make_host(free_gib=4000), memory=memory, accelerators=found)


def _device(one: Card, at: int) -> Accelerator:
    return device(
        one.vendor,  # type: ignore[arg-type]  # a vendor
        one.mib,
        index=at,
        used_mib=one.mib * one.used_percent // 100,
        capability=one.capability,
        slice_of="GPU-nvidia-0" if one.slice and one.vendor == "nvidia" else None,
    )


CARD = st.builds(
    Card,
    vendor=st.sampled_from(["nvidia", "nvidia", "nvidia", "amd", "intel"]),
    mib=st.one_of(
        st.sampled_from([8192, 12288, 16384, 24576, 32768, 49152, 81920]), st.integers(500, 150_000)
    ),
    used_percent=st.sampled_from([0, 0, 5, 40, 100]),
    capability=st.sampled_from(["8.6", "8.6", "6.1", "7.5", "12.0"]),
    slice=st.sampled_from([False, False, False, True]),
)
HOST = st.builds(
    Host,
    cards=st.lists(CARD, max_size=3).map(tuple),
    main_mib=st.one_of(st.sampled_from([8192, 16384, 65536]), st.integers(600, 300_000)),
    free_percent=st.sampled_from([100, 94, 60, 3]),
    unified=st.sampled_from([False, False, True]),
)
PROFILE = st.sampled_from(sorted(SHELF.profiles))
OVERRIDES = (
    "",
    "llm.context=4096",
    "llm.residency=cpu",
    "llm.residency=none",
    "llm.residency=on-demand",
    "embeddings.device=gpu1",
    "llm.device=gpu0+gpu1",
    "llm.memory_bytes=5000000000",
    "llm.model=qwen3-8b",
    "vision.quantisation=q4_k_m",
    "embeddings.context=8192",
    "reranker.residency=on-demand",
)


def plan_of(
    host: Host, profile: str, shelf: Catalogue = SHELF, request: Request | None = None
) -> Plan | None:
    """Plan a host, or return None where it is refused with a sentence of three parts."""
    try:
        return planned_on(host.facts(), shelf, request or Request(profile, accept_risk=True))
    except ProvisionError as refusal:
        _check(refusal)
        return None


def _check(refusal: ProvisionError) -> None:
    """Check that a refusal is one sentence of three parts."""
    parts = (refusal.what, refusal.intact, refusal.then)
    if not all(parts) or str(refusal) != "; ".join(parts) + ".":
        raise AssertionError(f"not a sentence of three parts: {refusal!r}")


@SLOW
@given(host=HOST, profile=PROFILE)
def test_a_plan_never_takes_more_than_there_is(host: Host, profile: str) -> None:
    """On each device: what is used is within the budget, and the parts of the memory are its total."""
    plan = plan_of(host, profile)
    for one in plan.devices if plan else ():
        assert one.used_bytes <= one.budget_bytes, (host, one)
        assert one.reserved_bytes + one.others_bytes + one.margin_bytes + one.budget_bytes == one.total_bytes


@SLOW
@given(cards=st.lists(st.integers(1000, 26_000), min_size=2, max_size=3), profile=PROFILE)
@example(cards=[13301, 3916, 19544], profile="rtx-4090")
@example(cards=[13341, 18589], profile="any")
@example(cards=[13764, 21124], profile="h200")
def test_models_that_are_cut_stay_within_each_card(cards: list[int], profile: str) -> None:
    """Cards of quite different sizes and little main memory: much is cut."""
    host = Host(tuple(Card("nvidia", mib, 0, "8.6", slice=False) for mib in cards), 700, 100, unified=False)
    plan = plan_of(host, profile)

    assert [one for one in (plan.devices if plan else ()) if one.used_bytes > one.budget_bytes] == []


@SLOW
@given(host=HOST, profile=PROFILE)
def test_what_is_said_of_models_and_of_devices_is_the_same(host: Host, profile: str) -> None:
    """Residents and the largest of each group add up to what a device holds; every device is there."""
    plan = plan_of(host, profile)
    if plan is None:
        return
    for one in plan.devices:
        assert one.used_bytes == _used(plan, one), (host, one)
    names = {one.device for one in plan.devices} | {"cpu"}
    assert {share.device for model in plan.models for share in model.devices} <= names
    assert len({one.role for one in plan.decisions}) == len(plan.decisions)


def _used(plan: Plan, memory: DeviceMemory) -> int:
    """Return what a device holds: residents, and of each group the largest."""
    groups: dict[str, int] = {}
    used = 0
    for model in plan.models:
        for share in model.devices:
            on_main = share.device == "cpu" and (memory.device == "cpu" or memory.unified)
            if share.device != memory.device and not on_main:
                continue
            if model.group:
                groups[model.group] = max(groups.get(model.group, 0), share.memory_bytes)
            else:
                used += share.memory_bytes
    return used + sum(groups.values())


# --- more memory ---------------------------------------------------------------------------------


def best(facts: HostFacts, profile: Profile) -> tuple[Values, ...]:
    """Return the cost of the best placement, but for which of equal cards it takes."""
    request = Request(profile.name)
    found = pools(facts, profile.limits, request)
    maker = Maker(facts, SHELF, found, ALL_OFFERS, request, profile.limits)
    tables = tuple(maker.table(wish) for wish in profile.bundle)
    return cost(tables, solve(tables, Board.of(found.pools)))[:-1]


def larger(host: Host, more_mib: int) -> Iterator[Host]:
    """Yield the host with more of each memory, one after the other; what others use stays."""
    for at, one in enumerate(host.cards):
        wider = replace(one, mib=one.mib + more_mib)
        yield replace(host, cards=(*host.cards[:at], wider, *host.cards[at + 1 :]))
    yield replace(host, main_mib=host.main_mib + more_mib)


def plain(one: Card) -> Card:
    """Return a card that nobody else uses, so that more of it is more to plan with."""
    return replace(one, used_percent=0, slice=False, vendor="nvidia" if one.vendor == "intel" else one.vendor)


@SLOW
@given(host=HOST, profile=PROFILE, more_mib=st.integers(1, 20_000))
def test_more_memory_never_gives_a_worse_plan(host: Host, profile: str, more_mib: int) -> None:
    """By the list of preferences, entry by entry.

    Three cards are alike here, because which two of them are the larger ones says what may be cut over them.
    """
    cards = tuple(plain(one) for one in host.cards)
    if len(cards) > 2:
        cards = tuple(replace(one, vendor="nvidia", capability="8.6") for one in cards)
    host = replace(host, cards=cards, free_percent=100)
    now = best(host.facts(), SHELF.profiles[profile])

    for wider in larger(host, more_mib):
        assert best(wider.facts(), SHELF.profiles[profile]) <= now, wider


# --- every host ----------------------------------------------------------------------------------


@SLOW
@given(
    host=HOST,
    profile=st.sampled_from(["auto", "nonsense", *SHELF.profiles]),
    runtimes=st.sets(st.sampled_from(sorted(ALL_OFFERS))),
    unknown=st.booleans(),
    engine=st.booleans(),
    strict=st.booleans(),
    free_gib=st.sampled_from([0.0, 1.0, 50.0, 4000.0]),
    cap=st.sampled_from([None, 0, 1 << 30, 20 << 30]),
    override=st.sampled_from(OVERRIDES),
)
def test_every_host_gets_a_plan_or_a_sentence(
    host: Host,
    profile: str,
    runtimes: set[RuntimeName],
    free_gib: float,
    cap: int | None,
    override: str,
    *,
    unknown: bool,
    engine: bool,
    strict: bool,
) -> None:
    """No host and no request makes the planner fail in another way; no plan is too large for its devices."""
    facts = host.facts()
    base = make_host(free_gib=free_gib, engine=engine)
    facts = replace(facts, disks=base.disks, container_engine=base.container_engine)
    if unknown:
        facts = replace(facts, accelerators=Unknown("NVML did not answer"))
    overrides = parse_overrides((override,) if override else (), SHELF)
    request = Request(profile, strict, overrides=overrides, vram_bytes=cap, ram_bytes=cap)
    offers = {
        name: RuntimeOffer(name, available=name in runtimes, reason="" if name in runtimes else "not yet")
        for name in ALL_OFFERS
    }
    plan = _made(facts, request, offers)

    assert [one for one in (plan.devices if plan else ()) if one.used_bytes > one.budget_bytes] == []


def _made(facts: HostFacts, request: Request, offers: dict[RuntimeName, RuntimeOffer]) -> Plan | None:
    try:
        return make_plan(facts, SHELF, offers=offers, store=StoreView("/store", {}), request=request)
    except ProvisionError as refusal:
        _check(refusal)
        return None


@SLOW
@given(host=HOST, profile=PROFILE)
def test_a_plan_survives_its_own_json(host: Host, profile: str) -> None:
    """What the journal keeps is the plan, to the last field."""
    plan = plan_of(host, profile)

    assert plan is None or msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


@SLOW
@given(host=HOST, profile=PROFILE)
def test_the_same_host_gets_the_same_plan(host: Host, profile: str) -> None:
    """There is no clock and no order of a set in it."""
    assert plan_of(host, profile) == plan_of(host, profile)


# --- the order of files --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Return the shipped catalogue from files that lie in another order."""
    folder = tmp_path_factory.mktemp("profiles") / "profiles"
    copytree(catalogue.DEFAULT, folder)
    for number, path in enumerate(sorted((folder / "models").glob("*.yaml"), reverse=True)):
        path.rename(path.with_name(f"{number:03}-{path.stem}.yaml"))
    for path in sorted((folder / "hardware").glob("*.yaml"), reverse=True):
        path.rename(path.with_suffix(".old")).rename(path)
    return catalogue.load(folder)


def test_renamed_files_are_the_same_catalogue(turned: Catalogue) -> None:
    """In the same order, too."""
    assert list(turned.models) == list(SHELF.models)
    assert list(turned.profiles) == list(SHELF.profiles)
    assert list(turned.services) == list(SHELF.services)


@pytest.mark.parametrize("profile", ["auto", *sorted(SHELF.profiles)])
def test_the_order_of_files_never_matters_to_a_plan(turned: Catalogue, profile: str) -> None:
    """The plan is the same, byte for byte."""
    for facts in (make_host(cards=(device(),)), make_host(memory_gib=16)):
        request = Request(profile, accept_risk=True)
        plans = [msgspec.json.encode(planned_on(facts, one, request)) for one in (SHELF, turned)]
        assert plans[0] == plans[1]


# --- time ----------------------------------------------------------------------------------------


MOST_TRIES = 20_000
"""What the search of a bundle takes here is a hundredth of it."""


@pytest.mark.parametrize("profile", sorted(SHELF.profiles))
@pytest.mark.parametrize("runtime", ["ollama", "tei"])
def test_roles_that_nothing_can_serve_do_not_slow_the_search(
    runtime: RuntimeName, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three equal cards and one runtime: that roles are left over is found without trying all the rest."""
    tries, real = [0], Fill.add

    def counted(fill: Fill, one: Candidate, load: int, kv_type: KvType) -> Fill | None:
        tries[0] += 1
        if tries[0] > MOST_TRIES:
            pytest.fail(f"more than {MOST_TRIES} tries")
        return real(fill, one, load, kv_type)

    monkeypatch.setattr(Fill, "add", counted)
    cards = tuple(Card("nvidia", 32768, 0, "8.6", slice=False) for _ in range(3))
    facts = Host(cards, 8192, 94, unified=False).facts()
    offers = {name: RuntimeOffer(name, available=name == runtime) for name in ALL_OFFERS}

    _made(facts, Request(profile, accept_risk=True), offers)

    assert tries[0] <= MOST_TRIES
