"""Questions with known answers. Pure: what a server answered becomes one `Answer` for each question.

A 200 is not health: a server that lists the model and answers every request, but with the wrong
numbers, fails here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tasks.contracts import Answer, Role
from tasks.effects.openai import Embeddings, Vector

CAT, KITTEN = "a cat sits", "a kitten rests"
CRASH, FALL = "the stock market crashed", "share prices fell sharply"
TEXTS = (CAT, KITTEN, CRASH, FALL, CAT)
"""One request. The pairs mean nearly the same, between the pairs there is nothing in common."""

NORM_TOLERANCE = 1e-3
MARGIN = 0.2
"""all-MiniLM-L6-v2 has 0.66 and 0.61 within the pairs and at most 0.12 between them."""
SAME_TOLERANCE = 1e-6
BATCH_TOLERANCE = 1e-4
"""Padding changes the order of sums; on accelerators with short floats that shows in the 5th digit."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a server answered: to all of `TEXTS` together, and twice to the first alone."""

    dimensions: int | None
    together: Embeddings
    alone: Embeddings
    again: Embeddings

    @property
    def latency_s(self) -> float:
        """Time of a request of one text."""
        return median((self.alone.seconds, self.again.seconds))


@dataclass(frozen=True, slots=True)
class Finding:
    """What one question brought to light."""

    got: str
    right: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """One question; `check` looks for its answer in the evidence."""

    question: str
    expected: str
    check: Callable[[Evidence], Finding]


def judge(probes: Sequence[Probe], evidence: Evidence) -> tuple[Answer, ...]:
    """Answer every probe from the evidence."""
    seconds = evidence.together.seconds
    findings = ((probe, probe.check(evidence)) for probe in probes)
    return tuple(
        Answer(probe.question, _expected(probe, evidence), found.got, right=found.right, seconds=seconds)
        for probe, found in findings
    )


def _expected(probe: Probe, evidence: Evidence) -> str:
    return probe.expected.format(dimensions=evidence.dimensions or "any number of")


def dimensions(evidence: Evidence) -> Finding:
    """Count the numbers of a vector."""
    got = len(evidence.together.vectors[0])
    return Finding(f"{got} numbers", evidence.dimensions in (None, got))


def unit_norm(evidence: Evidence) -> Finding:
    """Find the vector whose length is farthest from 1."""
    norms = [math.sqrt(_dot(vector, vector)) for vector in evidence.together.vectors]
    worst = max(norms, key=lambda norm: abs(norm - 1))
    return Finding(f"{worst:.4f}", abs(worst - 1) <= NORM_TOLERANCE)


def similarity(evidence: Evidence) -> Finding:
    """Compare the similarity within the pairs with that between them."""
    cat, kitten, crash, fall, _ = evidence.together.vectors
    near = min(cosine(cat, kitten), cosine(crash, fall))
    far = max(cosine(one, other) for one in (cat, kitten) for other in (crash, fall))
    return Finding(f"{near:.2f} within and {far:.2f} between", near - far >= MARGIN)


def repeatable(evidence: Evidence) -> Finding:
    """Compare the vectors of two equal requests."""
    return _distance(evidence.alone.vectors[0], evidence.again.vectors[0], SAME_TOLERANCE)


def batch_is_single(evidence: Evidence) -> Finding:
    """Compare the vector of a text alone with its vectors as the first and the last of several."""
    alone = evidence.alone.vectors[0]
    places = (evidence.together.vectors[0], evidence.together.vectors[-1])
    return max(
        (_distance(alone, vector, BATCH_TOLERANCE) for vector in places), key=lambda found: not found.right
    )


EMBEDDINGS = (
    Probe("how many numbers has a vector", "{dimensions} numbers", dimensions),
    Probe("how long is a vector", f"1 within {NORM_TOLERANCE:g}", unit_norm),
    Probe(
        f'are "{CAT}" and "{KITTEN}", "{CRASH}" and "{FALL}" nearer to each other than across',
        f"at least {MARGIN:g} more within the pairs than between them",
        similarity,
    ),
    Probe("is the vector of a text the same twice", f"differs by at most {SAME_TOLERANCE:g}", repeatable),
    Probe(
        "is the vector of a text among others the one it has alone",
        f"differs by at most {BATCH_TOLERANCE:g}",
        batch_is_single,
    ),
)

PROBES: dict[Role, tuple[Probe, ...]] = {"embeddings": EMBEDDINGS}
"""The roles that can be verified."""


def cosine(one: Vector, other: Vector) -> float:
    """Return the cosine of the angle between two vectors, 0 where one has no length."""
    length = math.sqrt(_dot(one, one) * _dot(other, other))
    return _dot(one, other) / length if length else 0.0


def _distance(one: Vector, other: Vector, tolerance: float) -> Finding:
    if len(one) != len(other):
        return Finding(f"{len(one)} and {len(other)} numbers", right=False)
    worst = max(abs(left - right) for left, right in zip(one, other, strict=True))
    return Finding(f"differs by {worst:.1g}", worst <= tolerance)


def _dot(one: Vector, other: Vector) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))
