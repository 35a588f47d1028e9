"""Kinds of questions: one module each, with `ask(probes, asked) -> Found | None`.

To add one: its module here, an entry in `KINDS`, its shape in `probe_shapes.py` and a section in `ProbeFile`.
A file of questions without that section is none of its business: it then returns None.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.verify.asking import Asked, Found
from tasks.verify.kinds import chat, code, context, embeddings, reranker, vision, whisper
from tasks.verify.probe_shapes import ProbeFile

Ask = Callable[[ProbeFile, Asked], Found | None]

KINDS: tuple[Ask, ...] = (
    chat.ask,
    code.ask,
    embeddings.ask,
    reranker.ask,
    vision.ask,
    whisper.ask,
    context.ask,
)
"""In the order in which they are asked: what is short before what is long."""
