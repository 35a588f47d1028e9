"""NVIDIA devices: the child's answers, its silence and its crash."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.contracts import Accelerator, Unknown
from tasks.detect.accelerators import nvidia

CARD = {
    "name": "NVIDIA GeForce RTX 4090",
    "uuid": "GPU-1",
    "memory_total_bytes": 49140 << 20,
    "memory_free_bytes": 48000 << 20,
    "compute_capability": "8.9",
}


def driver(root: Path) -> Path:
    """Make a root in which an NVIDIA driver seems to be loaded."""
    (root / "dev").mkdir()
    (root / "dev/nvidiactl").touch()
    return root


def child(monkeypatch: pytest.MonkeyPatch, program: str, timeout_s: float = 10.0) -> None:
    """Let `program` answer in place of NVML's child."""
    real = subprocess.run

    def run(_command: tuple[str, ...], **options: object) -> object:
        return real((sys.executable, "-c", program), **options)  # type: ignore[call-overload]

    monkeypatch.setattr(nvidia.subprocess, "run", run)
    monkeypatch.setattr(nvidia, "TIMEOUT_S", timeout_s)


def test_no_driver_means_no_card(tmp_path: Path) -> None:
    """Without a driver no child is started, and that is a fact, not an unknown."""
    assert () == nvidia.probe(tmp_path)


def test_memory_comes_from_the_device() -> None:
    """A modified card has what it reports, not what its name stands for."""
    answer = json.dumps({"driver": "570.1", "devices": [CARD]})

    assert (
        Accelerator("nvidia", CARD["name"], "GPU-1", 49140 << 20, 48000 << 20, "8.9", "570.1"),  # type: ignore[arg-type]
    ) == nvidia.parse(answer)


def test_shared_memory_is_unknown() -> None:
    """A device without memory of its own keeps NVML's own words."""
    row = {**CARD, "memory_total_bytes": {"unknown": "NVML says: Not Supported"}}

    devices = nvidia.parse(json.dumps({"driver": "580", "devices": [row]}))

    assert isinstance(devices, tuple)
    assert Unknown("NVML says: Not Supported") == devices[0].memory_total_bytes


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"devices": [{}], "driver": "1"}'])
def test_a_strange_answer_is_unknown(text: str) -> None:
    """What the child never prints is not taken for an empty host."""
    assert isinstance(nvidia.parse(text), Unknown)


def test_a_crash_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML may end its process with a signal; this program goes on."""
    child(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    assert Unknown("an NVIDIA driver is loaded, but NVML ended with SIGSEGV") == nvidia.probe(
        driver(tmp_path)
    )


def test_a_hang_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML may never answer; the probe does."""
    child(monkeypatch, "import signal; signal.pause()", timeout_s=0.2)

    seen = nvidia.probe(driver(tmp_path))

    assert Unknown("an NVIDIA driver is loaded, but NVML did not answer within 0.2 s") == seen


def test_a_host_without_the_library_says_so(tmp_path: Path) -> None:
    """The real child, on a host where NVML cannot be loaded, answers with NVML's own words."""
    if shutil.which("nvidia-smi"):
        pytest.skip("this host has NVML; the gpu test covers it")

    seen = nvidia.probe(driver(tmp_path))

    assert isinstance(seen, Unknown)
    assert "NVML says" in seen.unknown


@pytest.mark.gpu
@pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="needs an NVIDIA GPU and nvidia-smi on the PATH")
def test_the_real_device_agrees_with_nvidia_smi() -> None:
    """NVML through our child and nvidia-smi name the same cards with the same memory."""
    query = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()

    devices = nvidia.probe(Path("/"))

    assert isinstance(devices, tuple)
    assert [line.rsplit(", ", 1)[0] for line in listed] == [device.name for device in devices]
    assert [int(line.rsplit(", ", 1)[1]) for line in listed] == [
        device.memory_total_bytes >> 20 for device in devices if isinstance(device.memory_total_bytes, int)
    ]
