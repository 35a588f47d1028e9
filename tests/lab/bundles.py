"""Small catalogues, wishes and pools for tests of the planner, and a search that tries everything."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.catalogue import load
from tasks.contracts import (
    Accelerator,
    Attention,
    Catalogue,
    Example,
    HostFacts,
    Limits,
    Match,
    Model,
    OllamaTag,
    Plan,
    Profile,
    Role,
    RuntimeName,
    RuntimeOffer,
    Service,
    StoreView,
    Unknown,
    UnpinnedRepo,
    Variant,
    Wish,
)
from tasks.plan.budget import Pool, Pools
from tasks.plan.candidates import Maker, Table
from tasks.plan.choose import make_plan
from tasks.plan.fill import Board
from tasks.plan.preference import CLOUD, NOTHING, Choice, Choices, Values, cost, shared_values
from tasks.plan.request import Request
from tests.lab.hosts import make_host

MIB = 1 << 20
SHIPPED = load()
"""Its images are those of every catalogue here: what they are built for is a part of what is tested."""

RUNTIMES: tuple[RuntimeName, ...] = ("embedded", "ollama", "llama.cpp", "tei", "vllm", "speaches")
ALL_OFFERS = {name: RuntimeOffer(name, available=True) for name in RUNTIMES}


def decoder(name: str, *, roles: tuple[Role, ...], sizes_mib: tuple[int, ...], heads: int = 4) -> Model:
    """Return a chat model of 4 layers with one Ollama variant for each size."""
    return Model(
        name=name,
        title=name,
        roles=roles,
        licence="MIT",
        sources=("made up",),
        attention=Attention(layers=4, kv_heads=heads, head_dim=64, heads=8),
        context=32768,
        variants=tuple(
            Variant(
                name=f"v{number}",
                runtimes=("ollama",),
                ollama=OllamaTag(tag=f"{name}:{number}", size_bytes=size * MIB, unpinned="made up"),
            )
            for number, size in enumerate(sizes_mib)
        ),
    )


def encoder(name: str, *, role: Role, size_mib: int, runtime: RuntimeName = "tei") -> Model:
    """Return a model without a KV cache."""
    repo = UnpinnedRepo(repo=f"made/{name}", size_bytes=size_mib * MIB, unpinned="made up")
    return Model(
        name=name,
        title=name,
        roles=(role,),
        licence="MIT",
        sources=("made up",),
        dimensions=8,
        max_tokens=512,
        variants=(Variant(name="fp32", runtimes=(runtime,), repo=repo),),
    )


def card_pool(index: int, budget_mib: int) -> Pool:
    """Return a card of which the plan may use so much."""
    size = budget_mib * MIB
    device = Accelerator("nvidia", "Card", f"GPU-{index}", size, size, "8.6", "580", index=index)
    return Pool(f"gpu{index}", "Card", device, False, size, 0, 0, 0, size)  # noqa: FBT003  # as the fields stand


def main_pool(budget_mib: int) -> Pool:
    """Return main memory."""
    size = budget_mib * MIB
    return Pool("cpu", "main memory", None, True, size, 0, 0, 0, size)  # noqa: FBT003  # the same


def tables_of(
    models: tuple[Model, ...],
    wishes: tuple[Wish, ...],
    pools: tuple[Pool, ...],
    request: Request | None = None,
) -> tuple[Table, ...]:
    """Return the candidates of each wish."""
    catalogue = Catalogue({one.name: one for one in models}, {}, {}, (), SHIPPED.images, SHIPPED.jetpacks)
    facts = make_host(cards=Unknown("not asked"))
    maker = Maker(facts, catalogue, Pools(pools), ALL_OFFERS, request or Request(), Limits())
    return tuple(maker.table(wish) for wish in wishes)


def every_choice(tables: tuple[Table, ...], role: int) -> Iterator[Choice]:
    """Yield all that a role could get, whatever else is placed."""
    yield NOTHING
    if tables[role].cloud:
        yield CLOUD
    for one in tables[role].candidates:
        for context in range(len(one.contexts)):
            for kv in range(len(one.kv_types)):
                yield Choice(one, context, kv)
    if tables[role].shares:
        for other in range(role):
            yield Choice(shares=other)


def best_by_trying(tables: tuple[Table, ...], board: Board) -> tuple[Values, ...]:
    """Return the best cost of all placements that fit. Slow on purpose: it shares nothing with the search."""
    return min(cost(tables, choices) for choices in _every(tables, board, ()))


def _every(tables: tuple[Table, ...], board: Board, done: Choices) -> Iterator[Choices]:
    """Yield every placement that fits; what does not fit with some roles does not fit with more."""
    if len(done) == len(tables):
        yield done
        return
    for choice in every_choice(tables, len(done)):
        choices = _resolved(tables, (*done, choice))
        if choices is not None and _fits(choices, board):
            yield from _every(tables, board, choices)


def _resolved(tables: tuple[Table, ...], raw: Choices) -> Choices | None:
    """Give each sharing role the server that it shares; None where it may not."""
    done: list[Choice] = []
    for role, choice in enumerate(raw):
        if choice.shares is None or choice.candidate is not None:
            done.append(choice)
            continue
        other = done[choice.shares]
        if other.candidate is None or other.shares is not None:
            return None
        made = Choice(other.candidate, other.context, other.kv, shares=choice.shares)
        if other.candidate.model.name not in tables[role].models or shared_values(tables[role], made) is None:
            return None
        done.append(made)
    return tuple(done)


def _fits(choices: Choices, board: Board) -> bool:
    """Add everything up, pool by pool."""
    fixed = [0] * len(board.budgets)
    cut: dict[tuple[int, ...], int] = {}
    groups: dict[tuple[tuple[int, ...], str], tuple[int, int]] = {}
    for choice in choices:
        one = choice.candidate
        if one is None or choice.shares is not None:
            continue
        where, load = one.place.pools, one.loads[choice.context][choice.kv]
        each, whole = (load, 0) if len(where) == 1 else (one.each, load)
        if one.even:
            each, whole = one.each + -(-load // len(where)), 0
        if one.place.waits:
            key = (where, one.kv_types[choice.kv])
            old = groups.get(key, (0, 0))
            groups[key] = (max(old[0], each), max(old[1], whole))
            continue
        for at in where:
            fixed[at] += each
        cut[where] = cut.get(where, 0) + whole
    for (where, _), (each, whole) in groups.items():
        for at in where:
            fixed[at] += each
        cut[where] = cut.get(where, 0) + whole
    free = [budget - used for budget, used in zip(board.budgets, fixed, strict=True)]
    if min(free) < 0:
        return False
    return all(
        sum(size for inner, size in cut.items() if set(inner) <= set(where)) <= sum(free[at] for at in where)
        for where in {tuple(sorted(one)) for one in cut}
    )


# --- whole plans ---------------------------------------------------------------------------------


def shelf_of(
    models: tuple[Model, ...],
    wishes: tuple[Wish, ...],
    *,
    services: tuple[Service, ...] = (),
    limits: Limits | None = None,
) -> Catalogue:
    """Return a catalogue with one profile, "lab", that fits every host and wishes for a bundle."""
    profile = Profile(
        name="lab",
        title="Lab",
        hardware="any",
        match=Match(),
        bundle=wishes,
        example=Example(memory_mib=1024),
        limits=limits or Limits(margin_bytes=0),
    )
    return Catalogue(
        {one.name: one for one in models},
        {"lab": profile},
        {one.name: one for one in services},
        (),
        SHIPPED.images,
        SHIPPED.jetpacks,
        SHIPPED.routing,
    )


def planned_on(
    facts: HostFacts, shelf: Catalogue, request: Request | None = None, *, store: StoreView | None = None
) -> Plan:
    """Plan a host with every runtime there is."""
    view = store or StoreView("/store", {})
    return make_plan(facts, shelf, offers=ALL_OFFERS, store=view, request=request or Request("lab"))
