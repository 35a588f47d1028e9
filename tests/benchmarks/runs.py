"""How long a run takes: cold from a clone, warm, and beside an empty flow on the same server."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flows.report import columns
from tests.conftest import ROOT
from tests.lab.host import LabHost

ROUNDS = 5
EMPTY = """
from prefect import flow

@flow
def empty() -> None: ...

empty()
"""


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory(prefix="pmoves-bench-") as name:
        folder = Path(name)
        clone = folder / "clone"
        subprocess.run(("git", "clone", "--quiet", str(ROOT), str(clone)), check=True)
        host = LabHost.make(folder / "host", folder / "hub")
        try:
            print(cold(host, clone), end="\n\n")
            print(warm(host), end="\n\n")
        finally:
            host.close()
            shutil.rmtree(clone)


def cold(host: LabHost, clone: Path) -> str:
    """Measure `make provision` from a clone: no .venv, no server, no weights. uv's cache is as it is."""
    venv = seconds(
        lambda: subprocess.run(("make", ".venv/.ready"), cwd=clone, check=True, capture_output=True)
    )
    begun = time.monotonic()
    done = subprocess.run(
        ("make", "provision"), cwd=clone, env=host.environment, capture_output=True, text=True, check=True
    )
    rest = time.monotonic() - begun
    up = re.search(r"up after ([0-9.]+) s", done.stderr)
    rows = [
        ("set-up: .venv from uv.lock", f"{venv:.1f} s"),
        ("set-up: Prefect server", f"{up[1] if up else '?'} s"),
    ]
    record = host.json("history")[0]
    rows += [(f"{one['stage']} {one['subject']}", f"{one['seconds']:.2f} s") for one in record["timings"]]
    rows += [("the run, without set-up", f"{record['seconds']:.1f} s"), ("in all", f"{venv + rest:.1f} s")]
    return columns(("COLD make provision", "TOOK"), rows)


def warm(host: LabHost) -> str:
    """Measure the run that finds nothing to do, beside an empty flow on the same server, taking turns."""
    flow = host.folder / "empty.py"
    flow.write_text(EMPTY)
    prefect = {
        "PREFECT_HOME": str(host.state / "prefect"),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    }
    environment = {**host.environment, **prefect}

    def empty() -> None:
        subprocess.run((sys.executable, str(flow)), env=environment, check=True, capture_output=True)

    timed: dict[str, list[float]] = {"an empty flow": [], "pmoves provision": [], "pmoves plan": []}
    for _ in range(ROUNDS):
        timed["an empty flow"].append(seconds(empty))
        timed["pmoves provision"].append(seconds(lambda: host.pmoves("provision")))
        timed["pmoves plan"].append(seconds(lambda: host.pmoves("plan")))
    base = statistics.median(timed["an empty flow"])
    rows = [
        (name, f"{statistics.median(all_):.2f} s", f"{min(all_):.2f} s", f"{max(all_):.2f} s",
         f"{statistics.median(all_) / base:.2f}")
        for name, all_ in timed.items()
    ]  # fmt: skip
    return columns((f"WARM, {ROUNDS} rounds", "MEDIAN", "LEAST", "MOST", "OF THE EMPTY FLOW"), rows)


if __name__ == "__main__":
    main()
