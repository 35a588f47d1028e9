"""The budget of a device that has no memory of its own: what main memory can give it."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import Memory, Unknown

KEPT_SHARE = 16
KEPT_LEAST_BYTES, KEPT_MOST_BYTES = 512 << 20, 4 << 30
"""The system keeps a sixteenth of its memory, within these bounds: chosen here, not measured."""


@dataclass(frozen=True, slots=True)
class Share:
    """What the device can use. It is a part of main memory, so it is never counted beside it."""

    total_bytes: int | Unknown
    free_bytes: int | Unknown
    kept_bytes: int | Unknown


def share(memory: Memory) -> Share:
    """Return what is available, never what is free: free memory leaves out the file cache."""
    total, available = memory.total_bytes, memory.available_bytes
    if isinstance(total, Unknown):
        return Share(total, total, total)
    kept = min(max(total // KEPT_SHARE, KEPT_LEAST_BYTES), KEPT_MOST_BYTES)
    free = available if isinstance(available, Unknown) else max(0, available - kept)
    return Share(total, free, kept)
