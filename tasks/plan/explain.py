"""Numbers and lists as people read them. Bytes become GiB only here and in `flows/report.py`."""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def gib(size_bytes: int) -> str:
    """Write bytes as "16.1 GiB", or in MiB or KiB when they are few."""
    if size_bytes >= GIB // 10:
        return f"{size_bytes / GIB:.1f} GiB"
    if size_bytes >= MIB // 10:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / KIB:.1f} KiB" if size_bytes else "0 bytes"


def plural(count: int, noun: str) -> str:
    """Write "1 card", "2 cards"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(items: tuple[str, ...] | list[str]) -> str:
    """Write "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
