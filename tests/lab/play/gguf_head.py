"""What the head of a GGUF file says (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
MOST_KEYS = 10_000


def read(path: Path) -> dict[str, Any]:
    """Return the keys of a file's head; arrays are left out, and a head that breaks off ends there.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no GGUF file.
    """
    with path.open("rb") as file:
        if (magic := file.read(4)) != MAGIC:
            raise ValueError(magic.decode("latin-1"))
        found: dict[str, Any] = {}
        try:
            _, _, count = struct.unpack("<IQQ", file.read(20))
            for _ in range(min(count, MOST_KEYS)):
                key = _text(file)
                value = _value(file, struct.unpack("<I", file.read(4))[0])
                if value is not None:
                    found[key] = value
        except (struct.error, KeyError, UnicodeDecodeError):
            pass
    return found


def _text(file: BinaryIO) -> str:
    (size,) = struct.unpack("<Q", file.read(8))
    if size > 1 << 20:
        raise struct.error("a text that long")
    return file.read(size).decode()


def _value(file: BinaryIO, kind: int) -> Any:  # noqa: ANN401  # a key may hold anything
    if kind == STRING:
        return _text(file)
    if kind == ARRAY:
        of, count = struct.unpack("<IQ", file.read(12))
        if of == STRING:
            for _ in range(count):
                _text(file)
        elif of == ARRAY:
            raise struct.error("arrays of arrays")
        else:
            file.seek(struct.calcsize(FORMATS[of]) * count, 1)
        return None
    layout = FORMATS[kind]
    return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]
