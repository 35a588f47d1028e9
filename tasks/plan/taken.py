"""What a server takes of cards, and what of main memory it must be given. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import PlannedModel, RuntimeName, Share
from tasks.plan.budget import Pools
from tasks.wording import MIB

HOST_BYTES: dict[RuntimeName, int] = {
    "embedded": 0,
    "external": 0,
    "ollama": 1536 * MIB,
    "llama.cpp": 1536 * MIB,
    "tei": 1024 * MIB,
    "vllm": 4096 * MIB,
    "speaches": 2048 * MIB,
}
"""What the process of a server on a card takes of main memory, for each card: the CUDA context, pinned
buffers and libraries, of vLLM a Python process with torch for each. Estimates, on the high side, because they
become a container's limit."""

THROUGH_MEMORY: tuple[RuntimeName, ...] = ("tei", "speaches")
"""These read all weights into main memory before they go to the card; llama.cpp maps its file, which the
kernel can drop, and vLLM reads one file after another."""


def taken(models: Sequence[PlannedModel]) -> dict[str, int]:
    """Return what a server takes of each device: residents together, of those that take turns the largest."""
    resident: dict[str, int] = {}
    turns: dict[str, int] = {}
    for one in models:
        for share in one.devices:
            if one.residency == "on-demand":
                turns[share.device] = max(turns.get(share.device, 0), share.memory_bytes)
            else:
                resident[share.device] = resident.get(share.device, 0) + share.memory_bytes
    names = (*resident, *(name for name in turns if name not in resident))
    return {name: resident.get(name, 0) + turns.get(name, 0) for name in names}


def shares(models: Sequence[PlannedModel]) -> tuple[Share, ...]:
    """Return what a server takes of each device."""
    return tuple(Share(name, size) for name, size in taken(models).items())


def device_bytes(models: Sequence[PlannedModel], pools: Pools) -> int:
    """Return what a server takes of all cards together, those that share main memory among them."""
    cards = {one.name for one in pools.pools if one.on_gpu}
    return sum(size for name, size in taken(models).items() if name in cards)


def memory_bytes(models: Sequence[PlannedModel], pools: Pools) -> int:
    """Return what a server must be given of main memory, for a container's limit.

    On the CPU, and on a device that shares main memory, it is what the models take there. A server on cards
    has its process (`HOST_BYTES`) and, of runtimes that read weights through main memory, those of its
    largest model.
    """
    runtime = models[0].runtime
    shared = {one.name for one in pools.pools if one.main} | {"cpu"}
    found = taken(models)
    here = sum(size for name, size in found.items() if name in shared)
    cards = [name for name in found if any(one.name == name and one.on_gpu for one in pools.pools)]
    if not cards:
        return here
    weights = max((one.need.weights_bytes if one.need else 0 for one in models), default=0)
    through = weights if runtime in THROUGH_MEMORY else 0
    return here + HOST_BYTES[runtime] * len(cards) + through
