"""NVIDIA devices: the child's answers, its silence and its crash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.contracts import Accelerator, DeviceProcess, Unknown
from tasks.detect.accelerators import nvidia, nvml_answer
from tasks.detect.root import Root
from tasks.detect.unified import Share

NO_SHARE = Share(0, 0, 0)
CARD = {
    "name": "NVIDIA GeForce RTX 4090",
    "uuid": "GPU-1",
    "bus_id": "00000000:01:00.0",
    "memory": {"total": 49140 << 20, "reserved": 400 << 20, "free": 48000 << 20, "used": 740 << 20},
    "capability": [8, 9],
    "processes": [[77, 700 << 20], [78, None]],
    "mig": {"code": 3, "says": "Not Supported"},
    "slices": [],
}
HOST = {"driver": "570.1", "cuda": 12080}


def driver(root: Path) -> Root:
    """Make a root in which an NVIDIA driver seems to be loaded."""
    (root / "dev").mkdir()
    (root / "dev/nvidiactl").touch()
    return Root(root)


def child(monkeypatch: pytest.MonkeyPatch, program: str, timeout_s: float = 10.0) -> None:
    """Let `program` answer in place of NVML's child."""
    monkeypatch.setattr(nvidia, "COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(nvidia, "TIMEOUT_S", timeout_s)


def test_no_driver_means_no_card(tmp_path: Path) -> None:
    """Without a driver and a card no child is started, and that is a fact, not an unknown."""
    assert () == nvidia.probe(Root(tmp_path))


def test_a_card_without_a_driver_is_unknown(tmp_path: Path) -> None:
    """A card on the bus that nobody drives is not the same as no card."""
    for name, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),
    ):
        folder = tmp_path / "sys/bus/pci/devices" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "class").write_text(kind + "\n")

    seen = nvidia.probe(Root(tmp_path))

    assert Unknown("an NVIDIA card is on the PCI bus (0000:01:00.0), but its driver is not loaded") == seen


def test_memory_comes_from_the_device() -> None:
    """A modified card has what it reports, not what its name stands for."""
    answer = {**HOST, "devices": [CARD]}

    assert (
        Accelerator(
            "nvidia", CARD["name"], "GPU-1", 49140 << 20, 48000 << 20, "8.9", "570.1", 0,  # type: ignore[arg-type]
            "0000:01:00.0", "CUDA 12.8", 400 << 20, 740 << 20,
            (DeviceProcess(77, 700 << 20),
             DeviceProcess(78, Unknown("the driver does not tell what this process holds"))),
        ),
    ) == nvml_answer.devices(answer, NO_SHARE)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code", "unified"),
    [
        ("NVIDIA GB10", 3, True),
        ("NVIDIA Thor", 3, True),
        ("Orin (nvgpu)", 3, True),
        ("NVIDIA GB10", 15, False),
        ("NVIDIA GB10", 18, False),
        ("NVIDIA GeForce RTX 4090", 3, False),
    ],
)
def test_only_not_supported_on_an_integrated_device_is_shared_memory(
    name: str, code: int, *, unified: bool
) -> None:
    """Trouble, and any other device that does not tell, keep NVML's own words."""
    row = {**CARD, "name": name, "memory": {"code": code, "says": "no"}}

    (seen,) = nvml_answer.devices({**HOST, "devices": [row]}, Share(128 << 30, 100 << 30, 4 << 30))

    assert unified == seen.unified
    assert (128 << 30 if unified else Unknown("NVML says: no")) == seen.memory_total_bytes


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"devices": [{}], "driver": "1"}'])
def test_a_strange_answer_is_unknown(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child never prints is not taken for an empty host."""
    child(monkeypatch, f"print({text!r})")

    assert isinstance(nvidia.probe(driver(tmp_path)), Unknown)


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

    devices = nvidia.probe(Root())

    assert isinstance(devices, tuple)
    assert [line.rsplit(", ", 1)[0] for line in listed] == [device.name for device in devices]
    assert [int(line.rsplit(", ", 1)[1]) for line in listed] == [
        device.memory_total_bytes >> 20 for device in devices if isinstance(device.memory_total_bytes, int)
    ]
