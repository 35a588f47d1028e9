"""A ranking that is wrong as the faults say."""

from __future__ import annotations

from .common import Play

Ranked = list[tuple[int, float]]


def spoilt(play: Play, ranked: Ranked) -> Ranked:
    """Return a ranking, spoilt as the faults say."""
    if play.faults.has("wrong"):
        places = [place for place, _ in reversed(ranked)]
        ranked = list(zip(places, (score for _, score in ranked), strict=True))
    if play.faults.has("same"):
        ranked = [(place, ranked[0][1]) for place, _ in ranked]
    if play.faults.has("nan"):
        ranked = [(place, float("nan")) for place, _ in ranked]
    if play.faults.has("wrong-index"):
        ranked = [(place + len(ranked), score) for place, score in ranked]
    return ranked[:-1] if play.faults.has("empty") else ranked
