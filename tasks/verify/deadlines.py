"""How long a server may take: to load, to answer one question, and for all of it together. Pure.

A slow load is not a failure, so time grows with bytes. Every number here is chosen, on the patient side.
"""

from __future__ import annotations

from tasks.contracts import PlannedModel, RuntimeName

SLOWEST_BYTES_PER_S = 25_000_000
"""An SD card, or a disk that others use too."""
START_S = 60.0
STARTS_S: dict[RuntimeName, float] = {"vllm": 600.0}
"""vLLM compiles its model and captures graphs of it before it answers, which takes minutes."""
STILL_S = 120.0
STILLS_S: dict[RuntimeName, float] = {"vllm": 300.0}
"""How long nothing may move while a server loads."""
REQUEST_S = 30.0
SLOWEST_TOKENS_PER_S = 1.0
SLOWEST_PROMPT_PER_S = 10.0
WORSE = 4
"""By how much a model may miss its planned speed before its answer is late."""
QUESTIONS_S = 60.0
"""For all questions to models that generate no text; others get time by their tokens."""
DECODERS = frozenset({"llm", "code", "vision"})


def size_bytes(planned: PlannedModel) -> int:
    """Return what the server reads before it answers."""
    origin = planned.weights or planned.ollama or planned.repo
    return origin.size_bytes if origin else planned.memory_bytes


def load_s(planned: PlannedModel) -> float:
    """Return how long a server may take until it is ready."""
    return STARTS_S.get(planned.runtime, START_S) + size_bytes(planned) / SLOWEST_BYTES_PER_S


def still_s(planned: PlannedModel) -> float:
    """Return how long nothing may move meanwhile."""
    return STILLS_S.get(planned.runtime, STILL_S)


def tokens_per_s(planned: PlannedModel) -> float:
    """Return the slowest pace at which an answer is waited for."""
    speed = planned.speed
    expected = speed.per_s / WORSE if speed is not None and speed.unit == "tokens/s" else 0.0
    return max(SLOWEST_TOKENS_PER_S, expected)


def request_s(planned: PlannedModel, *, max_tokens: int = 0, prompt_tokens: int = 0) -> float:
    """Return how long one answer may take."""
    return REQUEST_S + max_tokens / tokens_per_s(planned) + prompt_tokens / SLOWEST_PROMPT_PER_S


def deadline_for(planned: PlannedModel) -> float:
    """Return how long verifying a model may take in all: its load, and then its questions.

    A model that generates gets an hour for these; each answer has its own, much shorter time.
    """
    decodes = DECODERS & {planned.role, *planned.also}
    return load_s(planned) + (3600.0 if decodes else QUESTIONS_S)
