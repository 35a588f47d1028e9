"""One round: pulls under trouble, stopped and killed, then one without; and what must hold afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec

from tasks.contracts import Weights
from tasks.pull import store
from tests.conftest import ROOT
from tests.lab.environment import clean_environment
from tests.lab.hub_process import HubProcess
from tests.lab.weights import processes_of, staging_folders
from tests.soak.puller import SAID, Order
from tests.soak.trouble import Trouble
from tests.soak.truth import Bundle, make
from tests.soak.watch import Watch

LAST_S = 90.0
"""How long a pull from a hub without faults may take."""
LAST_PULLS = 1
"""How many pulls a healthy hub may need; a second would forgive wrong bytes that an earlier pull left."""
STOP_S = 15.0
"""How long a pull may take to stop."""
GONE_S = 5.0
KILLED, ENDED = -9, -15


class SoakError(Exception):
    """Raised when something does not hold."""


@dataclass
class Tally:
    """What a soak did. `held_bytes` were checked after all, `sent_bytes` crossed under trouble."""

    rounds: int = 0
    held_bytes: int = 0
    sent_bytes: int = 0
    files_seen: int = 0
    stop_s: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


@dataclass
class Round:
    """One round in a folder of its own."""

    folder: Path
    random: Random
    tally: Tally
    pullers: int = 0

    def play(self) -> None:
        """Play it.

        Raises:
            SoakError: says what does not hold.
        """
        root, cache = self.folder / "hub", self.folder / "store"
        bundle = make(self.random, root)
        with HubProcess(root) as hub, Watch(cache, bundle.sha256) as watch:
            trouble = Trouble(hub, Random(self.random.random()))  # noqa: S311  # it must come again
            with trouble:
                for _ in range(self.random.randint(1, 4)):
                    self._attempt(hub, cache, bundle)
            self.tally.faults += trouble.made
            self.tally.sent_bytes += trouble.sent_bytes
            if trouble.error is not None:
                raise trouble.error
            self._last(hub, cache, bundle, LAST_PULLS)
        watch.look()
        self.tally.files_seen += watch.seen
        self._check(cache, bundle, watch.faults)
        self.tally.rounds += 1
        self.tally.held_bytes += bundle.size_bytes

    def _attempt(self, hub: HubProcess, cache: Path, bundle: Bundle) -> None:
        """Let one or two pulls run at once, each to its own end."""
        random = self.random
        orders = []
        for _ in range(random.choice([1, 1, 2])):
            some = tuple(random.sample(bundle.models, random.randint(1, len(bundle.models))))
            orders.append(self._order(hub, cache, some))
        ends = [(random.choice(["kill", "kill", "stop", "wait"]), random.uniform(0.4, 4.0)) for _ in orders]
        with self._started(orders) as processes:
            begun = time.monotonic()
            for process, (how, after_s) in sorted(
                zip(processes, ends, strict=True), key=lambda pair: pair[1][1]
            ):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, begun + after_s - time.monotonic()))
                self._end(process, how)

    def _order(self, hub: HubProcess, cache: Path, models: tuple[Weights, ...]) -> Order:
        random = self.random
        limit = random.choice([None, None, None, 20_000_000])
        return Order(
            str(cache), hub.endpoint, models, random.choice([1, 4, 16]), limit, random.choice([3, 6, 20])
        )

    @contextmanager
    def _started(self, orders: list[Order]) -> Iterator[list[subprocess.Popen[bytes]]]:
        processes = [self._start(order) for order in orders]
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def _start(self, order: Order) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-m", "tests.soak.puller")
        environment = clean_environment(SOAK_STORE=order.cache)
        self.pullers += 1
        with (self.folder / f"puller-{self.pullers}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, cwd=ROOT
            )
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(msgspec.json.encode(order))
        return process

    def _end(self, process: subprocess.Popen[bytes], how: str) -> None:
        """End a pull in one of three ways, and look at its exit code."""
        over = process.poll()
        if over is None and how == "stop":
            begun = time.monotonic()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                raise SoakError(f"a pull did not stop within {STOP_S:g} s") from None
            self.tally.stop_s = max(self.tally.stop_s, time.monotonic() - begun)
        elif over is None and how == "wait":
            with suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
        process.kill()
        code = process.wait()
        self.tally.ends[{0: "whole", SAID: "said why", KILLED: "killed"}.get(code, "stopped early")] += 1
        if code not in {0, SAID, KILLED} and not (code == ENDED and how == "stop"):
            raise SoakError(f"a pull ended with {code}, see puller-*.log")

    def _last(self, hub: HubProcess, cache: Path, bundle: Bundle, pulls: int) -> None:
        """Pull all of it, and now it must come."""
        order = Order(str(cache), hub.endpoint, bundle.models, 16, None, 6)
        with self._started([order]) as (process,):
            try:
                code = process.wait(LAST_S)
            except subprocess.TimeoutExpired:
                raise SoakError(f"the last pull was not done within {LAST_S:g} s") from None
        if code == SAID and pulls > 1:
            self._last(hub, cache, bundle, pulls - 1)
        elif code:
            said = (self.folder / f"puller-{self.pullers}.log").read_text()
            raise SoakError(f"the last pull ended with {code}: {said.strip()}")

    def _check(self, cache: Path, bundle: Bundle, seen: list[str]) -> None:
        faults = [*seen, *wrong(cache, bundle)]
        end = time.monotonic() + GONE_S
        while (left := processes_of(cache)) and time.monotonic() < end:
            time.sleep(0.1)
        if left:
            faults.append(f"processes {left} are left")
        if faults:
            raise SoakError("; ".join(faults))


def wrong(cache: Path, bundle: Bundle) -> list[str]:
    """Return what is wrong in a store that should hold a bundle and nothing else."""
    found: dict[str, str] = {}
    watch = Watch(cache, bundle.sha256)
    watch.look()
    faults = watch.faults
    for path in cache.glob("models--*/snapshots/**/*"):
        if not path.is_dir():
            found[str(path.relative_to(cache))] = str(path.resolve())
    faults += [f"{name} is missing" for name in bundle.sha256.keys() - found.keys()]
    faults += [f"{name} is too much" for name in found.keys() - bundle.sha256.keys()]
    blobs = {str(path.resolve()) for path in cache.glob("models--*/blobs/*")}
    faults += [f"the blob {blob} belongs to nothing" for blob in blobs - set(found.values())]
    faults += [f"{folder} is left" for folder in staging_folders(cache)]
    faults += [f"{part} is left" for part in cache.glob("models--*/.pmoves/parts/*")]
    for weights in bundle.models:
        faults += [f"{gap.file.path} counts as missing" for gap in store.missing(cache, weights)]
        ref = store.repo_folder(cache, weights.repo) / f"refs/pmoves/{weights.revision[:8]}"
        if not ref.is_file() or ref.read_text() != weights.revision:
            faults.append(f"{ref} does not name the revision")
    return faults
