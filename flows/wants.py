"""What a person wrote on a command line or in a run form, before it is read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import UsageError
from tasks.plan.request import AUTO, NOTHING_CHANGED, size_of

LEAST_BYTES = 1 << 20
LEAST_RATE = 1 << 14


@dataclass(frozen=True, slots=True)
class Wants:
    """A profile, how it may be planned, and how its weights may be fetched.

    `vram` and `ram` are caps such as "20GiB", `limit_rate` bytes a second such as "20MB"; empty means none.
    `weights_from` is the folder of an export, to provision from without a network. `verify` reads again every
    byte that is there.
    """

    profile: str = AUTO
    strict: bool = False
    accept_risk: bool = False
    overrides: tuple[str, ...] = ()
    vram: str = ""
    ram: str = ""
    limit_rate: str = ""
    weights_from: str = ""
    verify: bool = False

    def words(self, profile: str) -> str:
        """Write a profile and the options as they are written on a command line."""
        flags = (["--strict"] if self.strict else []) + (["--accept-risk"] if self.accept_risk else [])
        caps = [f"--{name} {value}" for name, value in (("vram", self.vram), ("ram", self.ram)) if value]
        fetching = [
            f"--{name} {value}"
            for name, value in (("limit-rate", self.limit_rate), ("from", self.weights_from))
            if value
        ]
        verify = ["--verify"] if self.verify else []
        sets = (f"--set {one}" for one in self.overrides)
        return " ".join([profile, *sets, *caps, *flags, *fetching, *verify])


def parse_rate(text: str) -> int | None:
    """Read bytes a second; None for an empty text.

    Raises:
        UsageError: it is not a rate, or one below which a download counts as standing still.
    """
    rate = size_of(text.removesuffix("/s")) if text else None
    if text and (rate is None or rate < LEAST_RATE):
        what = "which is not a rate" if rate is None else f"which is {rate} bytes a second"
        then = f"write for example 20MB, and at least {LEAST_RATE // 1024}KiB"
        raise UsageError(f"the limit of downloads is {text!r}, {what}", NOTHING_CHANGED, then)
    return rate


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
