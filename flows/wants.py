"""What a person wrote on a command line or in a run form, before it is read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import UsageError
from tasks.plan.request import AUTO, NOTHING_CHANGED, size_of

LEAST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Wants:
    """A profile, and how it may be planned. `vram` and `ram` are caps such as "20GiB"; empty means none."""

    profile: str = AUTO
    strict: bool = False
    accept_risk: bool = False
    overrides: tuple[str, ...] = ()
    vram: str = ""
    ram: str = ""

    def words(self, profile: str) -> str:
        """Write a profile and the options as they are written on a command line."""
        flags = (["--strict"] if self.strict else []) + (["--accept-risk"] if self.accept_risk else [])
        caps = [f"--{name} {value}" for name, value in (("vram", self.vram), ("ram", self.ram)) if value]
        return " ".join([profile, *(f"--set {one}" for one in self.overrides), *caps, *flags])


def parse_size(text: str, name: str) -> int | None:
    """Read a cap; None for an empty text.

    Raises:
        UsageError: it is not a size, or one that is too small to be meant.
    """
    if not text:
        return None
    size = size_of(text)
    if size is None or size < LEAST_BYTES:
        what = "which is not a size" if size is None else f"which is {size} bytes"
        raise UsageError(f"{name} is {text!r}, {what}", NOTHING_CHANGED, "write for example 20GiB")
    return size
