"""Numbers, lists and names as people read them: the one place where bytes become "16.1 GiB". Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
FEWEST_LETTERS = 2
"""A shorter word begins too many names to mean one."""


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


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that was probably meant, or None: what begins so before what looks alike."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a refusal needs it

    plain = {_plain(known): known for known in names}
    longer = [known for known in plain if len(name) >= FEWEST_LETTERS and known.startswith(_plain(name))]
    found = [min(longer, key=len)] if longer else get_close_matches(_plain(name), plain, n=1)
    return plain[found[0]] if found else None


def meant(name: str, names: Iterable[str], *, quote: str = '"') -> str:
    """Return ' (did you mean "…"?)', or nothing where no name is near."""
    near = nearest(name, names)
    return f" (did you mean {quote}{near}{quote}?)" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")
