"""What a role can get, and which of two placements is better. Pure.

Two placements are compared by this list, from the top; the first difference decides:

    1  fewer roles are served by nobody; where one must be, a role further down in the bundle
    2  fewer roles are left to a cloud; the same
    3  the models that the wishes name first
    4  what has a decoder's build: on an accelerator, not on the CPU
    5  role by role: resident, not in turns with others; then the quantisation that is preferred; then the
       longer context
    6  what has no such build (BERT, Whisper): on an accelerator, not on the CPU
    7  the KV type that is preferred
    8  on fewer cards

Each line is looked at for all roles before the next one is, and within a line the first role of the bundle
comes first: what stands lower in the bundle yields first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.plan.candidates import Table
from tasks.plan.loads import Candidate

RANK, CPU, WAIT, QUANT, CONTEXT, LIGHT, KV, CARDS = range(8)
LEVELS = (RANK, CPU, WAIT, QUANT, CONTEXT, LIGHT, KV, CARDS)
LINES = ((RANK,), (CPU,), (WAIT, QUANT, CONTEXT), (LIGHT,), (KV,), (CARDS,))
"""Lines 3 to 8: what is settled for one role before the next one is looked at."""
NO_BOUND = 1 << 60
Values = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What one role gets: a candidate with its context and KV type, another role's server, a cloud, nothing.

    `shares` is the role (its place in the bundle) whose server this is.
    """

    candidate: Candidate | None = None
    context: int = 0
    kv: int = 0
    shares: int | None = None
    cloud: bool = False

    @property
    def none(self) -> bool:
        """Whether nobody serves the role."""
        return self.candidate is None and not self.cloud

    @property
    def tokens(self) -> int:
        """The context in tokens."""
        return self.candidate.contexts[self.context] if self.candidate else 0

    @property
    def load(self) -> int:
        """What the choice adds to memory."""
        return (
            0
            if self.candidate is None or self.shares is not None
            else self.candidate.loads[self.context][self.kv]
        )


NOTHING = Choice()
CLOUD = Choice(cloud=True)
Choices = tuple[Choice, ...]


def cost(tables: tuple[Table, ...], choices: Choices) -> tuple[Values, ...]:
    """Return a placement's list of preferences, entry by entry; smaller is better."""
    values = [values_of(table, choice) for table, choice in zip(tables, choices, strict=True)]
    none = tuple(int(choice.none) for choice in choices)
    cloud = tuple(int(choice.cloud) for choice in choices)
    lines = (tuple(one[level] for one in values for level in line) for line in LINES)
    return ((sum(none),), none, (sum(cloud),), cloud, *lines)


def values_of(table: Table, choice: Choice) -> Values:
    """Return what lines 3 to 8 look at in one role's choice, in the order of `LEVELS`."""
    one = choice.candidate
    if one is None:
        return (0,) * len(LEVELS)
    place = one.place
    cards = len(place.pools)
    if choice.shares is None:
        return (
            one.rank,
            heavy_on_cpu(one),
            int(place.waits),
            one.quant,
            choice.context,
            light_on_cpu(one),
            choice.kv,
            cards,
        )
    shared = shared_values(table, choice)
    if shared is None:
        raise AssertionError("a role shares a server that its wish does not name")
    return (*shared, cards)


def heavy_on_cpu(one: Candidate) -> int:
    """Return 1 for a model with a decoder's build on a CPU, where it is many times slower."""
    return int(not one.place.on_gpu and one.model.attention is not None)


def light_on_cpu(one: Candidate) -> int:
    """Return 1 for an encoder or a Whisper on a CPU, where it is slower, and still useful."""
    return int(not one.place.on_gpu and one.model.attention is None)


def own_candidate(table: Table, one: Candidate) -> Candidate | None:
    """Return a candidate of the same bytes in a role's own table, wherever it would lie."""
    return next(
        (
            own
            for own in table.candidates
            if own.model.name == one.model.name and own.variant.name == one.variant.name
        ),
        None,
    )


def shared_values(table: Table, choice: Choice) -> Values | None:
    """Return the same without the cards for a role on another's server; None where its wish forbids that."""
    one = choice.candidate
    if one is None:
        return None
    mine = own_candidate(table, one)
    if mine is None or one.kv_types[choice.kv] not in mine.kv_types:
        return None
    tokens = choice.tokens
    if tokens < mine.contexts[-1]:
        return None
    missing = sum(step > tokens for step in mine.contexts)
    kv = mine.kv_types.index(one.kv_types[choice.kv])
    waits = int(one.place.waits)
    return (mine.rank, heavy_on_cpu(one), waits, mine.quant, missing, light_on_cpu(one), kv)
