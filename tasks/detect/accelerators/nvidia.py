"""NVIDIA devices, through NVML in a child process: NVML may hang or crash, this program may not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tasks.contracts import Accelerator, Unknown

WITNESSES = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg", "dev/nvmap")
"""A driver leaves one of these: the kernel module, its device node, WSL2's, a Tegra's."""

TIMEOUT_S = 10.0


def probe(root: Path) -> tuple[Accelerator, ...] | Unknown:
    """Return the NVIDIA devices; none when no driver is loaded; unknown when NVML does not tell."""
    if not any((root / witness).exists() for witness in WITNESSES):
        return ()
    command = (sys.executable, "-m", "tasks.detect.accelerators.nvml")
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Unknown(f"an NVIDIA driver is loaded, but NVML did not answer within {TIMEOUT_S:g} s")
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        return Unknown(f"an NVIDIA driver is loaded, but NVML ended with {name}")
    return parse(child.stdout)


def parse(stdout: str) -> tuple[Accelerator, ...] | Unknown:
    """Parse the JSON line that the child prints."""
    try:
        answer = json.loads(stdout)
        if "error" in answer:
            return Unknown(str(answer["error"]))
        return tuple(_accelerator(row, answer["driver"]) for row in answer["devices"])
    except (ValueError, KeyError, TypeError) as error:
        return Unknown(f"NVML's child printed something else than expected ({error})")


def _accelerator(row: dict[str, str | int | dict[str, str]], driver: str) -> Accelerator:
    def text(key: str) -> str | Unknown:
        value = row[key]
        return Unknown(value["unknown"]) if isinstance(value, dict) else str(value)

    def number(key: str) -> int | Unknown:
        value = row[key]
        return Unknown(value["unknown"]) if isinstance(value, dict) else int(value)

    return Accelerator(
        vendor="nvidia",
        name=str(row["name"]),
        uuid=text("uuid"),
        memory_total_bytes=number("memory_total_bytes"),
        memory_free_bytes=number("memory_free_bytes"),
        compute_capability=text("compute_capability"),
        driver=driver,
    )
