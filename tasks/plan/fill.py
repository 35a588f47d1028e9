"""How full the pools are while models are put into them, and whether one more fits. Pure.

Resident models add up. Members of an on-demand group take turns inside one server, so a group takes what its
largest member takes; a server has one KV type, so the type is a part of the group's name. Parts of a cut
model may lie anywhere in its set of cards. The sets lie in each other (places.py), so all cut models fit
exactly when in each set, what must lie inside it is not more than what is free inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import KvType
from tasks.plan.budget import Pool
from tasks.plan.loads import Candidate
from tasks.plan.places import split_sets

Where = tuple[int, ...]
GroupKey = tuple[Where, KvType]
Weight = tuple[int, int]
"""What lies on each pool of a set, and what is cut over the set."""


@dataclass(frozen=True, slots=True)
class Board:
    """The pools as a search sees them: budgets, and the sets that a model may be cut over."""

    budgets: tuple[int, ...]
    sets: tuple[Where, ...]
    alike: tuple[int, ...]

    @classmethod
    def of(cls, pools: tuple[Pool, ...]) -> Board:
        """Return the board of a host's pools.

        `alike` gives each pool the first one that is the same: in size, in kind, and in its sets.
        """
        sets = tuple(split_sets(pools))
        kinds = [
            (one.budget_bytes, one.main, _kind(one), tuple(at in where for where in sets))
            for at, one in enumerate(pools)
        ]
        alike = tuple(kinds.index(kind) for kind in kinds)
        return cls(tuple(one.budget_bytes for one in pools), sets, alike)

    def empty(self) -> Fill:
        """Return pools with nothing in them."""
        return Fill(self, (0,) * len(self.budgets), (), ())


@dataclass(frozen=True, slots=True)
class Fill:
    """What lies where: `whole` on each pool, `cut` over sets of cards, and the size of each group."""

    board: Board
    whole: tuple[int, ...]
    cut: tuple[tuple[Where, int], ...]
    groups: tuple[tuple[GroupKey, Weight], ...]

    def add(self, one: Candidate, load: int, kv_type: KvType) -> Fill | None:
        """Put a model in; None when it does not fit."""
        where = one.place.pools
        each, cut = weight(one, load)
        if one.place.waits:
            key: GroupKey = (where, kv_type)
            old = dict(self.groups).get(key, (0, 0))
            new = (max(old[0], each), max(old[1], cut))
            if new == old:
                return self
            groups = tuple(sorted({**dict(self.groups), key: new}.items()))
            made = Fill(self.board, self.whole, self.cut, groups)
        else:
            whole = tuple(used + each if at in where else used for at, used in enumerate(self.whole))
            cuts = self.cut
            if cut:
                cuts = tuple(sorted({**dict(cuts), where: dict(cuts).get(where, 0) + cut}.items()))
            made = Fill(self.board, whole, cuts, self.groups)
        return made if made.holds(where) else None

    def fixed(self, at: int) -> int:
        """Return what lies on one pool wherever cut models are laid."""
        turns = sum(each for (where, _), (each, _) in self.groups if at in where) if self.groups else 0
        return self.whole[at] + turns

    def free(self, at: int) -> int:
        """Return what is left on one pool before cut models are laid out."""
        return self.board.budgets[at] - self.fixed(at)

    def inside(self, where: Where) -> int:
        """Return how much must lie inside a set of cards, of models that are cut over it or a part of it."""
        inner = set(where)
        whole = sum(size for cut, size in self.cut if inner.issuperset(cut))
        return whole + sum(size for (cut, _), (_, size) in self.groups if inner.issuperset(cut))

    def left(self, where: Where) -> int:
        """Return the most that one more model could take inside a set, cut or not."""
        free = sum(self.free(at) for at in where)
        outer = [
            sum(self.free(at) for at in chosen) - self.inside(chosen)
            for chosen in self.board.sets
            if set(chosen).issuperset(where)
        ]
        return min([free - self.inside(where), *outer])

    def holds(self, where: Where) -> bool:
        """Tell whether everything fits, after something was put into `where`."""
        if any(self.free(at) < 0 for at in where):
            return False
        if not self.cut and not any(size for _, (_, size) in self.groups):
            return True
        return all(self.inside(chosen) <= sum(self.free(at) for at in chosen) for chosen in self.board.sets)


def weight(one: Candidate, load: int) -> Weight:
    """Return what a candidate puts on each pool of its place, and what is cut over them."""
    cards = len(one.place.pools)
    if cards == 1:
        return load, 0
    if one.even:
        return -(-load // cards) + one.each, 0
    return one.each, load


def _kind(pool: Pool) -> tuple[object, ...]:
    device = pool.device
    if device is None:
        return ()
    return (device.vendor, str(device.compute_capability), device.unified, device.slice_of is None)
