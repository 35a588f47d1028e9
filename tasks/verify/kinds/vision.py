"""Pictures made here: a model that sees names colour, shape and word, and no other of the choices."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tasks.contracts import Answer
from tasks.effects.chat import Said, chat, picture_part, text_part
from tasks.verify.asking import Asked, Found, shown
from tasks.verify.kinds.chat import fault
from tasks.verify.picture import Rgb, data_url, draw
from tasks.verify.probe_shapes import Colour, Named, ProbeFile, VisionProbe

N = TypeVar("N", Colour, Named)


@dataclass(frozen=True, slots=True)
class Scene:
    """What one picture shows."""

    colour: Colour
    shape: Named
    word: Named


def ask(probes: ProbeFile, asked: Asked) -> Found | None:
    """Ask about each picture; about the first alone when the look is a light one."""
    probe = probes.vision
    if probe is None:
        return None
    answers: list[Answer] = []
    for seed in probe.seeds[:1] if asked.light else probe.seeds:
        shows = scene(probe, seed)
        url = data_url(draw(shows.shape.name, rgb(shows.colour), shows.word.name))
        for question, right, choices in _questions(probe, shows):
            said: Said = asked.ask(
                question,
                right.name,
                lambda left, question=question, url=url: chat(  # type: ignore[misc]
                    asked.http,
                    asked.server.base_url,
                    asked.server.asked_as,
                    [picture_part(url), text_part(question)],
                    max_tokens=probe.max_tokens,
                    timeout_s=left,
                ),
                max_tokens=probe.max_tokens,
            )
            answers += asked.check([judge(question, said, right, choices)])
    return Found(tuple(answers), latency_s=min(answer.seconds for answer in answers))


def scene(probe: VisionProbe, seed: int) -> Scene:
    """Return what the picture of a seed shows."""
    return Scene(
        *(_chosen(probe.colours, "colour", seed), _chosen(probe.shapes, "shape", seed)),
        _chosen(probe.words, "word", seed),
    )


def rgb(colour: Colour) -> Rgb:
    """Return a colour as the picture has it."""
    red, green, blue = bytes.fromhex(colour.rgb)
    return red, green, blue


def judge(question: str, said: Said, right: Colour | Named, choices: Sequence[Colour | Named]) -> Answer:
    """Return whether the answer names the right one of the choices, and no other."""
    named = [one.name for one in choices if re.search(rf"\b(?:{one.accepts})\b", said.text, re.IGNORECASE)]
    wrong = fault(question, said)
    got = f"{shown(said.text)}, {wrong}" if wrong else shown(said.text)
    return Answer(question.rstrip("?. "), right.name, got, not wrong and named == [right.name], said.seconds)


def _questions(
    probe: VisionProbe, shows: Scene
) -> Iterator[tuple[str, Colour | Named, Sequence[Colour | Named]]]:
    rows: tuple[tuple[str | None, Colour | Named, Sequence[Colour | Named]], ...] = (
        (probe.ask_colour, shows.colour, probe.colours),
        (probe.ask_shape, shows.shape, probe.shapes),
        (probe.ask_word, shows.word, probe.words),
    )
    for question, right, choices in rows:
        if question:
            yield question, right, choices


def _chosen(choices: Sequence[N], what: str, seed: int) -> N:
    digest = hashlib.sha256(f"{what} {seed}".encode()).digest()
    return choices[digest[0] % len(choices)]
