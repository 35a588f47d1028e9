"""Vectors of texts whose meanings are known to be near or far. `judge` is pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tasks.contracts import Answer, Performance
from tasks.effects.openai import Embeddings, Vector, embed
from tasks.verify.asking import Asked, Found
from tasks.verify.probe_shapes import EmbeddingsProbe, ProbeFile

NORM_TOLERANCE = 1e-3
SINGLES = 5
BATCH = tuple(f"the quick brown fox jumps over the lazy dog number {number}" for number in range(32))
BATCHES = 3
BATCHES_BUDGET_S = 0.5
"""No further batch begins after this time, so that a whole run stays short."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a server answered: to both pairs and the first text again, and twice to that text alone."""

    probe: EmbeddingsProbe
    dimensions: int | None
    together: Embeddings
    alone: Embeddings
    again: Embeddings

    @property
    def latency_s(self) -> float:
        """Time of a request of one text."""
        return median((self.alone.seconds, self.again.seconds))


@dataclass(frozen=True, slots=True)
class _Checked:
    question: str
    expected: str
    got: str
    right: bool


def ask(probes: ProbeFile, asked: Asked) -> Found | None:
    """Ask for vectors; measure, unless the look is a light one."""
    probe = probes.embeddings
    if probe is None:
        return None
    given = texts(probe)
    alone, again = _embed(asked, given[:1]), _embed(asked, given[:1])
    evidence = Evidence(probe, asked.planned.dimensions, _embed(asked, given), alone, again)
    answers = asked.check(judge(evidence))
    latency_s, per_s = _speed(asked, evidence, given)
    return Found(answers, performance=Performance(texts_per_s=per_s), latency_s=latency_s)


def texts(probe: EmbeddingsProbe) -> tuple[str, ...]:
    """Return the texts of one request: both pairs, and the first text again."""
    (one, near), (other, close) = probe.pairs
    return tuple(probe.prefix + text for text in (one, near, other, close, one))


def judge(evidence: Evidence) -> tuple[Answer, ...]:
    """Answer every question from the evidence."""
    seconds = evidence.together.seconds
    checks = (dimensions, unit_norm, similarity, repeatable, batch_is_single)
    found = [check(evidence) for check in checks if check is not unit_norm or evidence.probe.unit_norm]
    return tuple(Answer(one.question, one.expected, one.got, one.right, seconds) for one in found)


def dimensions(evidence: Evidence) -> _Checked:
    """Count the numbers of a vector."""
    want, got = evidence.dimensions, len(evidence.together.vectors[0])
    return _Checked(
        "how many numbers has a vector",
        f"{want or 'any number of'} numbers",
        f"{got} numbers",
        want in (None, got),
    )


def unit_norm(evidence: Evidence) -> _Checked:
    """Find the vector whose length is farthest from 1."""
    norms = [math.sqrt(_dot(vector, vector)) for vector in evidence.together.vectors]
    worst = max(norms, key=lambda norm: abs(norm - 1))
    return _Checked(
        "how long is a vector",
        f"1 within {NORM_TOLERANCE:g}",
        f"{worst:.4f}",
        abs(worst - 1) <= NORM_TOLERANCE,
    )


def similarity(evidence: Evidence) -> _Checked:
    """Compare the similarity within the pairs with that between them."""
    cat, kitten, crash, fall, _ = evidence.together.vectors
    near = min(cosine(cat, kitten), cosine(crash, fall))
    far = max(cosine(one, other) for one in (cat, kitten) for other in (crash, fall))
    (one, close), (other, also) = evidence.probe.pairs
    margin = evidence.probe.margin_percent / 100
    return _Checked(
        f'are "{one}" and "{close}", "{other}" and "{also}" nearer to each other than across',
        f"at least {margin:g} more within the pairs than between them",
        f"{near:.2f} within and {far:.2f} between",
        near - far >= margin,
    )


def repeatable(evidence: Evidence) -> _Checked:
    """Compare the vectors of two equal requests."""
    return _distance(
        "is the vector of a text the same twice",
        evidence.alone.vectors[0],
        evidence.again.vectors[0],
        evidence.probe.same_millionths / 1e6,
    )


def batch_is_single(evidence: Evidence) -> _Checked:
    """Compare the vector of a text alone with its vectors as the first and the last of several."""
    found = [
        _distance(
            "is the vector of a text among others the one it has alone",
            evidence.alone.vectors[0],
            vector,
            evidence.probe.batch_millionths / 1e6,
        )
        for vector in (evidence.together.vectors[0], evidence.together.vectors[-1])
    ]
    return max(found, key=lambda one: not one.right)


def cosine(one: Vector, other: Vector) -> float:
    """Return the cosine of the angle between two vectors, 0 where one has no length."""
    length = math.sqrt(_dot(one, one) * _dot(other, other))
    return _dot(one, other) / length if length else 0.0


def _distance(question: str, one: Vector, other: Vector, tolerance: float) -> _Checked:
    expected = f"differs by at most {tolerance:g}"
    if len(one) != len(other):
        return _Checked(question, expected, f"{len(one)} and {len(other)} numbers", right=False)
    worst = max(abs(left - right) for left, right in zip(one, other, strict=True))
    return _Checked(question, expected, f"differs by {worst:.1g}", worst <= tolerance)


def _dot(one: Vector, other: Vector) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))


def _embed(asked: Asked, given: Sequence[str]) -> Embeddings:
    request: Callable[[float], Embeddings] = lambda left: embed(  # noqa: E731  # typed, so that it can be passed
        asked.http, asked.server.base_url, asked.server.asked_as, given, left
    )
    count = f"{len(given)} text{'s' * (len(given) > 1)}"
    return asked.ask(f"what are the vectors of {count}", "a vector for each", request)


def _speed(asked: Asked, evidence: Evidence, given: Sequence[str]) -> tuple[float, float]:
    """Return the seconds of a request of one text, and the texts/s of full batches."""
    if asked.light:
        return evidence.latency_s, len(given) / max(evidence.together.seconds, 1e-9)
    singles = [_embed(asked, given[:1]).seconds for _ in range(SINGLES)]
    batches: list[float] = []
    while len(batches) < BATCHES and sum(batches) < BATCHES_BUDGET_S:
        batches.append(_embed(asked, BATCH).seconds)
    return median(singles), len(BATCH) / max(min(batches), 1e-9)
