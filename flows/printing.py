"""Where text goes: data to standard output, hints to standard error."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any

import msgspec


def out(record: Any, text: Callable[[], str], *, as_json: bool) -> None:  # noqa: ANN401  # any record
    """Print one record, as JSON or as text."""
    data = msgspec.json.format(msgspec.json.encode(record)).decode() if as_json else harmless(text())
    try:
        sys.stdout.write(data + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the data has read enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def harmless(text: str) -> str:
    """Take control signs out of a text: names come from devices and from files of other people."""
    return "".join(sign if sign in "\n\t" or sign.isprintable() else "?" for sign in text)


def writes_blocks() -> bool:
    """Tell whether standard output can write the signs that bars are drawn with."""
    try:
        "█▓▒▚░·│…→".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def never_fail_to_encode() -> None:
    """Let a sign that the terminal cannot write become a question mark, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def hint(text: str) -> None:
    """Print what to do next, where it does not mix with data; a command can be pasted as it stands."""
    command = "pmoves" if shutil.which("pmoves") else sys.argv[0]
    sys.stderr.write(harmless(text).replace("Next: pmoves", f"Next: {command}") + "\n")
