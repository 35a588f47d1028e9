"""How much main memory a process holds now."""

from __future__ import annotations

from pathlib import Path

from tasks.contracts import Unknown


def resident_bytes(pid: int, proc: Path = Path("/proc")) -> int | Unknown:
    """Return the resident memory of a process, as its `status` file below `proc` has it."""
    path = proc / str(pid) / "status"
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        return Unknown(f"{path} cannot be read: {error.strerror}")
    for line in lines:
        name, _, value = line.partition(":")
        if name == "VmRSS" and value.split()[0].isdigit():
            return int(value.split()[0]) * 1024
    return Unknown(f"{path} has no VmRSS line")
