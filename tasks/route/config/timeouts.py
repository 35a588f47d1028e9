"""What was measured of a server → how long the gateway waits for it, in steps. Pure.

A time-out is `SAFETY` times what a server needs when nobody else asks it, rounded up to a step. One that the
config already has stays while it is still `KEPT_SAFETY` times that, and not more than twice the step, so that
what a second run measures on a healthy host changes no byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import VerifiedServer

STEPS_MS = tuple(s * 1000 for s in (30, 45, 60, 90, 120, 180, 240, 360, 480, 600, 900))
"""From half a minute, below which a busy host would look dead, to the gateway's own limit for a request."""

MOST_MS = STEPS_MS[-1]
SAFETY = 3.0
"""Other requests wait in line, and a server is measured alone and warm. Chosen."""

KEPT_SAFETY = 2.0
UNMEASURED_MS = 600_000
"""A model that takes turns may have to be loaded first, and a long context to be read. Chosen."""

EMBEDDINGS_LEAST_MS = 120_000
"""A full batch of long texts takes a small CPU most of a minute."""

BATCH_TEXTS = 256
PROMPT_PACE = 4.0
"""A prompt is read at least this many times as fast as an answer is written, where only that was measured."""

CLOUD_FIRST_S, CLOUD_TOKENS_PER_S = 60, 25
"""The wait for a cloud's first word, some of which think before it, and the pace of a slow one. Chosen."""


@dataclass(frozen=True, slots=True)
class Need:
    """Seconds that a server needs: by what was measured, and with guesses for what was not."""

    known_s: float
    guessed_s: float | None

    def after(self, known_s: float, guessed_s: float | None) -> Need:
        """Return the need for this and something more."""
        both = self.guessed_s is not None and guessed_s is not None
        total = (self.guessed_s or 0.0) + (guessed_s or 0.0) if both else None
        return Need(self.known_s + known_s, total)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the gateway waits for a whole answer, and for the first piece of a stream."""

    total_ms: int
    first_ms: int


def chat(server: VerifiedServer, tokens: int, before: Waits | None) -> Waits:
    """Return the waits for a server whose answers have at most `tokens`."""
    found = server.performance
    load_s = max(found.load_s, server.server.load_s)
    context = found.context or server.server.planned.context
    first = Need(load_s, load_s).after(found.first_token_s, found.first_token_s or None)
    first = first.after(*_part(context, found.prompt_tokens_per_s, PROMPT_PACE * found.tokens_per_s))
    total = first.after(*_part(tokens, found.tokens_per_s, 0.0))
    first_ms = sized(first, before.first_ms if before else None)
    return Waits(max(sized(total, before.total_ms if before else None), first_ms), first_ms)


def embeddings_ms(server: VerifiedServer, before_ms: int | None) -> int:
    """Return the wait for a batch of texts."""
    per_s = server.performance.texts_per_s or server.texts_per_s
    load_s = max(server.performance.load_s, server.server.load_s)
    need = Need(load_s, load_s).after(*_part(BATCH_TEXTS, per_s, 0.0))
    return sized(need, before_ms, least_ms=EMBEDDINGS_LEAST_MS, unmeasured_ms=EMBEDDINGS_LEAST_MS)


def cloud(tokens: int) -> Waits:
    """Return the waits for a cloud whose answers have at most `tokens`."""
    total_ms = _step(1000 * (CLOUD_FIRST_S + tokens / CLOUD_TOKENS_PER_S), STEPS_MS[0])
    return Waits(total_ms, CLOUD_FIRST_S * 1000)


def sized(
    need: Need, before_ms: int | None, *, least_ms: int = STEPS_MS[0], unmeasured_ms: int = UNMEASURED_MS
) -> int:
    """Return the wait for a need, or the one there was before while it will do."""
    step = (
        _step(SAFETY * 1000 * need.guessed_s, least_ms)
        if need.guessed_s is not None
        else max(unmeasured_ms, _step(SAFETY * 1000 * need.known_s, least_ms))
    )
    sure = need.guessed_s == need.known_s
    lowest = max(least_ms, min(KEPT_SAFETY * 1000 * need.known_s, MOST_MS))
    highest = min(2 * step, MOST_MS) if sure else MOST_MS
    return before_ms if before_ms is not None and lowest <= before_ms <= highest else step


def _part(count: int, per_s: float, guess_per_s: float) -> tuple[float, float | None]:
    """Return the seconds for so many tokens or texts: known, and at least guessed where they can be."""
    if per_s > 0:
        return count / per_s, count / per_s
    if not count:
        return 0.0, 0.0
    return 0.0, count / guess_per_s if guess_per_s > 0 else None


def _step(wait_ms: float, least_ms: int) -> int:
    return next((step for step in STEPS_MS if step >= max(wait_ms, least_ms)), MOST_MS)
