"""NVIDIA devices, through NVML in a child process: NVML may hang or crash, this program may not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from tasks.contracts import Accelerator, Unknown
from tasks.detect.accelerators import nvml_answer, pci
from tasks.detect.accelerators.nvml_answer import LIBRARY_NOT_FOUND
from tasks.detect.board import COMPUTE, jetson
from tasks.detect.host import memory
from tasks.detect.root import Root
from tasks.detect.unified import share

WITNESSES = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg", "dev/nvmap")
"""A driver leaves one of these: the kernel module, its device node, WSL2's, a Tegra's."""

COMMAND = (sys.executable, "-m", "tasks.detect.accelerators.nvml")
TIMEOUT_S = 10.0
LOADED = "an NVIDIA driver is loaded, but NVML"


def probe(root: Root) -> tuple[Accelerator, ...] | Unknown:
    """Return the NVIDIA devices; none when there is no card; unknown when NVML does not tell."""
    if not any([root.exists(witness) for witness in WITNESSES]):  # noqa: C419  # all are noted
        return _without_driver(root)
    return _read(root.asked("nvml", _child), root)


def _without_driver(root: Root) -> tuple[Accelerator, ...] | Unknown:
    cards = pci.displays(root, pci.NVIDIA)
    if not cards:
        return ()
    return Unknown(f"an NVIDIA card is on the PCI bus ({', '.join(cards)}), but its driver is not loaded")


def _child() -> str:
    """Return what NVML's child printed, or why it did not. One that even a kill does not end is left."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        try:
            printed, _ = child.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _leave(child)
            return json.dumps({"unknown": f"{LOADED} did not answer within {TIMEOUT_S:g} s"})
    if child.returncode < 0:
        return json.dumps({"unknown": f"{LOADED} ended with {signal.Signals(-child.returncode).name}"})
    return printed


def _leave(child: subprocess.Popen[str]) -> None:
    child.kill()
    try:
        child.wait(1)
    except subprocess.TimeoutExpired:
        # It sleeps in the driver, where no signal reaches it; waiting would hang this program too.
        child.returncode = -signal.SIGKILL


def _read(printed: str, root: Root) -> tuple[Accelerator, ...] | Unknown:
    try:
        answer = json.loads(printed)
        if "unknown" in answer:
            return Unknown(str(answer["unknown"]))
        if answer.get("code") == LIBRARY_NOT_FOUND:
            return _without_library(answer, root)
        if "code" in answer:
            return Unknown(f"NVML says: {answer['says']}")
        return nvml_answer.devices(answer, share(memory(root)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Unknown(f"NVML's child printed something else than expected ({error})")


def _without_library(answer: dict[str, Any], root: Root) -> tuple[Accelerator, ...] | Unknown:
    """Describe a Jetson from its board: JetPack 5 and older have no NVML."""
    board = jetson(root)
    if board is None:
        return Unknown(f"{LOADED} cannot be asked: NVML says: {answer['says']}")
    missing = Unknown(f"JetPack has no NVML here ({answer['says']})")
    shared = share(memory(root))
    return (
        Accelerator(
            vendor="nvidia",
            name=f"NVIDIA {board.chip}",
            uuid=missing,
            memory_total_bytes=shared.total_bytes,
            memory_free_bytes=shared.free_bytes,
            compute_capability=COMPUTE.get(board.chip, missing),
            driver=board.l4t if isinstance(board.l4t, Unknown) else f"L4T {board.l4t}",
            bus_id=missing,
            runtime=missing,
            memory_reserved_bytes=shared.kept_bytes,
            memory_used_bytes=missing,
            unified=True,
        ),
    )
