"""What a person wrote on a command line or in a run form, before it is read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import UsageError
from tasks.plan.request import AUTO

UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
         "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}  # fmt: skip
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wants:
    """A profile, and how it may be planned. `vram` and `ram` are caps such as "20GiB"; empty means none."""

    profile: str = AUTO
    strict: bool = False
    accept_risk: bool = False
    overrides: tuple[str, ...] = ()
    vram: str = ""
    ram: str = ""


def parse_size(text: str, name: str) -> int | None:
    """Read "20GiB" (2^30 bytes each), "20GB" (10^9) or a number of bytes; None for an empty text.

    Raises:
        UsageError: it is neither.
    """
    if not text:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in UNITS:
        raise UsageError(
            f"{name} is {text!r}, which is not a size", "nothing was changed", "write for example 20GiB"
        )
    return int(float(match[1]) * UNITS[match[2].lower()])
