"""Short questions with one right answer, and how fast a model says it."""

from __future__ import annotations

import re
from dataclasses import replace

from tasks.contracts import Answer, Performance
from tasks.effects.chat import Said, chat, pace
from tasks.verify.asking import Asked, Found, shown
from tasks.verify.probe_shapes import ChatProbe, ProbeFile, Question

LONGEST = 400
"""An answer to "only the number" that is longer was not understood as one. Chosen."""
SAME_CHARACTERS, SAME_WORDS = 12, 6
"""From here on, one character or one word over and over is a run: what broken weights say. Chosen."""


def ask(probes: ProbeFile, asked: Asked) -> Found | None:
    """Ask every question; measure, unless the look is a light one."""
    probe = probes.chat
    if probe is None:
        return None
    said = [(question, _say(asked, question, probe)) for question in probe.questions]
    answers = asked.check(judge(question, one) for question, one in said)
    found = Found(answers, latency_s=min(one.seconds for _, one in said))
    return found if asked.light else _measured(found, said[0], probe, asked)


def judge(question: Question, said: Said) -> Answer:
    """Compare an answer with what is expected."""
    wrong = fault(question.ask, said)
    right = not wrong and re.fullmatch(question.accepts, said.text, re.IGNORECASE | re.DOTALL) is not None
    got = f"{shown(said.text)}, {wrong}" if wrong else shown(said.text)
    return Answer(question.ask.rstrip("?. "), question.expected, got, right, said.seconds)


def fault(asked: str, said: Said) -> str:
    """Say what is wrong with an answer, whatever was asked; "" where nothing is."""
    if not said.text:
        if said.finish == "length" or said.thought:
            return f"after {said.completion_tokens} tokens of thoughts that did not come to an end"
        return "an empty answer"
    if is_run(said.text):
        return "one token over and over"
    if _plain(asked) in _plain(said.text):
        return "the question itself"
    return f"{len(said.text)} characters" if len(said.text) > LONGEST else ""


def is_run(text: str) -> bool:
    """Return whether a text is one character or one word over and over."""
    packed, words = re.sub(r"\s", "", text), text.lower().split()
    return (len(packed) >= SAME_CHARACTERS and len(set(packed)) == 1) or (
        len(words) >= SAME_WORDS and len(set(words)) == 1
    )


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _say(asked: Asked, question: Question, probe: ChatProbe) -> Said:
    return asked.ask(
        question.ask.rstrip("?. "),
        question.expected,
        lambda left: chat(
            asked.http,
            asked.server.base_url,
            asked.server.asked_as,
            question.ask,
            max_tokens=probe.max_tokens,
            timeout_s=left,
        ),
        max_tokens=probe.max_tokens,
    )


def _measured(found: Found, first: tuple[Question, Said], probe: ChatProbe, asked: Asked) -> Found:
    question, before = first
    again = _say(asked, question, probe)
    findings: tuple[str, ...] = ()
    if again.text != before.text:
        findings = (f"the same question got {shown(before.text)} and then {shown(again.text)}",)
    speed = asked.ask(
        "does an answer stream",
        "parts that end",
        lambda left: pace(
            asked.http,
            asked.server.base_url,
            asked.server.asked_as,
            probe.measure,
            max_tokens=probe.measure_tokens,
            timeout_s=left,
        ),
        max_tokens=probe.measure_tokens,
    )
    return replace(
        found,
        findings=findings,
        performance=Performance(first_token_s=speed.first_token_s, tokens_per_s=speed.tokens_per_s),
        latency_s=speed.first_token_s,
    )
