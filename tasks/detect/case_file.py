"""A case file that `pmoves doctor --capture` wrote, read and checked. tasks/detect/capture.py writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tasks.effects.containers import EngineInfo
from tasks.errors import UsageError

LARGEST_BYTES = 16 << 20

KINDS = {"object": "a mapping", "array": "a list", "str": "text", "int": "a whole number", "null": "nothing"}


class Case(msgspec.Struct, frozen=True):
    """What a replay needs of a case file; tasks/detect/capture.py says what each key holds."""

    files: dict[str, str | None]
    nvml: dict[str, Any] | UnsetType | None = UNSET
    engine: EngineInfo | UnsetType | None = UNSET
    disks: tuple[str, str] = ("/", "/")
    proxies: tuple[str, ...] = ()


def read_case(path: Path) -> dict[str, Any]:
    """Read a capture.

    Raises:
        UsageError: it cannot be read, or it is not a capture.
    """
    case = _parsed(_read(path), str(path))
    shaped(case, name=str(path))
    return case


def shaped(case: dict[str, Any], *, name: str) -> Case:
    """Give a capture its shape.

    Raises:
        UsageError: a key is missing, or holds something else than it must.
    """
    try:
        return msgspec.convert(case, Case)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise refusal(name, f"is not a capture ({plain(error)})") from error


def refusal(name: str, what: str) -> UsageError:
    """Return the refusal of a capture."""
    return UsageError(
        f"{name} {what}",
        "nothing was planned or changed",
        "write it anew with `pmoves doctor --capture FILE` on that host",
    )


def plain(error: Exception) -> str:
    """Say msgspec's "Expected `object`, got `int` - at `$.files`" in words; other errors as they are."""
    said, _, place = str(error).rpartition(" - at `$")
    where = place.strip(".`") + ": " if said and place.strip("`") else ""
    return where + re.sub("`([^`]*)`", lambda found: _in_words(found[1]), said or str(error))


def _in_words(kinds: str) -> str:
    return " or ".join(KINDS.get(kind, kind) for kind in kinds.split(" | "))


def _read(path: Path) -> bytes:
    name = str(path)
    try:
        if path.exists() and not path.is_file():
            raise refusal(name, "is not a file")
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise refusal(name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(data) > LARGEST_BYTES:
        raise refusal(name, f"is larger than {LARGEST_BYTES >> 20} MiB, and a capture is not")
    return data


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise refusal(name, f"is not a capture ({plain(error)})") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(name, f"is not JSON ({error})") from error
