"""Ollama's own API, as far as verify reads it: which models are loaded, and where they lie.

`size` and `size_vram` are what the runner logged while it loaded
(https://github.com/ollama/ollama/blob/main/server/routes.go, PsHandler): equal means all on GPUs, 0 none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.effects.http import Http, HttpError
from tasks.effects.openai import json_object


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that Ollama holds in memory."""

    name: str
    size_bytes: int
    vram_bytes: int
    context: int


def loaded(http: Http, root_url: str, name: str, timeout_s: float) -> Loaded | None:
    """Return the model of that name (without a tag, "latest" is meant) as /api/ps has it, or None.

    Raises:
        HttpError: no answer, not a 200, or not a list of models with their sizes.
    """
    rows = json_object(http.get(f"{root_url}/api/ps", timeout_s=timeout_s)).get("models")
    if not isinstance(rows, list):
        raise HttpError("an answer without a list of loaded models")
    found = [row for row in rows if isinstance(row, dict) and tagged(str(row.get("name"))) == tagged(name)]
    return _loaded(found[0]) if found else None


def tagged(name: str) -> str:
    """Return a name with its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _loaded(row: dict[str, Any]) -> Loaded:
    sizes = [row.get(key, 0) for key in ("size", "size_vram", "context_length")]
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 0 for size in sizes):
        raise HttpError(f"sizes that are no numbers: {sizes!r:.80}")
    return Loaded(str(row.get("name")), *sizes)
