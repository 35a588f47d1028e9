"""What texts mean, as far as a list of words goes: vectors that are near when meanings are, and rankings."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Sequence
from functools import lru_cache

_STOP_WORDS = (
    "a an the is are was were be of to in on at for and or not it its this that these those what which"
    " who when where how do does did i you my your me we our with by from as than then there here one two"
    " please only just answer reply question text following have has had can will would should could about"
    " into up out"
)
STOP = frozenset(_STOP_WORDS.split())
CONCEPTS = {
    "feline": "cat cats kitten kittens kitty tomcat",
    "dog": "dog dogs puppy puppies hound",
    "rest": "sit sits sat sitting rest rests rested resting sleep sleeps slept nap naps lies lay doze dozes",
    "finance": "stock stocks share shares market markets price prices equity equities bond bonds"
    " nasdaq index",
    "fall": "crash crashed crashes fell fall falls fallen sharply drop dropped drops plunged tumbled",
    "bread": "bread loaf dough bake bakes baked baking baker oven flour yeast knead",
    "car": "car cars vehicle automobile engine motor drive driving",
    "weather": "weather rain rains sunny cloudy storm snow forecast wind",
    "planet": "planet planets mars venus jupiter saturn orbit earth moon",
    "city": "city capital town metropolis",
    "france": "france french paris",
    "germany": "germany german berlin",
    "plant": "plant plants photosynthesis leaf leaves chlorophyll sunlight",
    "computer": "computer computers software program programming python code",
    "heart": "heart blood pump pumps artery arteries cardiac",
}
_CONCEPT = {word: concept for concept, words in CONCEPTS.items() for word in words.split()}


def content(text: str) -> set[str]:
    """Return the words of a text that carry its meaning."""
    return {stem(word) for word in re.findall(r"\w+", text.lower())} - STOP


def stem(word: str) -> str:
    """Return a word without the s of its plural."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@lru_cache(4096)
def _direction(name: str, dimensions: int) -> tuple[float, ...]:
    source = random.Random(hashlib.sha256(name.encode()).digest())  # noqa: S311  # no secret
    values = [source.gauss(0, 1) for _ in range(dimensions)]
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return tuple(value / length for value in values)


def vector(text: str, dimensions: int) -> list[float]:
    """Return a unit vector that is near to those of texts with the same words or of the same concepts."""
    total = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        concept = _CONCEPT.get(word)
        parts = [(f"word {stem(word)}", 0.1 if word in STOP else 0.5 if concept else 1.0)]
        if concept:
            parts.append((f"concept {concept}", 1.0))
        for name, weight in parts:
            for place, value in enumerate(_direction(name, dimensions)):
                total[place] += weight * value
    length = math.sqrt(sum(value * value for value in total))
    return [value / length for value in total] if length else list(_direction("nothing", dimensions))


def relevance(query: str, text: str) -> float:
    """Return how well a text answers a query, as a logit: above 0 it does."""
    likeness = sum(a * b for a, b in zip(vector(query, 512), vector(text, 512), strict=True))
    shared = content(query) & content(text)
    return 14 * (likeness + 0.05 * len(shared)) - 5


def sigmoid(logit: float) -> float:
    """Return a logit as a score between 0 and 1."""
    return 1 / (1 + math.exp(-logit))


def rank(query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
    """Return places and logits, the best first."""
    return sorted(
        ((place, relevance(query, text)) for place, text in enumerate(texts)), key=lambda one: -one[1]
    )
