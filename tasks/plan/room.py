"""What a plan leaves for one role beside all others: the figures of every explanation. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import KvType, Need
from tasks.plan.candidates import Maker, Table
from tasks.plan.fill import Board, Fill, weight
from tasks.plan.layout import cut_bytes
from tasks.plan.loads import Candidate
from tasks.plan.preference import Choices
from tasks.plan.rungs import foot, group_key
from tasks.wording import listed


@dataclass(frozen=True, slots=True)
class Room:
    """A plan's choices, and what they leave for one role's candidates."""

    maker: Maker
    tables: tuple[Table, ...]
    choices: Choices
    board: Board

    def rest(self, role: int) -> Fill:
        """Return the pools without one role's own server."""
        fill = self.board.empty()
        for at, choice in enumerate(self.choices):
            if at == role or choice.candidate is None or choice.shares is not None:
                continue
            one = choice.candidate
            fill = fill.add(one, choice.load, one.kv_types[choice.kv]) or fill
        return fill

    def need(self, role: int, one: Candidate, context: int, kind: KvType) -> Need:
        """Return the parts of what a candidate takes."""
        parallel = self.maker.hosting.parallel(self.tables[role].wish, one.runtime)
        return self.maker.need(one, context=context, kv_type=kind, parallel=parallel)

    def left(self, one: Candidate, rest: Fill) -> int:
        """Return what the rest of the plan leaves for a candidate in its place.

        A member of a group may take what the group has, and what is free beside it.
        """
        where = one.place.pools
        left = rest.left(where)
        if one.place.waits:
            groups = [each * len(where) + cut for (place, _), (each, cut) in rest.groups if place == where]
            left += max(groups, default=0)
        return left

    def takes(self, role: int, one: Candidate) -> int:
        """Return what a role's server takes; of a cut model, without the layers that cards may waste."""
        choice = self.choices[role]
        if not one.place.split or one.even:
            return self.asks(one, (choice.context, choice.kv))
        need = self.need(role, one, choice.tokens, one.kv_types[choice.kv])
        return one.each * len(one.place.pools) + cut_bytes(one, need)

    def beside(self, role: int, one: Candidate) -> str:
        """Name the roles that lie where a candidate would, but for those that it takes turns with."""
        found = []
        for at, other in enumerate(self.choices):
            lies = other.candidate.place if other.candidate and other.shares is None and at != role else None
            if lies is None or not set(lies.pools) & set(one.place.pools):
                continue
            if not (lies.waits and one.place.waits and lies.pools == one.place.pools):
                found.append(self.tables[at].wish.role)
        return f" beside {listed(found)}" if found else ""

    def hopeless(self, one: Candidate) -> bool:
        """Tell whether a candidate would not fit even where nothing else lies."""
        return self.asks(one, foot(one)) > sum(self.board.budgets[at] for at in one.place.pools)

    def fits(self, one: Candidate, at: tuple[int, int], rest: Fill) -> bool:
        """Tell whether a candidate fits beside the rest, in the group that is there if it takes turns."""
        load, kind = one.loads[at[0]][at[1]], one.kv_types[at[1]]
        if not one.place.waits:
            return rest.add(one, load, kind) is not None
        where = one.place.pools
        groups = dict(rest.groups)
        kinds = [known for place, known in groups if place == where] or [kind]
        return any(rest.add(one, load, known) is not None for known in kinds)

    def asks(self, one: Candidate, at: tuple[int, int]) -> int:
        """Return what a candidate asks for at one place of its ladders."""
        each, cut = weight(one, one.loads[at[0]][at[1]])
        return each * len(one.place.pools) + cut

    def short(self, one: Candidate, rest: Fill) -> int:
        """Return how much a candidate lacks at the foot of its ladders."""
        at = foot(one)
        return self.asks(one, at) - self.left(one, rest)

    def candidate(self, role: int) -> Candidate:
        """Return the candidate that a role got."""
        one = self.choices[role].candidate
        if one is None:
            raise AssertionError("a role without a server has no memory")
        return one

    def group(self, role: int) -> tuple[int, ...]:
        """Return the roles that take turns with a role, itself among them."""
        mine = group_key(self.choices[role])
        return tuple(
            at for at, choice in enumerate(self.choices) if mine is not None and group_key(choice) == mine
        )
