"""Ready, and listed: the two things that a server says by itself before it is asked anything."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasks.contracts import Answer, PlannedModel, RuntimeName
from tasks.effects.http import OK, HttpError
from tasks.effects.ollama_api import tagged
from tasks.effects.openai import json_object, models
from tasks.effects.wire import printable
from tasks.verify import deadlines
from tasks.verify.asking import SHOWN, Asked

POLL_S = 0.05
HEALTH_TIMEOUT_S = 2.0
LISTING_S = 10.0
HEALTH = "/health"
HEALTHS: dict[RuntimeName, str] = {"ollama": "/api/version", "external": "/v1/models"}
"""Ollama has no health path, and of a server that is not ours only OpenAI's paths are known."""


def wait_until_ready(
    asked: Asked, within_s: float, *, health_path: str, progress: Callable[[], float] | None
) -> None:
    """Return once the health path answers 200.

    Raises:
        VerifyError: it does not in time, or nothing moves meanwhile.
        StoppedError: the run was asked to stop.
    """
    url = asked.root_url + (health_path or HEALTHS.get(asked.planned.runtime, HEALTH))
    asked.say(f"asks {url}")
    still_s = deadlines.still_s(asked.planned)
    begun = moved = time.monotonic()
    mark = progress() if progress else 0.0
    last = "no answer"
    while (left := begun + within_s - time.monotonic()) > 0:
        asked.refuse_stop()
        try:
            reply = asked.http.get(url, timeout_s=min(HEALTH_TIMEOUT_S, left))
        except HttpError as error:
            last = str(error)
        else:
            if reply.status == OK:
                return
            last = reply.shown()
        if progress and (now := progress()) != mark:
            moved, mark = time.monotonic(), now
        if progress and time.monotonic() - moved > still_s:
            raise asked.error(f"stands still: nothing moved for {still_s:g} s (last answer: {last})")
        time.sleep(min(POLL_S, max(0.0, left)))
    raise asked.error(f"was not ready within {within_s:g} s (last answer: {last})")


def listed(asked: Asked) -> Answer:
    """Look for the model among those that the server names."""
    begun = time.monotonic()
    question, wanted = "which models are listed", asked.server.asked_as
    asked.refuse_stop()
    try:
        names = _NAMES.get(asked.planned.runtime, _models)(asked)
    except HttpError as error:
        raise asked.wrong(question, wanted, str(error)) from None
    got = printable(", ".join(names))[:SHOWN] or "none"
    right = any(_same(wanted, name, asked.planned) for name in names)
    return Answer(question, wanted, got, right, time.monotonic() - begun)


def _same(wanted: str, name: str, planned: PlannedModel) -> bool:
    if name == wanted:
        return True
    if planned.runtime == "ollama":
        return tagged(name) == tagged(wanted)
    return planned.runtime == "tei" and planned.weights is not None and planned.weights.revision in name


def _models(asked: Asked) -> tuple[str, ...]:
    return models(asked.http, asked.server.base_url, LISTING_S)


def _tei(asked: Asked) -> tuple[str, ...]:
    """Look at /info; TEI serves one model, and not every release lists it as OpenAI does.

    https://github.com/huggingface/text-embeddings-inference/blob/main/router/src/lib.rs
    """
    body = json_object(asked.http.get(f"{asked.root_url}/info", timeout_s=LISTING_S))
    return tuple(str(body[key]) for key in ("served_model_name", "model_id") if body.get(key))


_NAMES: dict[RuntimeName, Callable[[Asked], tuple[str, ...]]] = {"tei": _tei}
