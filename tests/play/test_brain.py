"""What the play servers know, and that the questions of the real verification are among it."""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tasks.verify import picture as drawn
from tasks.verify.kinds.context import text
from tasks.verify.kinds.vision import rgb, scene
from tasks.verify.probe_files import DEFAULT, load
from tests.lab.play import brain, coding, meaning, picture, speaches

PROBES = load(DEFAULT)


@pytest.mark.parametrize(
    "question", {one.ask: one for file in PROBES if file.chat for one in file.chat.questions}.values()
)
def test_questions_of_the_verification(question: object) -> None:
    """Every one has its right answer."""
    assert re.fullmatch(question.accepts, brain.answer(question.ask), re.IGNORECASE)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "right"),
    [
        ("What is 2 + 3 * 4?", "14"),
        ("What is 20 - 4 - 3?", "13"),
        ("What is 7 divided by 2?", "3.5"),
        ("What is 1,000 plus 24?", "1024"),
        ("What is seven times eight?", "56"),
        ("Say exactly 'blue whale'.", "blue whale"),
        ("Reply with the word banana.", "banana"),
        ("Count from 3 to 6.", "3 4 5 6"),
        ("What is the next number: 2, 4, 6, 8?", "10"),
        ("Which is the largest of 3, 9, 4?", "9"),
        ('How many letters has the word "apple"? How many letters?', "5"),
        ("Write the word 'stop' backwards.", "stop"),
        ("Which letter comes right before C?", "B"),
        ("How did the Hanseatic League end?", "I do not know."),
    ],
)
def test_small_questions(asked: str, right: str) -> None:
    """By rule; and what no rule knows is not guessed."""
    assert right == brain.answer(asked)


def test_facts_are_searched_for() -> None:
    """Both ends of a long text are found; of a text whose start was cut, only the last."""
    probe = next(file.context for file in PROBES if file.context)
    whole = text(probe, 800, 3)

    assert "7351, 4826" == brain.answer(whole)
    assert "4826" == brain.answer(brain.newest(whole, 2000))


def test_cutting() -> None:
    """By tokens, from either end."""
    assert ("a b,", "c d", "a b, c d") == (
        brain.first("a b, c d", 3),
        brain.newest("a b, c d", 2),
        brain.first("a b, c d", 9),
    )
    assert 2000 == len(brain.tokens(brain.newest("word " * 5000, 2000)))


def test_code_that_runs() -> None:
    """Every function compiles, and bears the name that was asked for."""
    for pattern, usual, _, _ in coding.CODE:
        source = brain.answer(
            f"Write a Python function my_{usual}(x): {pattern.replace(chr(92) + 'b', '').split('|')[0]}"
        )
        block = re.search(r"```python\n(.*?)```", source, re.DOTALL)
        assert block, pattern
        assert isinstance(ast.parse(block[1]).body[0], ast.FunctionDef)
        assert f"def my_{usual}(" in block[1]


def test_pictures() -> None:
    """Every picture that the verification can draw is seen right."""
    probe = next(file.vision for file in PROBES if file.vision and file.vision.ask_shape)
    for seed in (1, 2):
        shows = scene(probe, seed)
        url = drawn.data_url(drawn.draw(shows.shape.name, rgb(shows.colour), shows.word.name))
        seen = [picture.described(url, one) for one in (probe.ask_colour, probe.ask_shape, probe.ask_word)]
        assert [shows.colour.name, shows.shape.name, shows.word.name] == seen


@pytest.mark.parametrize("shape", drawn.SHAPES)
def test_every_shape(shape: str) -> None:
    """Those that no seed chooses, too."""
    url = drawn.data_url(drawn.draw(shape, (32, 160, 32), "RIVER"))

    assert (shape, "green") == (
        picture.described(url, "Which shape?"),
        picture.described(url, "Which colour?"),
    )


def test_every_letter() -> None:
    """The letters are those that are drawn."""
    assert drawn.LETTERS == picture.LETTERS
    for word in ("ABCDEFG", "HIJKLMN", "OPQRSTU", "VWXYZIT"):
        assert word == picture.described(drawn.data_url(drawn.draw("cross", (0, 0, 200), word)), "Free OCR.")


def test_what_is_no_picture() -> None:
    """It says that it sees none."""
    assert "no picture" in picture.described("data:image/png;base64,AAAA", "Which colour?")


def test_the_known_recording() -> None:
    """The fingerprint is that of the recording which the verification plays."""
    with wave.open(str(DEFAULT / "assets/speech-en.wav")) as recording:
        first = recording.readframes(recording.getframerate())

    assert speaches.KNOWN == hashlib.sha256(first).hexdigest()


def test_vectors_mean_something() -> None:
    """Nearness follows meaning, and the same text has the same vector."""

    def near(one: str, other: str) -> float:
        return sum(a * b for a, b in zip(meaning.vector(one, 384), meaning.vector(other, 384), strict=True))

    assert near("a cat sits", "a kitten rests") > 0.6
    assert near("the stock market crashed", "share prices fell sharply") > 0.6
    assert abs(near("a cat sits", "share prices fell sharply")) < 0.3
    assert 1.0 == pytest.approx(near("a cat sits", "a cat sits"))


@pytest.mark.real
@pytest.mark.parametrize("program", ["llama_cpp", "tei", "vllm", "speaches", "ollama_chat"])
def test_they_run_on_the_standard_library_alone(program: str, tmp_path: Path) -> None:
    """Put whole into a folder of another name, without site-packages, each still starts."""
    folder = shutil.copytree(Path(brain.__file__).parent, tmp_path / "servers")
    code = (
        "import sys, runpy; sys.argv = ['x', '--no-such'];"
        f" runpy.run_path({str(folder / program)!r} + '.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode in {1, 2}
    assert "no-such" in done.stderr
    assert "Traceback" not in done.stderr
