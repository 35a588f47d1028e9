"""How fast clients are at one and the same server: a large file, slow connections, many small files."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from flows.report import columns
from tasks.contracts import Weights
from tests.benchmarks.pull_clients import (
    ARIA2,
    CURL,
    CURL_CHECKED,
    CURL_MANY,
    HF,
    OURS,
    Client,
    Fetch,
    hf_start,
    present,
)
from tests.benchmarks.pull_data import DISK, MEMORY, folder_in, repository
from tests.benchmarks.pull_measure import GIB, MIB, Ran, measure, middle
from tests.benchmarks.pull_scale import MB, Scale
from tests.lab.fast_server import FastServer

SMALL_BYTES = 20_000
LATENCY_S = 0.02
Runs = dict[str, list[Ran]]


def in_memory(scale: Scale) -> str:
    """Fetch one large file as fast as it goes, to memory."""
    return _one_file(scale, MEMORY, scale.rounds)


def on_disk(scale: Scale) -> str:
    """Fetch one large file as fast as it goes, to disk."""
    return _one_file(scale, DISK, scale.disk_rounds)


def _one_file(scale: Scale, place: Path, rounds: int) -> str:
    with folder_in(MEMORY) as root:
        weights = repository(root, "lab/one", [scale.one_bytes])
        hash_s = hash_pass(root / "lab/one" / weights.files[0].path)
        clients = present(CURL, OURS, CURL_CHECKED, ARIA2, HF)
        with FastServer(root, hub=True) as server:
            runs = taking_turns(clients, server.endpoint, weights, place, rounds)
    return _table_of_one(runs, weights.size_bytes, place, hash_s)


def _table_of_one(runs: Runs, size_bytes: int, place: Path, hash_s: float) -> str:
    base, gib = middle(runs[CURL.name]), size_bytes / GIB
    where = "MEMORY" if place == MEMORY else "DISK"
    head = (f"{size_bytes / GIB:.3g} GIB TO {where}", *SPAN, "RATE", "OF CURL", "CPU S/GIB", "PEAK", "AIM")
    aims = {
        CURL.name: f"a sha256 pass of hashlib: {hash_s / gib:.2f} s/GiB",
        OURS.name: f"<= 1.30 of curl after its start, CPU <= {(base.cpu_s + hash_s) / gib:.2f}, < 200 MiB",
    }
    rows = []
    for name, all_ in runs.items():
        ran = middle(all_)
        if ran.fault:
            rows.append((name, ran.fault, *[""] * (len(head) - 2)))
            continue
        work_s = ran.wall_s - ran.start_s
        rows.append(
            (name, *span(all_), f"{size_bytes / work_s / MB:.0f} MB/s", f"{work_s / base.wall_s:.2f}",
             f"{ran.cpu_s / gib:.2f}", f"{ran.peak_bytes / MIB:.0f} MiB", aims.get(name, ""))
        )  # fmt: skip
    return columns(head, rows)


def slow_connections(scale: Scale) -> str:
    """Fetch from a server that gives each connection so much and no more."""
    with folder_in(MEMORY) as root:
        weights = repository(root, "lab/rated", [scale.rated_bytes])
        with FastServer(root, hub=True, bytes_per_s=scale.rate) as server:
            runs = taking_turns(present(ARIA2, OURS), server.endpoint, weights, MEMORY, scale.rounds)
            runs |= taking_turns((HF,), server.endpoint, weights, MEMORY, scale.slow_rounds)
    base = runs.get(ARIA2.name, runs[OURS.name])
    aims = {OURS.name: ">= 0.90 of the rate of aria2 after its start", HF.name: f"{scale.slow_rounds} round"}
    rows = []
    for name, all_ in runs.items():
        ran = middle(all_)
        rate = weights.size_bytes / (ran.wall_s - ran.start_s)
        share = rate / (weights.size_bytes / middle(base).wall_s)
        rows.append((name, *span(all_), f"{rate / MB:.0f} MB/s", f"{share:.2f}", aims.get(name, "")))
    title = f"{weights.size_bytes / GIB:.3g} GIB, {scale.rate / MB:.0f} MB/S EACH CONNECTION"
    return columns((title, *SPAN, "RATE", "OF ARIA2", "AIM"), rows)


def many_files(scale: Scale) -> str:
    """Fetch many small files from a server that takes a while for each answer."""
    with folder_in(MEMORY) as root:
        weights = repository(root, "lab/many", [SMALL_BYTES] * scale.many)
        with FastServer(root, hub=True, latency_s=LATENCY_S) as server:
            runs = taking_turns((HF, OURS, CURL_MANY), server.endpoint, weights, MEMORY, scale.rounds)
    base = middle(runs[HF.name])
    rows = []
    for name, all_ in runs.items():
        ran = middle(all_)
        aim = "<= 0.50 of hf" if name == OURS.name else ""
        rows.append((name, *span(all_), f"{ran.wall_s / base.wall_s:.2f}", f"{ran.cpu_s:.2f} s", aim))
    title = f"{scale.many} FILES OF {SMALL_BYTES / 1000:.0f} KB, {1000 * LATENCY_S:.0f} MS EACH ANSWER"
    return columns((title, *SPAN, "OF HF", "CPU", "AIM"), rows)


SPAN = ("WALL", "LEAST", "MOST", "START")


def span(runs: Sequence[Ran]) -> tuple[str, str, str, str]:
    """Write median, least and most of the wall, and the part of it that was the start."""
    walls, ran = [run.wall_s for run in runs], middle(runs)
    start = f"{ran.start_s:.2f} s" if ran.start_s else ""
    return f"{ran.wall_s:.2f} s", f"{min(walls):.2f} s", f"{max(walls):.2f} s", start


def taking_turns(
    clients: Sequence[Client], endpoint: str, weights: Weights, place: Path, rounds: int
) -> Runs:
    """Let each client fetch into an empty folder, one after the other, so often."""
    runs: Runs = {client.name: [] for client in clients}
    for _ in range(rounds):
        for client in clients:
            with folder_in(place) as folder:
                os.sync()  # so that no client pays for what another left to be written
                runs[client.name].append(measure(client.command(Fetch(endpoint, (weights,), folder))))
    if HF.name in runs:
        with folder_in(place) as folder:
            start_s = measure(hf_start(folder)).wall_s
        runs[HF.name] = [run.started(start_s) for run in runs[HF.name]]
    return runs


def hash_pass(path: Path) -> float:
    """Return the processor seconds that one sha256 pass of hashlib over a file takes, the least of three."""
    found = []
    for _ in range(3):
        begun = time.process_time()
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        found.append(time.process_time() - begun)
    return min(found)


def peers() -> str:
    """Say which peer is not here."""
    return "aria2c is there" if shutil.which("aria2c") else "no aria2c (apt-get install aria2): left out"
