"""Chat completions of an OpenAI-compatible server: what comes back is checked before it is used.

A reasoning model's thoughts come in `reasoning_content` (vLLM, llama.cpp), in `reasoning` (Ollama), or
between <think> tags in the text; they are taken apart here, so that only the answer is judged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.effects.http import OK, Http, HttpError
from tasks.effects.openai import json_object

SEED = 7
MOST_STREAM_BYTES = 4 << 20
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_THOUGHT_END = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL)
"""Some templates put the opening tag into the prompt, so that only the closing one is in the answer."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, without the thoughts; `finish` is why it ended ("stop", "length")."""

    text: str
    thought: bool
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How an answer streamed: when its first token came, and how fast the others followed."""

    first_token_s: float
    tokens_per_s: float


def text_part(text: str) -> dict[str, object]:
    """Return a part of a message that is text."""
    return {"type": "text", "text": text}


def picture_part(data_url: str) -> dict[str, object]:
    """Return a part of a message that is a picture."""
    return {"type": "image_url", "image_url": {"url": data_url}}


def chat(
    http: Http,
    base_url: str,
    model: str,
    content: str | Sequence[dict[str, object]],
    *,
    max_tokens: int,
    timeout_s: float,
) -> Said:
    """Say `content` as a user, at temperature 0 and with a fixed seed.

    Raises:
        HttpError: no answer, not a 200, or not a chat completion.
    """
    asked = _request(model, content if isinstance(content, str) else list(content), max_tokens)
    reply = http.post(_url(base_url), asked, timeout_s=timeout_s)
    body = json_object(reply)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise HttpError(f"an answer without choices ({reply.shown()})")
    message = choices[0].get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        raise HttpError(f"an answer without a message ({reply.shown()})")
    if message.get("role", "assistant") != "assistant":
        raise HttpError(f"a message of the {message['role']!r:.40} and not of the assistant")
    if "content" not in message:
        raise HttpError(f"a message without content ({reply.shown()})")
    whole = message["content"] or ""
    text = without_thoughts(whole)
    return Said(
        text=text,
        thought=text != whole.strip() or any(message.get(key) for key in ("reasoning_content", "reasoning")),
        finish=str(choices[0].get("finish_reason") or ""),
        prompt_tokens=_tokens(body, "prompt_tokens"),
        completion_tokens=_tokens(body, "completion_tokens"),
        seconds=reply.seconds,
    )


def without_thoughts(text: str) -> str:
    """Return the answer alone; thoughts that never end leave none."""
    return _THOUGHT_END.sub("", _THOUGHT.sub("", text)).strip()


def pace(http: Http, base_url: str, model: str, content: str, *, max_tokens: int, timeout_s: float) -> Pace:
    """Let an answer stream, and measure it.

    Raises:
        HttpError: no stream of chat completions, or one that does not end.
    """
    events = _Events(most=4 * max_tokens + 64)
    asked = {
        **_request(model, content, max_tokens),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    reply = http.post_lines(
        _url(base_url), asked, events.take, timeout_s=timeout_s, most_bytes=MOST_STREAM_BYTES
    )
    if reply.status != OK:
        raise HttpError(reply.shown())
    return events.pace()


@dataclass(slots=True)
class _Events:
    """Server-sent events as they come. `most` is how many an honest server sends."""

    most: int
    times: list[float] = field(default_factory=list)
    tokens: int = 0
    ended: bool = False
    count: int = 0

    def take(self, line: bytes, seconds: float) -> bool:
        """Take one line; more than `most` are too many."""
        import orjson  # noqa: PLC0415  # only a stream needs it here

        self.count += 1
        if self.count > 4 * self.most:
            raise HttpError(f"a stream that does not end ({self.count} lines)")
        if not line.startswith(b"data:"):
            return True
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self.ended = True
            return False
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise HttpError(f"a stream with {data[:60]!r}, which is not JSON") from None
        if isinstance(event, dict):
            self._event(event, seconds)
        return True

    def _event(self, event: dict[str, Any], seconds: float) -> None:
        self.tokens = max(self.tokens, _tokens(event, "completion_tokens"))
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(delta, dict) and any(
                delta.get(key) for key in ("content", "reasoning_content", "reasoning")
            ):
                self.times.append(seconds)
            self.ended |= bool(isinstance(choice, dict) and choice.get("finish_reason"))

    def pace(self) -> Pace:
        """Return what was measured."""
        if not self.times:
            raise HttpError("a stream without a token")
        if not self.ended:
            raise HttpError(f"a stream that broke off after {len(self.times)} parts")
        count, first, last = max(self.tokens, len(self.times)), self.times[0], self.times[-1]
        if last == first:  # the server sent all of it at once
            return Pace(first, count / max(last, 1e-9))
        return Pace(first, (count - 1) / (last - first))


def _url(base_url: str) -> str:
    return f"{base_url.rstrip('/')}/chat/completions"


def _request(model: str, content: object, max_tokens: int) -> dict[str, object]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "seed": SEED,
    }


def _tokens(body: dict[str, Any], name: str) -> int:
    usage = body.get("usage")
    tokens = usage.get(name) if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else 0
