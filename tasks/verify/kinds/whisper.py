"""A recording whose words are known, whole and in part: a server that always says the same fails."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Sequence

from tasks.contracts import Answer, Performance
from tasks.effects.transcribe import Heard, transcribe
from tasks.verify.asking import Asked, Found, shown
from tasks.verify.probe_files import asset
from tasks.verify.probe_shapes import ProbeFile, Spoken

SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
MOST_WORDS = 200
"""What is longer is not the sentence, and comparing it would take long."""


def ask(probes: ProbeFile, asked: Asked) -> Found | None:
    """Let the recording be transcribed, and its parts."""
    probe = probes.whisper
    if probe is None:
        return None
    wav = asset(probe.recording, asked.folder)
    answers: list[Answer] = []
    pace = 0.0
    for spoken in probe.says:
        part = cut(wav, spoken.until_ms)
        question = _question(spoken)
        heard: Heard = asked.ask(
            question,
            shown(spoken.text),
            lambda left, part=part: transcribe(  # type: ignore[misc]
                asked.http,
                asked.server.base_url,
                asked.server.asked_as,
                part,
                language=probe.language,
                timeout_s=left,
            ),
        )
        answers += asked.check([judge(spoken, heard, probe.wrong_percent)])
        pace = max(pace, seconds_of(part) / max(heard.seconds, 1e-9))
    return Found(
        tuple(answers),
        performance=Performance(realtime=pace),
        latency_s=min(answer.seconds for answer in answers),
    )


def judge(spoken: Spoken, heard: Heard, wrong_percent: int) -> Answer:
    """Compare what was heard with what is said."""
    share = error_rate(words(spoken.text), words(heard.text))
    right = share * 100 <= wrong_percent
    got = shown(heard.text) + (f", {share:.0%} of the words wrong" if share else "")
    expected = f"{shown(spoken.text)} with at most {wrong_percent}% of the words wrong"
    return Answer(_question(spoken), expected, got, right, heard.seconds)


def _question(spoken: Spoken) -> str:
    part = "" if spoken.until_ms is None else f"the first {spoken.until_ms / 1000:g} s of "
    return f"what is said in {part}the recording"


def words(text: str) -> list[str]:
    """Return a text's words without case and punctuation, small numbers spelt out."""
    found = re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return [
        SMALL[int(word)] if word.isdigit() and len(word) <= 2 and int(word) < len(SMALL) else word  # noqa: PLR2004
        for word in found
    ]


def error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return how many words must be put in, left out or changed to get from one to the other, as a share."""
    if not said or len(heard) > MOST_WORDS:
        return 1.0 if said or heard else 0.0
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, start=1):
        corner, row[0] = row[0], place
        for at, other in enumerate(heard, start=1):
            corner, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, corner + (word != other))
    return row[-1] / len(said)


def cut(wav: bytes, until_ms: int | None) -> bytes:
    """Return the beginning of a recording, with half a second of silence behind it; or all of it."""
    if until_ms is None:
        return wav
    with wave.open(io.BytesIO(wav)) as whole:
        parameters = whole.getparams()
        frames = whole.readframes(parameters.framerate * until_ms // 1000)
    made = io.BytesIO()
    with wave.open(made, "wb") as part:
        part.setparams(parameters)
        part.writeframes(frames + bytes(parameters.framerate // 2 * parameters.sampwidth))
    return made.getvalue()


def seconds_of(wav: bytes) -> float:
    """Return how long a recording is."""
    with wave.open(io.BytesIO(wav)) as recording:
        return float(recording.getnframes() / recording.getframerate())
