"""A profile's example host, as detection would describe it. Pure.

Nothing is read and nothing asked, so that a plan for it takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator

from tasks.contracts import (
    Accelerator,
    Cpu,
    Disk,
    EngineGpu,
    Example,
    ExampleDevice,
    HostFacts,
    Jetson,
    Memory,
    Profile,
    Reach,
    System,
    Unknown,
)
from tasks.detect.board import JETPACKS, board
from tasks.detect.outside import ENGINE, HUB, LIBRARY, OLLAMA, OLLAMA_ADDRESS
from tasks.detect.root import CapturedRoot
from tasks.detect.unified import share

ASSUMED_FREE_BYTES = 1 << 40
"""Room in the store of a host that is not here."""

ASSUMED = "assumed"
NOT_RUNNING = "assumed not to run"
NOT_KNOWN = "not known"
EXAMPLE = Unknown("an example host")
EXAMPLE_AVAILABLE_PERCENT = 94
EXAMPLE_CORES = 8
RESERVE = "what its driver keeps of each card is estimated"
L4T = {
    "tegra210": "32.7.6",
    "tegra186": "32.7.6",
    "tegra194": "35.6.4",
    "tegra234": "36.4.7",
    "tegra264": "38.4.0",
}
"""The release that an example Jetson has: a late one of the JetPack that its chip is usually found with."""

MODEL, COMPATIBLE = "proc/device-tree/model", "proc/device-tree/compatible"


def from_example(profile: Profile, *, host: str) -> HostFacts:
    """Make up a bare host of the kind that a profile is for."""
    example = profile.example
    total = example.memory_mib << 20
    memory = Memory(total, total * EXAMPLE_AVAILABLE_PERCENT // 100)
    devices = tuple(_devices(example, memory))
    flags = ("avx2",) if example.architecture == "x86_64" else ()
    return HostFacts(
        host=host,
        seen_at="",
        system=System(host, EXAMPLE, NOT_KNOWN, example.architecture, NOT_KNOWN),
        cpu=Cpu(EXAMPLE, EXAMPLE, EXAMPLE_CORES, EXAMPLE_CORES, flags),
        memory=memory,
        disks=tuple(
            Disk(purpose, "/", "/", "unknown", ASSUMED_FREE_BYTES, ASSUMED_FREE_BYTES)
            for purpose in ("store", "state")
        ),
        accelerators=devices,
        board=_board(example),
        container_engine=_assumed(ENGINE),
        hub=_assumed(HUB),
        ollama_library=_assumed(LIBRARY),
        jetson=_jetson(example.chip) if example.chip else None,
        engine_gpu=EngineGpu("unknown", EXAMPLE.unknown),
        ollama=assumed_ollama(devices),
    )


def assumed_ollama(devices: tuple[Accelerator, ...] | Unknown) -> Reach:
    """Return whether Ollama runs on a host that is not here: on a Mac, whose GPU no container gets."""
    mac = not isinstance(devices, Unknown) and any(one.vendor == "apple" for one in devices)
    return Reach(OLLAMA, OLLAMA_ADDRESS, answers=mac, detail=ASSUMED if mac else NOT_RUNNING)


def _jetson(chip: str) -> Jetson:
    l4t = L4T.get(chip, EXAMPLE)
    jetpack = JETPACKS.get(l4t, EXAMPLE) if isinstance(l4t, str) else EXAMPLE
    return Jetson(chip, EXAMPLE, l4t, jetpack)


def _devices(example: Example, memory: Memory) -> Iterator[Accelerator]:
    vendors = [one.vendor for one in example.devices]
    for at, one in enumerate(example.devices):
        yield _device(one, vendors[:at].count(one.vendor), memory)


def _device(one: ExampleDevice, index: int, memory: Memory) -> Accelerator:
    own, shared = one.memory_mib << 20, share(memory)
    reserved = min(one.reserved_mib << 20, own)
    return Accelerator(
        vendor=one.vendor,
        name=one.name,
        uuid=EXAMPLE,
        memory_total_bytes=_least(own, shared.total_bytes) if one.unified else own,
        memory_free_bytes=_least(own, shared.free_bytes) if one.unified else own - reserved,
        compute_capability=one.compute_capability or EXAMPLE,
        driver=EXAMPLE,
        index=index,
        bus_id=EXAMPLE,
        runtime=EXAMPLE,
        memory_reserved_bytes=shared.kept_bytes if one.unified else reserved,
        memory_used_bytes=EXAMPLE if one.unified else 0,
        unified=one.unified,
    )


def _least(limit: int, value: int | Unknown) -> int | Unknown:
    return value if isinstance(value, Unknown) else min(limit, value)


def _board(example: Example) -> str | Unknown:
    """Return the board as the probe names it, whose device tree has this model and this chip."""
    model = example.board or example.chip or ""
    if model.startswith("jetson"):
        return model
    return board(CapturedRoot(held={MODEL: model, COMPATIBLE: f"nvidia,{example.chip}"}))


def _assumed(name: str) -> Reach:
    return Reach(name, NOT_KNOWN, answers=True, detail=ASSUMED)
