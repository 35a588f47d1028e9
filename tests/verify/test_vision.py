"""A model that sees names what is in the picture, and a blind one is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest

from tasks.verify.kinds.vision import rgb, scene
from tasks.verify.picture import LETTERS, SHAPES, SIDE, WHITE, draw
from tasks.verify.probe_files import DEFAULT, load
from tests.lab.answering import Model

PROBE = next(one.vision for one in load(DEFAULT) if one.role == "vision" and not one.models)
PLAN = {"role": "vision", "model": "m"}


def decoded(picture: bytes) -> list[list[tuple[int, ...]]]:
    """Read a PNG by the book, digests included."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, wide, high = 8, b"", 0, 0
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        name, content = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", picture[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(name + content)
        if name == b"IHDR":
            wide, high, depth, kind = struct.unpack(">IIBB", content[:10])
            assert (8, 2) == (depth, kind)
        data += content if name == b"IDAT" else b""
        at += 12 + length
    raw = zlib.decompress(data)
    rows = [raw[y * (3 * wide + 1) : (y + 1) * (3 * wide + 1)] for y in range(high)]
    assert {0} == {row[0] for row in rows}
    return [[tuple(row[x : x + 3]) for x in range(1, len(row), 3)] for row in rows]


@pytest.mark.parametrize(("shape", "share"), [("circle", 0.785), ("square", 0.81), ("triangle", 0.45)])
def test_the_picture_shows_its_shape(shape: str, share: float) -> None:
    """It has the colour, and the area that such a shape has in the square around it."""
    rows = decoded(draw(shape, (208, 32, 32), "RIVER"))
    filled = sum(row.count((208, 32, 32)) for row in rows)

    assert {(208, 32, 32), WHITE, (0, 0, 0)} == {point for row in rows for point in row}
    assert pytest.approx(share, abs=0.01) == filled / (SIDE * 0.56) ** 2


@pytest.mark.parametrize("word", ["RIVER", "Q", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"])
def test_the_picture_shows_its_word(word: str) -> None:
    """Read back point by point, every letter is there."""
    rows = decoded(draw("circle", (208, 32, 32), word))
    dark = [[point == (0, 0, 0) for point in row] for row in rows]
    columns = [x for x in range(SIDE) if any(row[x] for row in dark)]
    size = min(12, SIDE // (6 * (len(word) + 1)))
    left = columns[0] - (size if word[0] in "IT" and not LETTERS[word[0]].startswith("1") else 0)
    top = next(y for y in range(SIDE) if any(dark[y]))

    for place, letter in enumerate(word):
        got = " ".join(
            "".join(
                "01"[dark[top + y * size + size // 2][left + (6 * place + x) * size + size // 2]]
                for x in range(5)
            )
            for y in range(7)
        )
        assert LETTERS[letter] == got


def test_the_pictures_differ_in_everything() -> None:
    """So a model that always says the same is wrong about one of them."""
    for probe in (one.vision for one in load(DEFAULT) if one.vision):
        one, other = (scene(probe, seed) for seed in probe.seeds)

        assert one.colour != other.colour
        assert one.shape != other.shape
        assert one.word != other.word
        assert {shape.name for shape in probe.shapes} <= set(SHAPES)
        assert rgb(one.colour) != WHITE


def test_a_model_that_sees_is_verified(checked: Callable[..., object]) -> None:
    """Two pictures, and three questions about each; one picture in a light look."""
    assert 7 == len(checked(Model(), **PLAN).answers)
    assert 4 == len(checked(Model(), light=True, **PLAN).answers)


def test_an_ocr_model_is_asked_for_the_word_alone(checked: Callable[..., object]) -> None:
    """It cannot say colours."""
    made = checked(Model("deepseek-ocr"), role="vision", model="deepseek-ocr")

    assert 3 == len(made.answers)


@pytest.mark.parametrize(
    "says",
    [
        lambda _q, _a: "I cannot see any picture.",
        lambda q, a: "red, green, blue or yellow" if "colour" in q else a,
        lambda q, a: "It could be a circle or a square." if "shape" in q and "colour" not in q else a,
        lambda q, a: a[::-1] if "word" in q else a,
        lambda _q, a: "greenish" if a == "green" else "reddish" if a == "red" else a,
        lambda _q, a: {"circle": "square", "square": "triangle", "triangle": "circle"}.get(a, a),
        lambda _q, _a: "red circle RIVER",
        lambda _q, a: f"{a} " * 50,
        lambda q, _a: q,
        lambda _q, _a: "",
    ],
)
def test_a_blind_model_is_refused(refused: Callable[..., str], says: Callable[[str, str], str]) -> None:
    """Guesses, lists of all choices and echoes are no sight."""
    model = Model()
    model.says = says

    assert "answers wrongly: Which " in refused(model, **PLAN)


@pytest.mark.parametrize("more", ["The shape is a {}.", "**{}**", "{}!", "It's a {} one"])
def test_a_sentence_is_an_answer(checked: Callable[..., object], more: str) -> None:
    """Small models do not keep to one word."""
    model = Model()
    model.says = lambda _question, answer: more.format(answer.lower())

    assert checked(model, **PLAN)
