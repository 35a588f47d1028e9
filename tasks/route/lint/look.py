"""What the linter's rules look at: the parts of a config by their places.

What has another shape is skipped, because TensorZero refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str, ...]
Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule found: where, a clause that says what happens there, and what to do as an imperative."""

    where: Place
    what: str
    then: str


@dataclass(frozen=True, slots=True)
class Look:
    """A config, and the variables that its gateway will have beside the keys."""

    config: Table
    environment: frozenset[str] = field(default=frozenset())

    def functions(self) -> Iterator[tuple[Place, Table]]:
        """Yield every function with its place."""
        return entries(self.config, "functions")

    def variants(self) -> Iterator[tuple[Place, Table]]:
        """Yield every variant of every function with its place."""
        for place, function in self.functions():
            yield from entries(function, "variants", before=place)

    def models(self, *names: str) -> Iterator[tuple[Place, Table]]:
        """Yield every model with its place, of `models` and `embedding_models` or of those named."""
        for name in names or ("models", "embedding_models"):
            yield from entries(self.config, name)

    def providers(self, *names: str) -> Iterator[tuple[Place, Table]]:
        """Yield every provider of every model with its place."""
        for place, model in self.models(*names):
            yield from entries(model, "providers", before=place)

    def model_of(self, variant: Table) -> Table:
        """Return the model that a variant names; empty where it is no entry of `models`."""
        name = variant.get("model")
        return table(self.config, "models", name) if isinstance(name, str) else {}


def table(inside: object, *keys: str) -> Table:
    """Return the table at a place; empty where there is none."""
    for key in keys:
        inside = inside.get(key) if isinstance(inside, Mapping) else None
    return inside if isinstance(inside, Mapping) else {}


def entries(inside: object, *keys: str, before: Place = ()) -> Iterator[tuple[Place, Table]]:
    """Yield the tables in the table at a place, each with its own place."""
    for name, entry in table(inside, *keys).items():
        if isinstance(entry, Mapping):
            yield (*before, *keys, name), entry


def words(inside: Table, key: str) -> tuple[str, ...]:
    """Return the names in a list, or those of a table whose weight is not 0."""
    value = inside.get(key)
    if isinstance(value, Mapping):
        return tuple(name for name, weight in value.items() if weight)
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def number(inside: Table, *keys: str) -> int | None:
    """Return the number at a place, if there is one."""
    value = table(inside, *keys[:-1]).get(keys[-1])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(inside: Table, key: str) -> str:
    """Return the string of a key; empty where it has none."""
    value = inside.get(key)
    return value if isinstance(value, str) else ""
