"""Processes by pid: those that carry our mark, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "PMOVES_SUPERVISED"
"""The variable that every supervised process carries; it holds the state folder."""

POLL_S = 0.05


def orphans(state: Path, proc: Path = Path("/proc")) -> tuple[int, ...]:
    """Return the pids that carry the mark of `state`, apart from this process and its ancestors."""
    mark = f"{MARK}={state}".encode()
    own = _ancestors(proc)
    found = []
    for folder in proc.iterdir():
        if folder.name.isdecimal() and int(folder.name) not in own:
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return tuple(found)


def _ancestors(proc: Path) -> set[int]:
    pids, pid = set(), os.getpid()
    while pid and pid not in pids:
        pids.add(pid)
        with contextlib.suppress(OSError):
            pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return pids


def end(pids: tuple[int, ...], *, patience_s: float) -> None:
    """End processes with SIGTERM, and with SIGKILL those that are there `patience_s` later."""
    for sign, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        left = [pid for pid in pids if alive(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        deadline = time.monotonic() + wait_s
        while any(alive(pid) for pid in left) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected does not."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
