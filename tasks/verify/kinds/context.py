"""A text as long as the plan says, with a fact at its start and one near its end.

Ollama cuts what is too long without a word, so the server's own count of tokens must be what was sent, and
the fact at the start must still be known. How many tokens a line has, and how fast they are read, small texts
tell.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from tasks.contracts import Answer, Performance, Unknown
from tasks.effects.chat import Said, chat
from tasks.verify.asking import Asked, Found, shown
from tasks.verify.kinds.chat import fault
from tasks.verify.probe_shapes import ContextProbe, ProbeFile
from tasks.verify.statements import context as stated

FEW, MORE = 8, 72
"""Lines of the two small texts. Their difference is what a line has."""
LINE_TOKENS = 20
"""A line has some 12 to 18; only the size of the small texts depends on it. Chosen."""
SPARE_PERCENT = 5
"""By how much more than the least the text fills, as lines differ; too long a text would be refused."""
CUT_PERCENT = 97
"""A server that counts fewer tokens than this share of what was sent has cut the text; of the 95% that are
sent where 90% must be served, it is 92%. Chosen."""
PATIENCE = 3
"""How many times the time that is expected of a long text it may take. Chosen."""

WHO = ["baker", "miller", "sailor", "teacher", "farmer", "painter", "doctor", "gardener", "singer", "tailor"]
DOES = ["carries", "washes", "counts", "paints", "repairs", "watches", "opens", "moves", "covers", "finds"]
WHAT = ["chairs", "lamps", "boxes", "plates", "books", "ropes", "wheels", "coats", "doors", "baskets"]
WHERE = [
    "garden",
    "harbour",
    "kitchen",
    "market",
    "station",
    "library",
    "forest",
    "stable",
    "tower",
    "meadow",
]
WHEN = ["morning", "evening", "noon", "winter", "summer", "autumn", "spring", "midnight", "sunset", "sunrise"]


@dataclass(frozen=True, slots=True)
class Scale:
    """What small texts tell: tokens of the frame, tokens of a line, and tokens a second."""

    frame_tokens: float
    line_tokens: float
    per_s: float


def ask(probes: ProbeFile, asked: Asked) -> Found | None:
    """Fill the context as far as there is time, and compare it with what the server says of itself."""
    probe, planned = probes.context, asked.planned
    if probe is None or planned.context <= 0:
        return None
    said = stated(asked)
    answers, findings = _statement(asked, said)
    if asked.light:
        found = said if isinstance(said, int) else 0
        return Found(answers, findings, Performance(context=min(found, planned.context)))
    scale = _scale(asked, probe)
    goal = (planned.context - probe.max_tokens) * (probe.least_percent + SPARE_PERCENT) / 100
    affordable = scale.per_s * probe.budget_s
    tokens = min(goal, affordable)
    if tokens < goal:
        findings += (_shortened(planned.context, int(tokens), int(goal), scale.per_s, said),)
    lines = max(1, int((tokens - scale.frame_tokens) / scale.line_tokens))
    sent = scale.frame_tokens + lines * scale.line_tokens
    heard = _say(asked, probe, lines, seed=3, prompt_tokens=int(sent), per_s=scale.per_s)
    least = sent * CUT_PERCENT / 100
    right = asked.check(judge(probe, heard, sent=int(sent), least=int(least)))
    served = heard.prompt_tokens + heard.completion_tokens
    if tokens < goal and isinstance(said, int):
        served = min(said, planned.context)
    per_s = heard.prompt_tokens / max(heard.seconds, 1e-9)
    return Found((*answers, *right), findings, Performance(prompt_tokens_per_s=per_s, context=served))


def judge(probe: ContextProbe, said: Said, *, sent: int, least: int) -> tuple[Answer, ...]:
    """Compare what came with what was sent: how long the server counts it, and both facts."""
    wrong = fault(probe.ask, said)
    lacks = [fact.text for fact in (probe.first, probe.last) if fact.answer not in said.text]
    lost = f"{shown(said.text)}, without what {shown(lacks[0])} says" if lacks else shown(said.text)
    return (
        Answer(
            f"how many tokens has a text of about {sent:,}",
            f"{least:,} or more",
            f"{said.prompt_tokens:,}" if said.prompt_tokens else "no usage.prompt_tokens",
            said.prompt_tokens >= least,
            said.seconds,
        ),
        Answer(
            f"what do the start and the end of {said.prompt_tokens:,} tokens say",
            f"{probe.first.answer} and {probe.last.answer}",
            f"{shown(said.text)}, {wrong}" if wrong else lost,
            not wrong and not lacks,
            said.seconds,
        ),
    )


def text(probe: ContextProbe, lines: int, seed: int) -> str:
    """Return the whole request. Other seeds begin otherwise, so that no cache of prompts helps."""
    body = [line(seed, place) for place in range(lines)]
    late = len(body) - len(body) // 20
    return "\n".join(
        [f"Report {seed}.", probe.first.text, *body[:late], probe.last.text, *body[late:], "", probe.ask]
    )


def line(seed: int, place: int) -> str:
    """Return a line of common words, the same every time."""
    digest = hashlib.sha256(f"{seed} {place}".encode()).digest()
    who, does, what, where, when = (
        words[digest[at] % len(words)] for at, words in enumerate((WHO, DOES, WHAT, WHERE, WHEN))
    )
    return f"In the {when} the {who} {does} the {what} near the {where}."


def _statement(asked: Asked, said: int | Unknown) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    want = asked.planned.context
    if isinstance(said, Unknown):
        return (), (f"how many tokens it takes is not known from itself: {said.unknown}",)
    answers = asked.check(
        [
            Answer(
                "how many tokens does the server take",
                f"{want:,} or more",
                f"{said:,}",
                said >= want,
                0.0,
            )
        ]
    )
    more = (f"it takes {said:,} tokens and {want:,} are planned, so it may hold more memory",)
    return answers, more if said > want * max(1, asked.planned.parallel) else ()


def _scale(asked: Asked, probe: ContextProbe) -> Scale:
    room = (asked.planned.context - probe.max_tokens) // 2
    more = max(2, min(MORE, room // LINE_TOKENS))
    few = max(1, min(FEW, more - 1))
    small = _say(asked, probe, few, seed=1)
    large = _say(asked, probe, more, seed=2)
    per_line = (large.prompt_tokens - small.prompt_tokens) / (more - few)
    if small.prompt_tokens <= 0 or per_line <= 1:
        counted = f"{small.prompt_tokens} and {large.prompt_tokens}"
        raise asked.wrong(
            f"how many tokens have {few} and {more} lines", "usage.prompt_tokens that grow", counted
        )
    per_s = large.prompt_tokens / max(large.seconds, 1e-6)
    return Scale(max(0.0, small.prompt_tokens - few * per_line), per_line, per_s)


def _say(
    asked: Asked, probe: ContextProbe, lines: int, *, seed: int, prompt_tokens: int = 0, per_s: float = 0.0
) -> Said:
    within = None
    if prompt_tokens and per_s:
        expected = prompt_tokens / per_s
        within = PATIENCE * max(expected, probe.budget_s) + 60
    count = prompt_tokens or lines * LINE_TOKENS
    said = asked.ask(
        f"what do the start and the end of a text of about {count:,} tokens say",
        f"{probe.first.answer} and {probe.last.answer}",
        lambda left: chat(
            asked.http,
            asked.server.base_url,
            asked.server.asked_as,
            text(probe, lines, seed),
            max_tokens=probe.max_tokens,
            timeout_s=left,
        ),
        max_tokens=probe.max_tokens,
        prompt_tokens=count,
        within_s=within,
    )
    return replace(said, text=said.text.replace(",", ""))


def _shortened(planned: int, tokens: int, goal: int, per_s: float, said: int | Unknown) -> str:
    rest = "nothing else vouches for the rest" if isinstance(said, Unknown) else f"it says {said:,} itself"
    return (
        f"only {tokens:,} of {planned:,} tokens were tried, because {goal:,} would take some "
        f"{goal / max(per_s, 1e-6):.0f} s here; {rest}"
    )
