"""Hosts that are not here: HostFacts with one knob for each thing a test varies."""

from __future__ import annotations

from dataclasses import replace

from tasks.contracts import (
    Accelerator,
    Cpu,
    Disk,
    HostFacts,
    Jetson,
    Memory,
    Reach,
    System,
    Unknown,
    Vendor,
)
from tasks.detect.unified import share

GIB = 1 << 30
NO_BOARD = Unknown("there is no device tree, so this is not a Jetson")


def card(name: str = "NVIDIA GeForce RTX 3090 Ti", mib: int = 24564) -> Accelerator:
    """Return one card as NVML reports it."""
    return Accelerator("nvidia", name, "GPU-1", mib << 20, mib << 20, "8.6", "580.159.03")


def make_host(
    *,
    memory_gib: float = 64,
    available_gib: float | None = None,
    free_gib: float = 500,
    cards: tuple[Accelerator, ...] | Unknown = (),
    board: str | Unknown = NO_BOARD,
    engine: bool = True,
    hub: bool = True,
    jetson: Jetson | None = None,
) -> HostFacts:
    """Return what detection would say of such a host."""
    available = memory_gib if available_gib is None else available_gib
    return HostFacts(
        host="lab-host",
        seen_at="2026-11-23T00:00:00+00:00",
        system=System("lab-host", "Debian GNU/Linux 12 (bookworm)", "6.1", "x86_64", "3.11.7"),
        cpu=Cpu("AuthenticAMD", "AMD EPYC", 2, 2, ("avx2",)),
        memory=Memory(int(memory_gib * GIB), int(available * GIB)),
        disks=(Disk("store", "/store", "/", "ext4", 1000 * GIB, int(free_gib * GIB)),),
        accelerators=cards,
        board=board,
        container_engine=_reach("container engine", "version 28", "no socket", answers=engine),
        hub=_reach("Hugging Face Hub", "HTTP 200", "its name does not resolve", answers=hub),
        ollama_library=Reach("Ollama library", "https://lib", answers=hub, detail="HTTP 200"),
        jetson=jetson,
    )


def _reach(name: str, yes: str, no: str, *, answers: bool) -> Reach:
    return Reach(name, "https://lab", answers=answers, detail=yes if answers else no)


def device(
    vendor: Vendor = "nvidia",
    mib: int = 24576,
    *,
    index: int = 0,
    used_mib: int = 0,
    capability: str = "8.6",
    slice_of: str | None = None,
) -> Accelerator:
    """Return a device with its own memory and its own UUID, of which other programs hold `used_mib`."""
    return Accelerator(
        vendor=vendor,
        name=f"{vendor} card {index}",
        uuid=f"GPU-{vendor}-{index}",
        memory_total_bytes=mib << 20,
        memory_free_bytes=max(0, mib - used_mib) << 20,
        compute_capability=capability,
        driver="580",
        index=index,
        memory_reserved_bytes=0,
        slice_of=slice_of,
    )


def shared_device(vendor: Vendor, memory: Memory, *, capability: str = "8.7") -> Accelerator:
    """Return a device that has no memory of its own, as detection describes it."""
    found = share(memory)
    return replace(
        device(vendor, capability=capability),
        memory_total_bytes=found.total_bytes,
        memory_free_bytes=found.free_bytes,
        memory_reserved_bytes=found.kept_bytes,
        unified=True,
    )


def main_memory(total_mib: int, available_mib: int | None = None) -> Memory:
    """Return main memory; all of it is available unless said otherwise."""
    return Memory(total_mib << 20, (total_mib if available_mib is None else available_mib) << 20)
