"""A program's run, measured from outside: wall, processor, the most memory."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import msgspec

from tests.benchmarks.pull_ours import Took
from tests.conftest import ROOT

GIB = 1 << 30
MIB = 1 << 20
SAMPLE_S = 0.01
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass(frozen=True, slots=True)
class Command:
    """A program to start. `order` is told the monotonic time of that and gives what to write to stdin."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    order: Callable[[float], bytes] = lambda _asked_s: b""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run. `start_s` goes by before the first line of work, where that is known."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    start_s: float = 0.0
    whole_s: tuple[float, ...] = ()
    fault: str = ""

    def started(self, start_s: float) -> Ran:
        """Return the run with what its start took."""
        return replace(self, start_s=start_s)


def begin(command: Command, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a program and write its order."""
    process = subprocess.Popen(
        command.argv,
        stdin=subprocess.PIPE,
        stdout=output or subprocess.DEVNULL,
        stderr=output or subprocess.DEVNULL,
        env=command.environment,
        cwd=ROOT,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(command.order(time.monotonic()))
    return process


def measure(command: Command) -> Ran:
    """Run a program to its end."""
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        process = begin(command, output)
        peak = _Peak(process.pid)
        peak.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        peak.over.set()
        peak.join()
        output.seek(0)
        said = output.read()
    ran = Ran(wall_s, usage.ru_utime + usage.ru_stime, peak.most_bytes)
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        return replace(ran, fault=f"exit {process.returncode}: {last[:80]}")
    with suppress(msgspec.DecodeError):
        took = msgspec.json.decode(said, type=Took)
        return replace(ran, start_s=took.start_s, whole_s=took.whole_s)
    return ran


class _Peak(threading.Thread):
    """Watches the most memory of a process; what wait4 says of it counts this process, too."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.most_bytes = 0
        self.over = threading.Event()
        self._status = Path(f"/proc/{pid}/status")

    def run(self) -> None:
        """Look until the end."""
        while not self.over.wait(SAMPLE_S):
            with suppress(OSError):
                found = _PEAK.search(self._status.read_text())
                self.most_bytes = int(found[1]) * 1024 if found else self.most_bytes


def middle(runs: Sequence[Ran]) -> Ran:
    """Return the medians of the runs that went well, or the first fault."""
    well = [run for run in runs if not run.fault]
    if not well:
        return runs[0]
    return Ran(
        statistics.median(run.wall_s for run in well),
        statistics.median(run.cpu_s for run in well),
        int(statistics.median(run.peak_bytes for run in well)),
        statistics.median(run.start_s for run in well),
        tuple(statistics.median(found) for found in zip(*(run.whole_s for run in well), strict=True)),
    )


def machine() -> str:
    """Say how busy the machine is."""
    one, five, _ = os.getloadavg()
    return f"{os.cpu_count()} processors, load {one:.2f} (five minutes: {five:.2f})"
