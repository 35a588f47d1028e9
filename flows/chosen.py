"""The current profile, in the file that PMOVES' own tools read: `~/.pmoves/profile.json`."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.effects.files import write_atomic
from tasks.errors import StateFolderError

KEY = "profile"


def path_below(home: Path) -> Path:
    """Return where the file is."""
    return home / ".pmoves" / "profile.json"


def read(home: Path) -> str | None:
    """Return the current profile's name; None when there is none, or when the file is not readable."""
    content = _content(home)
    name = content.get(KEY)
    return name if isinstance(name, str) else None


def write(home: Path, name: str) -> Path:
    """Name the current profile; what else the file holds stays.

    Raises:
        StateFolderError: the file cannot be written.
    """
    path = path_below(home)
    try:
        write_atomic(path, json.dumps({**_content(home), KEY: name}, indent=2) + "\n")
    except OSError as error:
        raise StateFolderError(
            f"{path} cannot be written ({error.strerror})",
            "the current profile stays as it was",
            "give this user the right to write there",
        ) from error
    return path


def _content(home: Path) -> dict[str, object]:
    try:
        content = json.loads(path_below(home).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
