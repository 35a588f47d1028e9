"""The budget of a device that has no memory of its own: what main memory can give it."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import Memory, Unknown


@dataclass(frozen=True, slots=True)
class Share:
    """What the device can use. It is a part of main memory, so it is never counted beside it."""

    total_bytes: int | Unknown
    free_bytes: int | Unknown
    kept_bytes: int | Unknown


def share(memory: Memory) -> Share:
    """Return what is available, never what is free: free memory leaves out the file cache."""
    total, available, kept = memory.total_bytes, memory.available_bytes, memory.kept_bytes
    if isinstance(total, Unknown) or isinstance(kept, Unknown):
        return Share(total, total, total)
    free = available if isinstance(available, Unknown) else max(0, available - kept)
    return Share(total, free, kept)
