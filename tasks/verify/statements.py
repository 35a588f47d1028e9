"""What a server itself says of the context that it serves. One row for each runtime that says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.contracts import RuntimeName, Unknown
from tasks.effects import ollama_api
from tasks.effects.http import HttpError
from tasks.effects.openai import json_object
from tasks.verify.asking import Asked

TIMEOUT_S = 10.0


def context(asked: Asked) -> int | Unknown:
    """Return how many tokens a request may have, as the server says it."""
    row = _ROWS.get(asked.planned.runtime)
    if row is None:
        return Unknown(f"{asked.planned.runtime} does not say how many tokens it takes")
    try:
        said = row(asked)
    except HttpError as error:
        return Unknown(str(error))
    if isinstance(said, bool) or not isinstance(said, int) or said <= 0:
        return Unknown("it does not say how many tokens it takes")
    return said


def _ollama(asked: Asked) -> Any:  # noqa: ANN401  # whatever a server sends
    """Look at /api/ps, which has only what is loaded."""
    found = ollama_api.loaded(asked.http, asked.root_url, asked.server.asked_as, TIMEOUT_S)
    return found.context if found else None


def _llama_cpp(asked: Asked) -> Any:  # noqa: ANN401  # whatever a server sends
    """Look at /props: `n_ctx` is that of one slot.

    https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    """
    body = json_object(asked.http.get(f"{asked.root_url}/props", timeout_s=TIMEOUT_S))
    settings = body.get("default_generation_settings")
    return settings.get("n_ctx") if isinstance(settings, dict) else None


def _listed(asked: Asked) -> Any:  # noqa: ANN401  # whatever a server sends
    """Look at /v1/models: vLLM says `max_model_len` of each."""
    base = asked.server.base_url.rstrip("/")
    rows = json_object(asked.http.get(f"{base}/models", timeout_s=TIMEOUT_S)).get("data")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("id") == asked.server.asked_as:
            return row.get("max_model_len")
    return None


_ROWS: dict[RuntimeName, Callable[[Asked], Any]] = {
    "ollama": _ollama,
    "llama.cpp": _llama_cpp,
    "vllm": _listed,
    "external": _listed,
}
