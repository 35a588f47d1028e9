"""OpenAI's chat API as the runtimes speak it: what is the same in all, with what differs left to each."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .brain import answer, first, tokens
from .common import Body, Handler, Play
from .meaning import vector
from .picture import described

IMAGE_TOKENS = 64
TEMPLATE_TOKENS = 4
"""What a chat template puts around each message."""
MOST_TOKENS = 4096


@dataclass(frozen=True)
class Said:
    """What a chat request holds."""

    text: str
    question: str
    images: tuple[str, ...]
    messages: int

    @classmethod
    def read(cls, messages: list[Body]) -> Said:
        """Read OpenAI's messages, whose content is a text or a list of parts."""
        texts, images, last = [], [], ""
        for message in messages:
            content = message.get("content") or ""
            parts: list[Body] = [{"type": "text", "text": content}] if isinstance(content, str) else content
            written = "\n".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
            images += [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
            images += message.get("images") or []
            texts.append(written)
            last = written if message.get("role") == "user" else last
        return cls("\n\n".join(texts), last, tuple(images), len(messages))

    @property
    def prompt_tokens(self) -> int:
        """How many tokens it has."""
        return len(tokens(self.text)) + IMAGE_TOKENS * len(self.images) + TEMPLATE_TOKENS * self.messages


@dataclass(frozen=True)
class Answer:
    """What is answered, and what it cost."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex[:24]}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> dict[str, Any]:
        """The usage that every runtime states."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


def answered(play: Play, said: Said, most: int | None, *, left: int = MOST_TOKENS) -> Answer:
    """Answer a chat: from its picture, or from its text, in at most `most` tokens and what is `left`."""
    if said.images:
        right = play.knobs.vision_answer or described(said.images[-1], said.question)
    else:
        right = answer(said.text)
    text = play.said(right)
    count, room = len(tokens(text)), max(1, min(most or MOST_TOKENS, left))
    if count > room:
        return Answer(first(text, room), "length", said.prompt_tokens, room)
    return Answer(text, "stop", said.prompt_tokens, max(1, count))


@dataclass(frozen=True)
class Dialect:
    """How one runtime writes its answers.

    Attributes:
        whole: The answer's object, from the answer and the model.
        chunk: The same for one event of a stream, without its choices.
        choice: What a choice has besides index, message or delta, and finish_reason.
        usage: The usage as it writes it.
    """

    whole: Callable[[Answer, str], Body]
    chunk: Callable[[Answer, str], Body]
    message: Callable[[str], Body]
    choice: Body
    usage: Callable[[Answer], Body]


def send_chat(handler: Handler, body: Body, given: Answer, model: str, dialect: Dialect) -> None:
    """Send an answer as one object, or as the events of a stream."""
    if body.get("stream"):
        handler.events(_events(handler.play, body, given, model, dialect))
        return
    handler.play.pace(given.completion_tokens)
    choice = {
        "index": 0,
        "message": dialect.message(given.text),
        "finish_reason": given.finish,
        **dialect.choice,
    }
    handler.json(200, {**dialect.whole(given, model), "choices": [choice], "usage": dialect.usage(given)})


def _events(play: Play, body: Body, given: Answer, model: str, dialect: Dialect) -> Iterator[Body]:
    base = dialect.chunk(given, model)

    def event(delta: Body, finish: str | None = None) -> Body:
        return {**base, "choices": [{"index": 0, "delta": delta, **dialect.choice, "finish_reason": finish}]}

    yield event({"role": "assistant", "content": ""})
    for piece in play.pieces(given.text):
        yield event({"content": piece})
    yield event({}, given.finish)
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**base, "choices": [], "usage": dialect.usage(given)}


def vectors(play: Play, texts: list[str], dimensions: int) -> list[list[float]]:
    """Return the vectors of texts, spoilt as the faults say."""
    rows = [vector("nothing" if play.faults.has("same") else text, dimensions) for text in texts]
    if play.faults.has("wrong"):
        rows = [vector(f"{place} {len(texts)}", dimensions) for place, _ in enumerate(texts)]
    if play.faults.has("unnormed"):
        rows = [[2 * value for value in row] for row in rows]
    if play.faults.has("drift"):
        rows = [[value + 1e-3 * math.sin(time.monotonic() * 1e6) for value in row] for row in rows]
    if play.faults.has("nan"):
        rows[0][0] = math.nan
    return rows[:-1] if play.faults.has("empty") else rows


def indexes(play: Play, count: int) -> list[int]:
    """Return the index of each row, wrong if it was asked for."""
    return [place + 1 for place in range(count)] if play.faults.has("wrong-index") else list(range(count))


def texts_of(body: Body, key: str = "input") -> list[str] | None:
    """Return the texts of an embeddings request, None where they are of no kind that fits."""
    given = body.get(key)
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return given
    return None
