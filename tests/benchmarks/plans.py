"""How long planning takes: a cold command, one plan in process, a hundred hosts, and a peer's planner."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from flows.report import columns
from tasks import catalogue
from tasks.contracts import HostFacts, StoreView
from tasks.detect.example import from_example
from tasks.detect.replay import read_case, replay
from tasks.errors import ProvisionError
from tasks.plan.choose import AUTO, Request, make_plan
from tests.conftest import ROOT
from tests.lab.bundles import ALL_OFFERS

ROUNDS = 9
HOSTS = 100
CASES = sorted((ROOT / "tests/cases/hosts").glob("*.json"))
PEERS = {
    "llmfit, one model at a time, for 24 GB": ("llmfit", "--memory=24G", "recommend", "--json"),
    "llm-fit, one model at a time, for this host": ("llm-fit", "suggest"),
}
"""Other planners that may be on the PATH. None of them places a bundle."""


def milliseconds(action: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Return how long an action takes, each time."""
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        found.append(1000 * (time.perf_counter() - begun))
    return found


def main() -> None:
    """Print the table."""
    shelf = catalogue.load(catalogue.DEFAULT)
    profile = shelf.profiles["dual-gpu"]
    facts = from_example(profile, host="dual-gpu")

    def plan(host: HostFacts, name: str) -> None:
        request = Request(name)
        try:
            make_plan(host, shelf, offers=ALL_OFFERS, store=StoreView("/store", {}), request=request)
        except ProvisionError as refusal:
            sys.stderr.write(f"{refusal}\n")

    def many() -> None:
        for path in islice(cycle(CASES), HOSTS):
            plan(replay(read_case(path), host=path.stem), AUTO)

    timed = {
        "pmoves plan --as dual-gpu, cold (aim 300)": milliseconds(_command("plan", "--as", "dual-gpu")),
        "six roles on two cards, in process (aim 50)": milliseconds(lambda: plan(facts, "dual-gpu")),
        f"{HOSTS} captured hosts, replayed and planned (aim 2000)": milliseconds(many, 3),
        f"the catalogue of {len(shelf.models)} models, parsed": milliseconds(catalogue.load),
        **{name: milliseconds(_run(command)) for name, command in PEERS.items() if shutil.which(command[0])},
    }
    rows = [
        (name, f"{statistics.median(found):.0f} ms", f"{min(found):.0f} ms", f"{max(found):.0f} ms")
        for name, found in timed.items()
    ]
    print(columns(("PLANNING", "MEDIAN", "LEAST", "MOST"), rows), end="\n\n")


def _command(*words: str) -> Callable[[], object]:
    """Return a cold command of this program, with a state folder of its own that it finds warm."""
    state = tempfile.mkdtemp(prefix="pmoves-bench-")
    pmoves = str(Path(sys.executable).with_name("pmoves"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": state, "PMOVES_STATE": state}
    return _run((pmoves, *words), environment)


def _run(command: tuple[str, ...], environment: dict[str, str] | None = None) -> Callable[[], object]:
    return lambda: subprocess.run(command, env=environment, capture_output=True, check=True)


if __name__ == "__main__":
    main()
