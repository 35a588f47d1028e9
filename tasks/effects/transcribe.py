"""Transcription by an OpenAI-compatible server."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.effects.http import Http, HttpError
from tasks.effects.openai import json_object
from tasks.effects.wire import FormFile


@dataclass(frozen=True, slots=True)
class Heard:
    """What a server heard in a recording."""

    text: str
    seconds: float


def transcribe(
    http: Http, base_url: str, model: str, wav: bytes, *, language: str, timeout_s: float
) -> Heard:
    """Send a recording, a WAV file, at temperature 0.

    Raises:
        HttpError: no answer, not a 200, or one without a text.
    """
    form = {"model": model, "response_format": "json", "temperature": "0", "language": language}
    file = FormFile("file", "speech.wav", "audio/wav", wav)
    reply = http.post_form(f"{base_url.rstrip('/')}/audio/transcriptions", form, file, timeout_s=timeout_s)
    text = json_object(reply).get("text")
    if not isinstance(text, str):
        raise HttpError(f"an answer without a text ({reply.shown()})")
    return Heard(text.strip(), reply.seconds)
