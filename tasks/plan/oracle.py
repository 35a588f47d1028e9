"""Whether a bundle can be placed within bounds: depth first, role by role. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.plan.candidates import Table
from tasks.plan.fill import Board, Fill
from tasks.plan.loads import Candidate
from tasks.plan.preference import (
    CARDS,
    CLOUD,
    CONTEXT,
    CPU,
    KV,
    LEVELS,
    LIGHT,
    NO_BOUND,
    NOTHING,
    QUANT,
    RANK,
    WAIT,
    Choice,
    Choices,
    heavy_on_cpu,
    light_on_cpu,
    own_candidate,
    shared_values,
)


@dataclass(slots=True)
class Bounds:
    """The largest value that each line of preferences may have for each role, and what is not allowed.

    `most_none` and `most_cloud` count roles; the sets name those that need a server, or must not use a cloud.
    """

    values: list[list[int]]
    most_none: int
    most_cloud: int
    not_none: set[int] = field(default_factory=set)
    not_cloud: set[int] = field(default_factory=set)

    @classmethod
    def none(cls, roles: int) -> Bounds:
        """Return bounds that allow everything."""
        return cls([[NO_BOUND] * len(LEVELS) for _ in range(roles)], roles, roles)


@dataclass(slots=True)
class Oracle:
    """Answers with a placement that keeps all bounds, or with None when there is none."""

    tables: tuple[Table, ...]
    board: Board
    bounds: Bounds
    twins: bool = True
    _failed: set[tuple[object, ...]] = field(default_factory=set)
    _lists: list[list[Choice]] = field(default_factory=list)
    _known: dict[tuple[object, ...], list[Choice]] = field(default_factory=dict)
    _shared: frozenset[str] = frozenset()
    _order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._shared = frozenset(name for table in self.tables if table.shares for name in table.models)
        self._order = order(self.tables)

    def find(self) -> Choices | None:
        """Return some placement within the bounds."""
        self._failed = set()
        self._lists = [self._listed(role) for role in range(len(self.tables))]
        if any(self._is_lost(role) for role in range(len(self.tables))):
            return None
        return self._try((), self.board.empty(), none=0, cloud=0)

    def _is_lost(self, role: int) -> bool:
        """Tell whether a role that must have a server could have none, whatever the others get."""
        must = role in self.bounds.not_none and (role in self.bounds.not_cloud or not self.tables[role].cloud)
        return must and not self._lists[role] and not self.tables[role].shares

    def _try(self, done: Choices, fill: Fill, *, none: int, cloud: int) -> Choices | None:
        if len(done) == len(self.tables):
            return tuple(done[self._order.index(role)] for role in range(len(done)))
        key = (len(done), self._states(fill), none, cloud, self._memory(done))
        if key in self._failed:
            return None
        for choice, after in self._steps(self._order[len(done)], fill, done):
            nones, clouds = none + choice.none, cloud + choice.cloud
            if nones > self.bounds.most_none or clouds > self.bounds.most_cloud:
                continue
            if found := self._try((*done, choice), after, none=nones, cloud=clouds):
                return found
        self._failed.add(key)
        return None

    def _states(self, fill: Fill) -> tuple[object, ...]:
        """Return how full everything is, whichever of two like cards holds what."""
        pools = sorted(self._state(fill, at) for at in range(len(fill.whole)))
        joined = tuple(one for one in fill.groups if len(one[0][0]) > 1)
        return (tuple(pools), fill.cut, joined)

    def _memory(self, done: Choices) -> tuple[object, ...]:
        """Return what later roles may depend on besides the fill: whose server they could share."""
        return tuple(
            (
                one.model.name,
                one.variant.name,
                one.place.on_gpu,
                one.place.waits,
                len(one.place.pools),
                choice.context,
                choice.kv,
            )
            for choice in done
            if (one := choice.candidate) is not None and one.model.name in self._shared
        )

    def _steps(self, role: int, fill: Fill, done: Choices) -> Iterator[tuple[Choice, Fill]]:
        """Yield what a role could get now, what takes least memory first."""
        for other, choice in zip(self._order, done, strict=False):
            if choice.candidate is None or choice.shares is not None or other > role:
                continue
            if self._may_share(role, choice):
                yield Choice(choice.candidate, choice.context, choice.kv, shares=other), fill
        seen: set[tuple[object, ...]] = set()
        for choice in self._lists[role]:
            one = choice.candidate
            if one is None:
                continue
            twin = self._twin(one, choice, fill)
            if twin in seen:
                continue
            seen.add(twin)
            after = fill.add(one, choice.load, one.kv_types[choice.kv])
            if after is not None:
                yield choice, after
        if self.tables[role].cloud and role not in self.bounds.not_cloud:
            yield CLOUD, fill
        if role not in self.bounds.not_none:
            yield NOTHING, fill

    def _twin(self, one: Candidate, choice: Choice, fill: Fill) -> tuple[object, ...]:
        """Return the same for two cards that look alike now: the second need not be tried."""
        where = one.place.pools
        if len(where) > 1:
            return (id(one), choice.context, choice.kv)
        state = self._state(fill, where[0])
        return (one.model.name, one.variant.name, one.place.residency, choice.context, choice.kv, state)

    def _state(self, fill: Fill, at: int) -> tuple[object, ...]:
        """Return what one pool is and holds, the same for two that can be taken for each other.

        They are of one kind and in the same sets of cards, so what is cut over a set lies on both.
        """
        kind = self.board.alike[at] if self.twins else at
        groups = tuple((kv, size) for (where, kv), size in fill.groups if where == (at,))
        return (kind, fill.whole[at], groups)

    def _may_share(self, role: int, choice: Choice) -> bool:
        table = self.tables[role]
        if choice.candidate is None or not table.shares:
            return False
        if choice.candidate.model.name not in table.models:
            return False
        values = shared_values(table, choice)
        if values is None:
            return False
        cards = len(choice.candidate.place.pools)
        bounds = self.bounds.values[role]
        return all(value <= bound for value, bound in zip((*values, cards), bounds, strict=True))

    # --- what a role's own server could be ---------------------------------------------------------

    def _listed(self, role: int) -> list[Choice]:
        """Return the list of a role; it changes with its own bounds and those of roles that may share."""
        later = [at for at in range(role + 1, len(self.tables)) if self.tables[at].shares]
        key = (role, *(tuple(self.bounds.values[at]) for at in (role, *later)))
        if key not in self._known:
            self._known[key] = self._list(role, later)
        return self._known[key]

    def _list(self, role: int, later: list[int]) -> list[Choice]:
        """Return for each model and place what takes least, alone and with each set of sharing roles."""
        found: dict[tuple[object, ...], Choice] = {}
        for one in self.tables[role].candidates:
            if not self._within(one, role):
                continue
            name = one.model.name
            for sharers in _subsets([at for at in later if name in self.tables[at].models]):
                for choice in self._least(one, role, sharers):
                    key = (name, one.place, one.each, one.even, choice.kv if one.place.waits else 0, sharers)
                    if key not in found or choice.load < found[key].load:
                        found[key] = choice
        unique = {(id(choice.candidate), choice.context, choice.kv): choice for choice in found.values()}
        return sorted(unique.values(), key=lambda choice: choice.load)

    def _within(self, one: Candidate, role: int) -> bool:
        bounds, place = self.bounds.values[role], one.place
        return (
            one.rank <= bounds[RANK]
            and heavy_on_cpu(one) <= bounds[CPU]
            and light_on_cpu(one) <= bounds[LIGHT]
            and int(place.waits) <= bounds[WAIT]
            and one.quant <= bounds[QUANT]
            and len(place.pools) <= bounds[CARDS]
        )

    def _least(self, one: Candidate, role: int, sharers: tuple[int, ...]) -> Iterator[Choice]:
        """Yield the smallest that a role and its sharers allow; in a group, one for each KV type."""
        bounds = self.bounds.values[role]
        tokens, allowed = 0, set(one.kv_types[: bounds[KV] + 1])
        for other in sharers:
            mine = own_candidate(self.tables[other], one)
            limits = self.bounds.values[other]
            if mine is None or mine.rank > limits[RANK] or mine.quant > limits[QUANT]:
                return
            tokens = max(tokens, mine.contexts[min(len(mine.contexts) - 1, limits[CONTEXT])])
            allowed &= set(mine.kv_types[: limits[KV] + 1])
        top = min(len(one.contexts) - 1, bounds[CONTEXT])
        context = next((at for at in range(top, -1, -1) if one.contexts[at] >= tokens), None)
        if context is None:
            return
        kinds = [at for at, kind in enumerate(one.kv_types) if kind in allowed]
        for kv in kinds if one.place.waits else kinds[-1:]:
            yield Choice(one, context, kv)


def order(tables: tuple[Table, ...]) -> tuple[int, ...]:
    """Return the roles in the order in which they are tried: what takes much first, for it has fewer places.

    A role comes after every role whose server it could share.
    """
    left, made = set(range(len(tables))), []
    while left:
        ready = [role for role in left if not (_could_share(tables, role) & left)]
        best = max(ready, key=lambda role: (not tables[role].candidates, _foot_bytes(tables[role]), -role))
        made.append(best)
        left.discard(best)
    return tuple(made)


def _could_share(tables: tuple[Table, ...], role: int) -> set[int]:
    if not tables[role].shares:
        return set()
    names = set(tables[role].models)
    return {other for other in range(role) if names & set(tables[other].models)}


def _foot_bytes(table: Table) -> int:
    return min((one.least_bytes for one in table.candidates if one.rank == 0), default=0)


def _subsets(items: list[int]) -> Iterator[tuple[int, ...]]:
    yield ()
    for at, item in enumerate(items):
        for rest in _subsets(items[at + 1 :]):
            yield (item, *rest)
