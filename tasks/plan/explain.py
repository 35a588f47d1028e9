"""Why each role got what it got: every step of its ladder, taken or refused, with both numbers. Pure.

A step is refused beside the rest of the plan as it stands: what it needs is more than what the others leave.
That is the whole reason, because the plan is optimal: had the step fitted there, it would have been taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.contracts import Decision, KvType
from tasks.plan.fill import Fill
from tasks.plan.loads import Candidate, longest
from tasks.plan.places import Place
from tasks.plan.room import Room
from tasks.plan.rungs import Rung, both, foot, how, verdict
from tasks.wording import gib, listed

NO_FIT = "does not fit"
Kind = tuple[bool, bool]
KINDS: tuple[Kind, ...] = ((False, False), (False, True), (True, False), (True, True))
"""Kinds of places, the best first: on the CPU or not, in turns or not."""


def kind_of(place: Place) -> Kind:
    """Return the kind of a place."""
    return (not place.on_gpu, place.waits)


@dataclass(frozen=True, slots=True)
class Explainer(Room):
    """Explains the choices of one plan."""

    def decision(self, role: int) -> Decision:
        """Return what became of a role, and why."""
        table, choice = self.tables[role], self.choices[role]
        rungs = tuple(self._rungs(role))
        name = choice.candidate.model.name if choice.candidate else None
        return Decision(
            role=table.wish.role,
            verdict=verdict(table, choice),
            wish=table.models[0] if table.models else "none",
            model=name,
            why=self._why(role, rungs),
            residency="cloud"
            if choice.cloud
            else choice.candidate.place.residency
            if choice.candidate
            else "none",
            steps=tuple(rung.step for rung in rungs),
        )

    # --- the steps -------------------------------------------------------------------------------

    def _rungs(self, role: int) -> Iterator[Rung]:
        table, choice = self.tables[role], self.choices[role]
        rest = self.rest(role)
        chosen = choice.candidate.model.name if choice.candidate else None
        for name in table.models:
            yield from self._reasons(role, name)
            yield from self._kinds(role, name, rest)
            if name == chosen:
                break
        if choice.candidate is not None:
            yield from self._quants(role, rest)
            yield from self._contexts(role, rest)
        yield self._taken(role, rest)

    def _reasons(self, role: int, name: str) -> Iterator[Rung]:
        """Yield what kept variants off the accelerators, or out of the plan; the rest did not matter."""
        table, chosen = self.tables[role], self.choices[role].candidate
        mine = [one for one in table.candidates if one.model.name == name]
        placed = {one.variant.name for one in mine if one.place.on_gpu} or {one.variant.name for one in mine}
        done: set[str] = set()
        for refusal in table.refused.get(name, ()):
            if refusal.variant in placed or refusal.why in done:
                continue
            if not refusal.on_gpu and any(one.variant.name == refusal.variant for one in mine):
                continue
            if chosen is not None and chosen.model.name == name and refusal.quant > chosen.quant:
                return
            done.add(refusal.why)
            yield Rung("runtime", refusal.why, refusal.why)

    def _kinds(self, role: int, name: str, rest: Fill) -> Iterator[Rung]:
        """Yield the places that are better than the chosen one, each at the foot of all other ladders."""
        choice = self.choices[role]
        chosen = choice.candidate
        for kind in KINDS:
            if chosen is not None and name == chosen.model.name and kind >= kind_of(chosen.place):
                return
            found = [
                one
                for one in self.tables[role].candidates
                if one.model.name == name and kind_of(one.place) == kind and self._rather(one, chosen)
            ]
            if found:
                best = min(found, key=lambda one: (self.hopeless(one), self.short(one, rest)))
                yield self._refused(role, "place", best, rest=rest, at=foot(best))

    @staticmethod
    def _rather(one: Candidate, chosen: Candidate | None) -> bool:
        """Tell whether a better place would have been taken with this variant, too.

        A model that writes no text goes to the CPU before it takes another quantisation.
        """
        if chosen is None or chosen.model.name != one.model.name or chosen.model.attention is not None:
            return True
        return one.quant <= chosen.quant

    def _quants(self, role: int, rest: Fill) -> Iterator[Rung]:
        chosen = self.choices[role].candidate
        if chosen is None or self.choices[role].shares is not None:
            return
        light = chosen.model.attention is None
        for quant in range(chosen.quant):
            found = [
                one
                for one in self.tables[role].candidates
                if (one.rank, one.quant) == (chosen.rank, quant)
                and (light or kind_of(one.place) <= kind_of(chosen.place))
            ]
            if found:
                best = min(found, key=lambda one: self.short(one, rest))
                yield self._refused(role, "quantisation", best, rest=rest, at=foot(best))

    def _contexts(self, role: int, rest: Fill) -> Iterator[Rung]:
        """Yield a step for each context and KV type before the chosen ones."""
        choice = self.choices[role]
        one = choice.candidate
        if (
            one is None
            or choice.shares is not None
            or one.model.attention is None
            or one.memory_bytes is not None
        ):
            return
        most, wished = longest(one.model), self.tables[role].wish.context or 0
        if most < wished:
            text = f"{one.model.name} takes {most} tokens at most, and {wished} are wished"
            yield Rung("trained", text, text)
        for context in range(choice.context + 1):
            for kv, kind in enumerate(one.kv_types):
                if context == choice.context and kv >= choice.kv:
                    return
                yield self._cache(role, (context, kv), kind, rest=rest)

    def _cache(self, role: int, at: tuple[int, int], kind: KvType, *, rest: Fill) -> Rung:
        one = self.candidate(role)
        need = self.need(role, one, one.contexts[at[0]], kind)
        free = self.left(one, rest) - (self.asks(one, at) - need.kv_bytes)
        tokens = f"{one.contexts[at[0]]} tokens of {kind} KV"
        asked, left = both(need.kv_bytes, free)
        needs = f"{tokens} need {asked} and {left} left for them"
        end = self._kept_back(role, kind) if self.fits(one, at, rest) else NO_FIT
        short = needs if end == NO_FIT else f"{needs}: {end}"
        return Rung("context", f"{needs}: {end}", short, needs_bytes=need.kv_bytes, left_bytes=max(0, free))

    def _refused(self, role: int, rung: str, one: Candidate, *, rest: Fill, at: tuple[int, int]) -> Rung:
        needs, left = self.asks(one, at), self.left(one, rest)
        end = self._kept_back(role) if self.fits(one, at, rest) else NO_FIT
        asked, free = both(needs, left)
        name, where, tail = one.model.name, self._where(one.place), how(one, *at)
        if rung == "place":
            tail = f" ({one.variant.name}{tail})"
        else:
            name = f"{name} {one.variant.name}"
        beside = f"{free} left{self.beside(role, one)}"
        short = f"{name} {where} needs at least {asked} and {beside}"
        text = f"{name} {where} needs at least {asked}{tail} and {beside}: {end}"
        if end != NO_FIT:
            short = f"{short}: {end}"
        return Rung(rung, text, short, needs_bytes=needs, left_bytes=max(0, left))

    def _taken(self, role: int, rest: Fill) -> Rung:
        choice = self.choices[role]
        one = choice.candidate
        if choice.cloud:
            clouds = self.maker.clouds(self.tables[role].wish.role)
            text = f"left to a cloud ({listed(clouds)}): taken"
            return Rung("taken", text, text, taken=True)
        if one is None:
            text = "nobody serves it"
            return Rung("taken", text, text, taken=True)
        if choice.shares is not None:
            other = self.tables[choice.shares].wish.role
            name = f"{one.model.name} {one.variant.name}"
            text = f"{name}, the server that plays {other}, with {choice.tokens} tokens"
            return Rung("taken", f"{text}: taken, it needs nothing more", text, taken=True)
        needs, left = self.takes(role, one), self.left(one, rest)
        tail = how(one, choice.context, choice.kv)
        name = f"{one.model.name} {one.variant.name}"
        text = f"{name} {self._where(one.place)} takes {gib(needs)}{tail}, {gib(left)} are free for it"
        if not one.place.on_gpu and any(pool.on_gpu for pool in self.maker.pools.pools):
            text += ", as its profile lets it"
        return Rung("taken", f"{text}: taken", text, taken=True, needs_bytes=needs, left_bytes=left)

    # --- one sentence ----------------------------------------------------------------------------

    def _why(self, role: int, rungs: tuple[Rung, ...]) -> str:
        """Return the reasons for each step down, the last of each kind, and what was taken."""
        last: dict[str, str] = {}
        for rung in rungs[:-1]:
            key = rung.short if rung.kind == "runtime" else rung.kind
            if rung.kind == "place":
                key = rung.short.split(" ", 1)[0]
            last[key] = rung.short
        turns = self._turns(role)
        return "; ".join((*last.values(), rungs[-1].short + turns))

    def _turns(self, role: int) -> str:
        others = [self.tables[at].wish.role for at in self.group(role) if at != role]
        return f", in turns with {listed(others)}" if others else ""

    def _kept_back(self, role: int, kind: str = "") -> str:
        """Say why something is not taken although it would fit."""
        mates = [self.tables[at].wish.role for at in self.group(role) if at != role]
        choice = self.choices[role]
        if mates and kind and choice.candidate and kind != choice.candidate.kv_types[choice.kv]:
            return f"it would fit, but it shares a server with {listed(mates)}, and a server has one KV type"
        sharers = [
            self.tables[at].wish.role for at, choice in enumerate(self.choices) if choice.shares == role
        ]
        if sharers:
            return f"it would fit, but {listed(sharers)} could not share it"
        return "it would fit, but not with what stands higher in the bundle"

    def _where(self, place: Place) -> str:
        names = "+".join(self.maker.pools.pools[at].name for at in place.pools)
        if not place.on_gpu:
            return "on the CPU" if place.residency == "cpu" else "on the CPU in turns"
        return f"{'resident' if place.residency == 'resident' else 'in turns'} on {names}"
