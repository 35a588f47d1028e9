"""The steps of a role's ladder as they are told, and the words that they are told in. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import KvType, Step, Verdict
from tasks.plan.candidates import Table
from tasks.plan.loads import Candidate, longest
from tasks.plan.preference import Choice, values_of
from tasks.wording import MIB, gib


@dataclass(frozen=True, slots=True)
class Rung:
    """One step as it is told: in a list of steps, and shorter in the decision's one sentence."""

    kind: str
    text: str
    short: str
    taken: bool = False
    needs_bytes: int | None = None
    left_bytes: int | None = None

    @property
    def step(self) -> Step:
        """Return it as it is recorded."""
        return Step(self.text, self.taken, self.needs_bytes, self.left_bytes)


def group_key(choice: Choice) -> tuple[tuple[int, ...], KvType] | None:
    """Return which on-demand group a choice is in: one server, so one place and one KV type."""
    one = choice.candidate
    if one is None or not one.place.waits:
        return None
    return one.place.pools, one.kv_types[choice.kv]


def verdict(table: Table, choice: Choice) -> Verdict:
    """Say whether a role got just what was wished, something else, or nothing."""
    if choice.none:
        return "dropped"
    if choice.cloud:
        return "changed"
    gpu = table.withheld or any(one.place.on_gpu for one in table.candidates)
    rank, heavy, wait, quant, context, light, kv = values_of(table, choice)[:7]
    cpu, one = heavy or light, choice.candidate
    short = one is not None and 0 < longest(one.model) < (table.wish.context or 0)
    return "changed" if rank or (cpu and gpu) or wait or quant or context or kv or short else "kept"


def foot(one: Candidate) -> tuple[int, int]:
    """Return the ends of both ladders of a candidate."""
    return len(one.contexts) - 1, len(one.kv_types) - 1


def how(one: Candidate, context: int, kv: int) -> str:
    """Write a context and its KV type, where the model has them."""
    if one.model.attention is None or one.memory_bytes is not None:
        return ""
    return f" with {one.contexts[context]} tokens of {one.kv_types[kv]} KV"


def both(needs_bytes: int, left_bytes: int) -> tuple[str, str]:
    """Write what is needed and what is left so that they differ where they do."""
    if left_bytes <= 0:
        return gib(needs_bytes), "nothing is"
    if gib(needs_bytes) != gib(left_bytes) or needs_bytes == left_bytes:
        return gib(needs_bytes), f"{gib(left_bytes)} are"
    if needs_bytes // MIB == left_bytes // MIB:
        return f"{needs_bytes} bytes", f"{left_bytes} bytes are"
    return f"{needs_bytes // MIB} MiB", f"{left_bytes // MIB} MiB are"
