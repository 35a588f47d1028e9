"""What a picture as simple as a test's shows: its colour, its shape, how many, and a printed word."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress

Pixel = tuple[int, int, int]
BLACK: Pixel = (0, 0, 0)
NEAR, FAR = 3000, 30_000
"""Squared distances of colours: what looks the same, and what is told apart at a glance."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS: dict[str, Pixel] = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "orange": (250, 140, 20),
    "purple": (130, 40, 160),
    "black": (10, 10, 10),
    "white": (250, 250, 250),
    "grey": (128, 128, 128),
    "pink": (250, 150, 190),
    "brown": (120, 70, 30),
    "cyan": (40, 210, 220),
}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
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
"""Those of tasks/verify/picture.py, which is not there in a container."""
LETTER_HIGH = 7
SMALLEST_PART = 4
"""A spot of fewer pixels is noise."""


@dataclass
class Picture:
    """Pixels, row by row."""

    width: int
    height: int
    rows: list[list[Pixel]]

    @classmethod
    def of_url(cls, url: str) -> Picture:
        """Read a data URL, or what stands behind its comma."""
        return cls.of_png(base64.b64decode(url.partition("base64,")[2] or url))

    @classmethod
    def of_png(cls, data: bytes) -> Picture:
        """Read a PNG with 8 bits a channel and no interlacing.

        Raises:
            ValueError: it is none.
        """
        if data[:8] != SIGNATURE:
            raise ValueError("no PNG")
        place, packed, palette = 8, b"", b""
        width = height = kind = 0
        while place < len(data):
            size, name = struct.unpack(">I4s", data[place : place + 8])
            chunk = data[place + 8 : place + 8 + size]
            if name == b"IHDR":
                width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunk)
                if depth != 8 or interlaced or kind not in CHANNELS:
                    raise ValueError("a PNG of another kind")
            elif name == b"PLTE":
                palette = chunk
            elif name == b"IDAT":
                packed += chunk
            place += 12 + size
        lines = _unfiltered(zlib.decompress(packed), width * CHANNELS[kind], CHANNELS[kind])
        return cls(width, height, [_pixels(line, kind, palette) for line in lines])

    @property
    def background(self) -> Pixel:
        """The colour of most of the border."""
        border = [
            *self.rows[0],
            *self.rows[-1],
            *(row[0] for row in self.rows),
            *(row[-1] for row in self.rows),
        ]
        return Counter(border).most_common(1)[0][0]

    def mask(self) -> list[list[bool]]:
        """Which pixels belong to a shape: neither to the background nor to black print upon it."""
        ground = self.background
        print_ = BLACK if _apart(ground, BLACK) > FAR else ground
        kinds = {one: _apart(one, ground) > NEAR and _apart(one, print_) > NEAR for one in self._kinds()}
        return [[kinds[pixel] for pixel in row] for row in self.rows]

    def _kinds(self) -> set[Pixel]:
        return {pixel for row in self.rows for pixel in row}

    def colour(self) -> str:
        """Name the most frequent colour of what is shown."""
        shown = Counter(p for row, on in zip(self.rows, self.mask(), strict=True) for p in compress(row, on))
        common = (shown or Counter(p for row in self.rows for p in row)).most_common(1)[0][0]
        return min(COLOURS, key=lambda name: _apart(COLOURS[name], common))

    def word(self) -> str:
        """Read what is printed in black capitals."""
        dark = {one for one in self._kinds() if _apart(one, BLACK) < NEAR}
        rows = [[pixel in dark for pixel in row] for row in self.rows]
        lines = [row for row in rows if any(row)]
        if not lines or _apart(self.background, BLACK) < FAR:
            return ""
        point = max(1, round(len(lines) / LETTER_HIGH))
        small = [row[point // 2 :: 1] for row in lines[point // 2 :: point]]
        inked = [any(column) for column in zip(*small, strict=True)]
        return "".join(_letter(small, start, end, point) for start, end in _spans(inked))

    def parts(self) -> list[list[tuple[int, int]]]:
        """Return the connected spots, each as its pixels (x, y), from left to right."""
        left = {(x, y) for y, row in enumerate(self.mask()) for x, on in enumerate(row) if on}
        found = []
        while left:
            spot, edge = [], [left.pop()]
            while edge:
                x, y = edge.pop()
                spot.append((x, y))
                near = {(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)} & left
                left -= near
                edge.extend(near)
            if len(spot) >= SMALLEST_PART:
                found.append(spot)
        return sorted(found, key=lambda spot: min(x for x, _ in spot))

    def shape(self) -> str:
        """Name the shape of the largest spot, by how much of its bounding box it fills."""
        spots = self.parts()
        if not spots:
            return "nothing"
        spot = max(spots, key=len)
        wide = max(x for x, _ in spot) - min(x for x, _ in spot) + 1
        high = max(y for _, y in spot) - min(y for _, y in spot) + 1
        filled = len(spot) / (wide * high)
        if filled > 0.95:  # a box
            return "square" if abs(wide - high) <= 0.1 * max(wide, high) else "rectangle"
        if filled > 0.65:  # pi/4 is 0.79
            return "circle"
        rows = Counter(y for _, y in spot)
        top, middle, bottom = rows[min(rows)], rows[(min(rows) + max(rows)) // 2], rows[max(rows)]
        return "cross" if max(top, bottom) < middle else "triangle"


def _spans(flags: list[bool]) -> list[tuple[int, int]]:
    """Return from where to where flags are set without a gap."""
    edges = [
        at for at in range(len(flags) + 1) if (at < len(flags) and flags[at]) != (at > 0 and flags[at - 1])
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _letter(rows: list[list[bool]], start: int, end: int, point: int) -> str:
    """Return the letter that is most like what stands between two columns."""
    seen = [
        ["1" if row[min(at + point // 2, end - 1)] else "0" for at in range(start, end, point)]
        for row in rows
    ]

    def unlike(letter: str) -> int:
        drawn = _cropped(LETTERS[letter].split())
        wide = max(len(drawn[0]), len(seen[0]))
        pairs = zip(drawn, ("".join(row) for row in seen), strict=False)
        return sum(
            a != b
            for one, two in pairs
            for a, b in zip(one.ljust(wide, "0"), two.ljust(wide, "0"), strict=True)
        )

    return min(LETTERS, key=unlike)


def _cropped(rows: list[str]) -> list[str]:
    inked = [at for at in range(len(rows[0])) if any(row[at] == "1" for row in rows)]
    return [row[inked[0] : inked[-1] + 1] for row in rows]


def _apart(one: Pixel, other: Pixel) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _unfiltered(data: bytes, width: int, step: int) -> list[bytes]:
    lines, before = [], bytes(width)
    for place in range(0, len(data), width + 1):
        kind, line = data[place], bytearray(data[place + 1 : place + 1 + width])
        for at in range(len(line) if kind else 0):
            left = line[at - step] if at >= step else 0
            corner = before[at - step] if at >= step else 0
            line[at] = (line[at] + _predicted(kind, left, before[at], corner)) & 255
        before = bytes(line)
        lines.append(before)
    return lines


def _predicted(kind: int, left: int, above: int, corner: int) -> int:
    """Return what a filter of PNG foretells (https://www.w3.org/TR/png-3/#9Filter-types)."""
    if kind == 4:  # Paeth
        guess = left + above - corner
        return min((left, above, corner), key=lambda value: abs(guess - value))
    return (0, left, above, (left + above) // 2)[kind]


def _pixels(line: bytes, kind: int, palette: bytes) -> list[Pixel]:
    step = CHANNELS[kind]
    found: list[Pixel] = []
    for at in range(0, len(line), step):
        if kind == 3:  # by palette
            red, green, blue = palette[3 * line[at] : 3 * line[at] + 3]
            found.append((red, green, blue))
        elif step < 3:  # grey
            found.append((line[at], line[at], line[at]))
        else:
            found.append((line[at], line[at + 1], line[at + 2]))
    return found


def described(url: str, question: str) -> str:
    """Answer a question about a picture."""
    try:
        picture = Picture.of_url(url)
    except (ValueError, struct.error, zlib.error, KeyError):
        return "I see no picture that I can read."
    for pattern, look in ASKS:
        if re.search(pattern, question, re.IGNORECASE):
            return look(picture)
    return f"A {picture.colour()} {picture.shape()} and the word {picture.word()}."


ASKS: tuple[tuple[str, Callable[[Picture], str]], ...] = (
    (r"\bhow many\b|\bcount\b", lambda picture: str(len(picture.parts()))),
    (r"\bcolou?r\b.*\band\b.*\bshape\b", lambda picture: f"{picture.colour()} {picture.shape()}"),
    (r"\b(?:which|what)\s+colou?r\b", Picture.colour),
    (r"\b(?:which|what)\s+shape\b", Picture.shape),
    (r"\bword\b|\bprinted\b|\btext\b|\bocr\b|\bread\b", Picture.word),
    (r"\bcolou?r\b", Picture.colour),
    (r"\bshape\b", Picture.shape),
)
