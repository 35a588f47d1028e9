"""The best placement of a whole bundle, by the list in preference.py. Pure.

The search fixes one entry of that list after the other: it finds the smallest value with which the rest can
still be placed, and keeps it. So the result is optimal, and no sum of weights hides what was preferred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.plan.candidates import Table
from tasks.plan.fill import Board
from tasks.plan.oracle import Bounds, Oracle
from tasks.plan.preference import CARDS, CONTEXT, KV, LINES, QUANT, RANK, Choices, values_of


def solve(tables: tuple[Table, ...], board: Board, *, twins: bool = True) -> Choices:
    """Return the best placement; there always is one, because a role may be served by nobody.

    Args:
        tables: what each role of the bundle could get.
        board: the pools.
        twins: whether cards that look alike may be taken for each other; not where a person named one.
    """
    return _Solver(tables, Oracle(tables, board, Bounds.none(len(tables)), twins)).run()


@dataclass(frozen=True, slots=True)
class _Solver:
    tables: tuple[Table, ...]
    oracle: Oracle

    def run(self) -> Choices:
        bounds, roles = self.oracle.bounds, range(len(self.tables))
        best = self.oracle.find()
        if best is None:
            raise AssertionError("a bundle that may be left unserved could not be placed")

        def most_none(count: int) -> None:
            bounds.most_none = count

        def most_cloud(count: int) -> None:
            bounds.most_cloud = count

        best = self._count(best, [choice.none for choice in best], most_none)
        for role in roles:
            best = self._exclude(best, role, bounds.not_none, none=best[role].none)
        best = self._count(best, [choice.cloud for choice in best], most_cloud)
        for role in roles:
            best = self._exclude(best, role, bounds.not_cloud, none=best[role].cloud)
        for line in LINES:
            for role in roles:
                for level in line:
                    best = self._settle(best, role, level)
        return best

    def _count(self, best: Choices, now: list[bool], bound: Callable[[int], None]) -> Choices:
        """Fix the smallest number of roles that are served by nobody, or by a cloud."""
        for fewer in range(sum(now)):
            bound(fewer)
            if found := self.oracle.find():
                return found
        bound(sum(now))
        return best

    def _exclude(self, best: Choices, role: int, excluded: set[int], *, none: bool) -> Choices:
        """Fix that a role is not among these, where that can be."""
        excluded.add(role)
        if none:
            found = self.oracle.find()
            if found is None:
                excluded.discard(role)
                return best
            return found
        return best

    def _settle(self, best: Choices, role: int, level: int) -> Choices:
        """Fix the smallest value of one line for one role. What a small bound allows, a larger one does."""
        bounds, table = self.oracle.bounds.values[role], self.tables[role]
        now = values_of(table, best[role])[level]
        values = sorted({value for value in self._values(level, role) if value < now})
        low, high = 0, len(values)
        while low < high:
            middle = (low + high) // 2
            bounds[level] = values[middle]
            found = self.oracle.find()
            if found is None:
                low = middle + 1
                continue
            best, now = found, values_of(table, found[role])[level]
            high = values.index(now)
        bounds[level] = now
        return best

    def _values(self, level: int, role: int) -> set[int]:
        """Return the values that one line could have for a role."""
        candidates = self.tables[role].candidates
        if level == CONTEXT:
            return set(range(max((len(one.contexts) for one in candidates), default=0)))
        if level == KV:
            return set(range(max((len(one.kv_types) for one in candidates), default=0)))
        if level == RANK:
            return {one.rank for one in candidates}
        if level == QUANT:
            return {one.quant for one in candidates}
        if level == CARDS:
            return {len(one.place.pools) for one in candidates}
        return {0, 1}
