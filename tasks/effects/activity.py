"""Whether processes do anything: a number that grows while they compute, read or take memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

UTIME, STIME = 11, 12
"""Places of the processor times in /proc/PID/stat, counted after the command's closing bracket (proc(5))."""


def activity(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Return the sum of processor ticks, bytes read and resident pages; 0 where none can be read."""
    return sum(_of(proc / str(pid)) for pid in pids)


def _of(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        total += int(fields[UTIME]) + int(fields[STIME])
    with contextlib.suppress(OSError, ValueError, IndexError):
        total += int((folder / "statm").read_text().split()[1])
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "io").read_text().splitlines():
            if line.startswith("rchar:"):
                total += int(line.split()[1])
    return total
