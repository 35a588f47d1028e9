"""Numbers and lists as people read them: the one place where bytes become "16.1 GiB". Pure."""

from __future__ import annotations

from collections.abc import Sequence

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def gib(size_bytes: int) -> str:
    """Write bytes as "16.1 GiB", or in smaller units when they are few. A unit is 1024 of the next."""
    if size_bytes >= GIB // 10:
        return f"{size_bytes / GIB:.1f} GiB"
    if size_bytes >= MIB // 10:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / KIB:.1f} KiB" if size_bytes >= KIB else f"{size_bytes} bytes"


def plural(count: int, noun: str) -> str:
    """Write "1 card", "2 cards"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(items: Sequence[str]) -> str:
    """Write "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
