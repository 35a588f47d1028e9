"""What a server on loopback can do wrong: one record for each fault, and the order that asks for it.

A place in a body is `at`, a byte of the file (only an answer that carries that byte is hit), or `after`,
so many bytes of the answer; with neither it is half of the answer. An answer without a body (HEAD, a
redirect) breaks before its first byte.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal

import msgspec

Where = Literal["api", "head", "get", "cdn"]
Name = Literal["drop", "truncated", "corrupt", "short", "long", "stall", "slow"]

FOREVER = 1_000_000
ASIDE = 10
CLIMBING = (
    "../../x",
    "/abs",
    "a/../../b",
    "a/./b",
    "C:\\x",
    "..\\x",
    "nul\0x",
    "new\nline",
    ".",
    "..",
    "a//b",
    "",
)


class Drop(msgspec.Struct, frozen=True, tag=True):
    """End the connection in the middle of a body that was announced whole; with `reset`, by RST."""

    at: int | None = None
    after: int | None = None
    reset: bool = False


class Stall(msgspec.Struct, frozen=True, tag=True):
    """Say nothing more from some byte on: until the lab closes, or for `for_s` and then go on."""

    at: int | None = None
    after: int | None = None
    for_s: float | None = None


class Short(msgspec.Struct, frozen=True, tag=True):
    """Announce and send `by` bytes less than were asked for."""

    by: int = ASIDE


class Long(msgspec.Struct, frozen=True, tag=True):
    """Send `by` bytes more than were asked for; `announced` counts them in Content-Length too."""

    by: int = ASIDE
    announced: bool = False


class Flip(msgspec.Struct, frozen=True, tag=True):
    """Flip one bit of byte `at` of the file; -1 is the last byte."""

    at: int = -1


class Status(msgspec.Struct, frozen=True, tag=True):
    """Answer with a status, and say when to come again: Retry-After (or as a date), RateLimit."""

    code: int
    retry_after_s: int | None = None
    as_date: bool = False
    rate_limit_s: int | None = None
    headers: dict[str, str] = {}
    text: str = ""

    def all_headers(self, date: Callable[[float], str]) -> dict[str, str]:
        """Return the headers; `date` writes a time in seconds as HTTP does."""
        headers = dict(self.headers)
        if self.retry_after_s is not None:
            later = date(time.time() + self.retry_after_s) if self.as_date else str(self.retry_after_s)
            headers["Retry-After"] = later
        if self.rate_limit_s is not None:
            headers["RateLimit"] = f'"api";r=0;t={self.rate_limit_s}'
            headers["RateLimit-Policy"] = '"fixed window";"api";q=500;w=300'
        return headers


class RedirectLoop(msgspec.Struct, frozen=True, tag=True):
    """Redirect to the address that was asked for."""


class RedirectTo(msgspec.Struct, frozen=True, tag=True):
    """Redirect to the same path at another origin, such as `http://127.0.0.1:9`."""

    origin: str


class Slow(msgspec.Struct, frozen=True, tag=True):
    """Send so many bytes a second; with `headers`, the head drips too."""

    bytes_per_s: float = 3_200_000
    headers: bool = False


class Garbage(msgspec.Struct, frozen=True, tag=True):
    """Answer with something that is not HTTP, and close."""

    text: str = "\x00\xff\x16 this is not HTTP\r\n\r\n"


class Silent(msgspec.Struct, frozen=True, tag=True):
    """Take the request and do not answer: until the lab closes, or for `for_s` and then do."""

    for_s: float | None = None


class Hangup(msgspec.Struct, frozen=True, tag=True):
    """Close without an answer."""


class Swap(msgspec.Struct, frozen=True, tag=True):
    """From this answer on the file has other bytes and another ETag, under the same address."""

    data: bytes


class Lie(msgspec.Struct, frozen=True, tag=True):
    """Say something else about `file` (or all): in the listing, or in the headers of HEAD and GET."""

    file: str | None = None
    sha256: str | None = None
    size: int | None = None
    oid: str | None = None
    path: str | None = None
    commit: str | None = None


Fault = (
    Drop
    | Stall
    | Short
    | Long
    | Flip
    | Status
    | RedirectLoop
    | RedirectTo
    | Slow
    | Garbage
    | Silent
    | Hangup
    | Swap
    | Lie
)
What = Fault | Name | int

NAMED: dict[str, Callable[[], Fault]] = {
    "drop": Drop,
    "truncated": Drop,
    "corrupt": Flip,
    "short": Short,
    "long": Long,
    "stall": Stall,
    "slow": Slow,
}


def fault_of(what: What) -> Fault:
    """Return the record for a name or a status."""
    if isinstance(what, int):
        return Status(what)
    return NAMED[what]() if isinstance(what, str) else what


class Order(msgspec.Struct):
    """Break the next `times` answers after `skip` good ones; `only` those about one file."""

    where: Where
    what: Fault
    times: int = FOREVER
    skip: int = 0
    only: str | None = None

    def take(self, names: set[str], first: int, end: float) -> bool:
        """Count one answer, which carries bytes `first` to `end`, and tell whether it is to break."""
        if self.times <= 0 or (self.only is not None and self.only not in names):
            return False
        place = getattr(self.what, "at", None)
        if place is not None and place >= 0 and not first <= place < end:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


def place_of(fault: Fault | None, first: int, end: int) -> float:
    """Return the byte of the file at which an answer breaks; infinity when it does not."""
    if not isinstance(fault, Drop | Stall):
        return math.inf
    if fault.at is not None:
        return fault.at
    return first + ((end - first) // 2 if fault.after is None else fault.after)
