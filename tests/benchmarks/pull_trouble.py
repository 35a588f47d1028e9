"""What a kill costs, and what six models cost that share one link."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from flows.report import columns
from tasks.contracts import Weights
from tests.benchmarks.pull_clients import ARIA2, CURL, HF, OURS, Client, Fetch, present
from tests.benchmarks.pull_data import MEMORY, folder_in, repository
from tests.benchmarks.pull_measure import MIB, Ran, begin, measure, middle
from tests.benchmarks.pull_scale import MB, Scale
from tests.lab.fast_server import FastServer
from tests.lab.hub_process import HubProcess

LINK_BYTES_PER_S = 200e6
"""So that the half is met within a percent; the hub is asked how far it is every few milliseconds."""
BUFFER_BYTES = 1 << 16
LOOK_S = 0.005


def killed(scale: Scale) -> str:
    """Kill each client by SIGKILL when it has half of a file, start it again, and count the bytes."""
    with folder_in(MEMORY) as root:
        weights = repository(root / "hub", "lab/killed", [scale.killed_bytes])
        rows = [_killed(client, weights, root) for client in present(OURS, CURL, ARIA2, HF)]
    title = f"KILL -9 AT HALF OF {scale.killed_bytes / MIB:.0f} MIB, THEN AGAIN"
    return columns((title, "KILLED AT", "SENT IN ALL", "IN EXCESS", "AIM"), rows)


def _killed(client: Client, weights: Weights, root: Path) -> tuple[str, ...]:
    with (
        HubProcess(root / "hub", buffer_bytes=BUFFER_BYTES, link_bytes_per_s=LINK_BYTES_PER_S) as hub,
        folder_in(root) as folder,
    ):
        command = client.command(Fetch(hub.endpoint, (weights,), folder))
        at_bytes = _kill_at_half(begin(command), hub, weights.size_bytes)
        ran = measure(client.command(Fetch(hub.endpoint, (weights,), folder)))
        sent = hub.stat()["sent_bytes"]
    excess = sent / weights.size_bytes - 1
    aim = "<= 1 %" if client is OURS else ""
    said = ran.fault or f"{100 * excess:.2f} %"
    return client.name, f"{100 * at_bytes / weights.size_bytes:.0f} %", f"{sent / MB:.1f} MB", said, aim


def _kill_at_half(process: subprocess.Popen[bytes], hub: HubProcess, size_bytes: int) -> int:
    """Kill a client at half of a file, and return what was sent until then."""
    sent = 0
    while process.poll() is None and sent < size_bytes // 2:
        time.sleep(LOOK_S)
        sent = int(hub.stat()["sent_bytes"])
    process.kill()
    process.wait()
    return sent


def bundle(scale: Scale) -> str:
    """Pull several models at once through one link, and say when each was whole."""
    with folder_in(MEMORY) as root:
        models = [
            repository(root, f"lab/model-{number}", [size]) for number, size in enumerate(scale.bundle, 1)
        ]
        with FastServer(root, hub=True, link_bytes_per_s=scale.link) as server:
            runs: dict[str, list[Ran]] = {OURS.name: [], HF.name: []}
            for number in range(scale.rounds):
                with folder_in(MEMORY) as folder:
                    runs[OURS.name].append(
                        measure(OURS.command(Fetch(server.endpoint, tuple(models), folder)))
                    )
                if number < scale.slow_rounds:
                    runs[HF.name].append(_one_by_one(HF, models, server.endpoint))
    least_s = sum(scale.bundle) / scale.link
    rows = [_bundle_row(name, middle(all_), least_s) for name, all_ in runs.items()]
    sizes = ", ".join(f"{size / MB:.0f}" for size in scale.bundle)
    title = f"{sizes} MB AT ONCE, {scale.link / MB:.0f} MB/S IN ALL"
    return columns((title, "WALL", "START", "OF BYTES/BANDWIDTH", "EACH WHOLE AFTER", "AIM"), rows)


def _one_by_one(client: Client, models: list[Weights], endpoint: str) -> Ran:
    """Let a client that takes one repository at a time fetch all."""
    wall_s, cpu_s, whole, peak = 0.0, 0.0, [], 0
    with folder_in(MEMORY) as folder:
        for weights in models:
            ran = measure(client.command(Fetch(endpoint, (weights,), folder)))
            if ran.fault:
                return ran
            wall_s, cpu_s, peak = wall_s + ran.wall_s, cpu_s + ran.cpu_s, max(peak, ran.peak_bytes)
            whole.append(wall_s)
    return Ran(wall_s, cpu_s, peak, whole_s=tuple(whole))


def _bundle_row(name: str, ran: Ran, least_s: float) -> tuple[str, ...]:
    if ran.fault:
        return name, ran.fault, "", "", "", ""
    is_ours = name == OURS.name
    work_s = max(ran.whole_s)
    whole = ", ".join(f"{one:.1f}" for one in ran.whole_s) + " s"
    return (
        name if is_ours else f"{name}, one after the other",
        f"{ran.wall_s:.2f} s",
        f"{ran.start_s:.2f} s" if ran.start_s else "",
        f"{work_s / least_s:.3f}",
        whole,
        "<= 1.050 after its start" if is_ours else "",
    )
