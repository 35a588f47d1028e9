"""Where text goes: data to standard output, hints to standard error."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import msgspec


def out(record: Any, text: Callable[[], str], *, as_json: bool) -> None:  # noqa: ANN401  # any record
    """Print one record, as JSON or as text."""
    data = msgspec.json.format(msgspec.json.encode(record)).decode() if as_json else text()
    try:
        sys.stdout.write(data + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the data has read enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def hint(text: str) -> None:
    """Print what to do next, where it does not mix with data; a command can be pasted as it stands."""
    command = "pmoves" if shutil.which("pmoves") else sys.argv[0]
    sys.stderr.write(text.replace("Next: pmoves", f"Next: {command}") + "\n")
