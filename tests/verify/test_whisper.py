"""A server that hears is right about the recording and about its beginning."""

from __future__ import annotations

import hashlib
import io
import wave
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.effects.http import Reply
from tasks.verify.kinds.whisper import cut, error_rate, seconds_of, words
from tasks.verify.probe_files import DEFAULT, asset
from tests.lab.answering import SPOKEN, Model, heard, reply

PLAN = {"role": "whisper", "model": "m"}
WAV = asset("speech-en.wav")


def test_a_server_that_hears_is_verified(checked: Callable[..., object]) -> None:
    """Its pace is seconds of speech a second."""
    made = checked(Model(), **PLAN)

    assert 3 == len(made.answers)
    assert pytest.approx(371, rel=0.01) == made.performance.realtime


@pytest.mark.parametrize(
    "hears",
    [
        lambda size: heard(size).upper(),
        lambda size: heard(size).replace("three", "3").replace("seven", "7"),
        lambda size: f" {heard(size)}\n",
        lambda size: heard(size).replace("brother", "mother"),
        lambda size: heard(size).replace("flowers", "flours").replace("has", "had"),
    ],
)
def test_writing_is_no_matter_and_a_word_may_be_wrong(
    checked: Callable[..., object], hears: Callable[[int], str]
) -> None:
    """Case, marks, digits and up to a quarter of the words."""
    model = Model()
    model.hears = hears

    assert checked(model, **PLAN)


@pytest.mark.parametrize(
    ("hears", "got"),
    [
        (lambda _size: "", "got nothing, 100% of the words wrong"),
        (lambda _size: "Thank you for watching!", 'got "Thank you for watching!", 100%'),
        (lambda _size: SPOKEN, "in the first 2 s of the recording"),
        (lambda _size: "My brother has three green apples", "40% of the words wrong"),
        (lambda size: heard(size) * 30, "of the words wrong"),
        (lambda size: " ".join(reversed(heard(size).split())), "of the words wrong"),
        (lambda _size: "la " * 100_000, "100% of the words wrong"),
    ],
)
def test_a_server_that_does_not_hear_is_refused(
    refused: Callable[..., str], hears: Callable[[int], str], got: str
) -> None:
    """Silence, inventions, and the same sentence whatever was sent."""
    model = Model()
    model.hears = hears

    assert got in refused(model, **PLAN)


@pytest.mark.parametrize(
    ("body", "got"),
    [
        (reply({"transcription": SPOKEN}), "an answer without a text"),
        (reply({"text": [SPOKEN]}), "an answer without a text"),
        (reply({"segments": [{"text": SPOKEN}]}), "an answer without a text"),
        (Reply(200, SPOKEN.encode(), 0.0, "text/plain"), "which is not JSON"),
        (reply({"detail": "Model is not installed"}, 404), "HTTP 404"),
    ],
)
def test_the_right_words_in_the_wrong_place(refused: Callable[..., str], body: Reply, got: str) -> None:
    """OpenAI's clients read `text`."""
    model = Model()
    model.extra["/v1/audio/transcriptions"] = lambda _request: body

    assert got in refused(model, **PLAN)


def test_the_recording_is_what_its_description_says() -> None:
    """16 kHz, mono, 16 bit, small, and with the digest that is written beside it."""
    with wave.open(io.BytesIO(WAV)) as recording:
        assert (16000, 1, 2) == (
            recording.getframerate(),
            recording.getnchannels(),
            recording.getsampwidth(),
        )
    assert len(WAV) < 120_000
    assert hashlib.sha256(WAV).hexdigest() in (DEFAULT / "assets" / "README.md").read_text()


def test_a_part_is_the_beginning_and_silence() -> None:
    """The cut is where it was asked for."""
    part = cut(WAV, 2000)

    assert pytest.approx(2.5) == seconds_of(part)
    assert WAV[44 : 44 + 64_000] == part[44 : 44 + 64_000]
    assert {0} == set(part[44 + 64_000 :])
    assert WAV == cut(WAV, None)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_error_rate_is_a_distance(one: list[str], other: list[str]) -> None:
    """0 for equals alone, the same in both directions, and never more than the longer of both."""
    edits = error_rate(one, other) * max(1, len(one))

    assert (one == other) == (edits == 0)
    assert pytest.approx(edits) == error_rate(other, one) * max(1, len(other)) if one and other else True
    assert edits <= max(len(one), len(other), 1)


def test_words_are_plain() -> None:
    """Small numbers are words, and what belongs together stays together."""
    assert ["it's", "seven", "o", "clock", "2026"] == words("It\u2019s 7 o-clock, 2026!")
