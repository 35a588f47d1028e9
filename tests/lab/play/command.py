"""The command line and the end of a play server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from .faults import Knobs


def say(*lines: str) -> None:
    """Log lines as a runtime does: to stderr, at once."""
    for line in lines:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def leave(code: int) -> NoReturn:
    """End this process now, from whatever thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def die(text: str, code: int) -> NoReturn:
    """Say why, and end this process."""
    say(*text.splitlines())
    leave(code)


def flags(
    arguments: Sequence[str], known: Mapping[str, bool], refuse: Callable[[str, str], NoReturn]
) -> tuple[dict[str, str], list[str]]:
    """Read a command line.

    Args:
        arguments: What stands on it.
        known: The flags, and whether each takes a value; a flag given twice has its last value.
        refuse: Ends the process for an unknown flag ("unknown") or one without its value ("value").

    Returns:
        The flags with their values, "" where there is none, and what is no flag.
    """
    given: dict[str, str] = {}
    rest: list[str] = []
    words = list(arguments)
    known = {**known, **dict.fromkeys(Knobs.FLAGS, True)}
    while words:
        word = words.pop(0)
        name, joined, value = word.partition("=")
        if not word.startswith("-"):
            rest.append(word)
        elif name not in known:
            refuse("unknown", word)
        elif not known[name]:
            given[name] = ""
        elif joined:
            given[name] = value
        elif not words:
            refuse("value", name)
        else:
            given[name] = words.pop(0)
    return given, rest
