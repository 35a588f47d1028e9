"""What a gateway in a container printed → one sentence. Pure.

It prints a JSON object a line (`--log-format json`): {"level": "ERROR", "fields": {"message": …}, …}. What is
below it, such as the shell that starts it, prints plain text.
"""

from __future__ import annotations

import json
import re

from tasks.contracts import ContainerState

SHOWN_CHARACTERS = 600
LOAD_FAILED = "Failed to load config. Config file glob"
"""What it prints last, after the sentence that says why."""

KILLED = 137
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def readable(log: str, lines: int = 5) -> str:
    """Return the last lines of a log as a person reads them, joined with " | "."""
    told = [text for _level, text in map(_line, log.splitlines()) if text]
    return " | ".join(told[-lines:])


def cause(state: ContainerState | None, log: str) -> str:
    """Return in one clause why a gateway ended while it started."""
    if state is None:
        return "the gateway's container is gone: somebody removed it"
    if state.oom_killed:
        return "the gateway took more main memory than its limit, and the kernel ended it"
    how = "was killed" if state.exit_code == KILLED else f"ended with exit code {state.exit_code}"
    return f"the gateway {how} while it started{_said(log)}"


def _said(log: str) -> str:
    told = [(level, text) for level, text in map(_line, log.splitlines()) if text]
    errors = [text for level, text in told if level == "ERROR" and not text.startswith(LOAD_FAILED)]
    # The first error is the reason; what follows says what could not be done for it.
    text = (errors[0] if errors else (told or [("", "")])[-1][1]).rstrip(".")
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return f": {cut}" if cut else ", without a word"


def _line(line: str) -> tuple[str, str]:
    """Return the level of a line, where it has one, and its message."""
    try:
        found = json.loads(line)
        level, text = str(found["level"]), str(found["fields"]["message"])
    except (ValueError, KeyError, TypeError):
        level, text = "", _COLOURS.sub("", line)
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return level, " ".join(plain.split())
