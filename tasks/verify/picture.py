"""A picture made here: a coloured shape above a printed word, as PNG. Pure, and the same every time.

PNG is https://www.w3.org/TR/png-3/: a signature, then chunks of length, name, content and CRC.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable

SIDE = 448
"""Vision encoders cut pictures into pieces of 14, 16 or 28 points; this is a multiple of all three."""
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
Rgb = tuple[int, int, int]

LETTERS = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "D": "11110 10001 10001 10001 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "G": "01110 10001 10000 10111 10001 10001 01111",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "J": "00111 00010 00010 00010 00010 10010 01100",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "N": "10001 11001 10101 10011 10001 10001 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "Q": "01110 10001 10001 10001 10101 10010 01101",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "V": "10001 10001 10001 10001 10001 01010 00100",
    "W": "10001 10001 10001 10101 10101 11011 10001",
    "X": "10001 10001 01010 00100 01010 10001 10001",
    "Y": "10001 10001 01010 00100 00100 00100 00100",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
}
"""Letters of 5 by 7 points, drawn for this project."""
LETTER_WIDE, LETTER_HIGH = 5, 7

SHAPES: dict[str, Callable[[float, float], bool]] = {
    "circle": lambda x, y: x * x + y * y <= 1,
    "square": lambda x, y: max(abs(x), abs(y)) <= 0.9,  # noqa: PLR2004
    "triangle": lambda x, y: -0.9 <= y <= 0.9 and abs(x) <= (y + 0.9) / 1.8,  # noqa: PLR2004
    "cross": lambda x, y: max(abs(x), abs(y)) <= 1 and min(abs(x), abs(y)) <= 0.3,  # noqa: PLR2004
}
"""Which points are inside, from -1 to 1; y grows downwards."""


def draw(shape: str, colour: Rgb, word: str) -> bytes:
    """Return the picture of a shape of `SHAPES` above a word of A to Z."""
    rows = [[WHITE] * SIDE for _ in range(SIDE)]
    _shape(rows, SHAPES[shape], colour)
    _word(rows, word)
    return png(rows)


def data_url(picture: bytes) -> str:
    """Return a picture as a chat message carries it."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def png(rows: list[list[Rgb]]) -> bytes:
    """Encode rows of points."""
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    raw = b"".join(b"\0" + bytes(value for point in row for value in point) for row in rows)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def _shape(rows: list[list[Rgb]], inside: Callable[[float, float], bool], colour: Rgb) -> None:
    radius, middle_x, middle_y = SIDE * 0.28, SIDE / 2, SIDE * 0.36
    for y, row in enumerate(rows):
        for x in range(SIDE):
            if inside((x - middle_x) / radius, (y - middle_y) / radius):
                row[x] = colour


def _word(rows: list[list[Rgb]], word: str) -> None:
    points = min(12, SIDE // ((LETTER_WIDE + 1) * (len(word) + 1)))
    left = (SIDE - points * ((LETTER_WIDE + 1) * len(word) - 1)) // 2
    top = SIDE * 3 // 4
    for place, letter in enumerate(word.upper()):
        start = left + place * (LETTER_WIDE + 1) * points
        for y, line in enumerate(LETTERS[letter].split()):
            for x, point in enumerate(line):
                if point == "1":
                    for row in rows[top + y * points : top + (y + 1) * points]:
                        row[start + x * points : start + (x + 1) * points] = [BLACK] * points
