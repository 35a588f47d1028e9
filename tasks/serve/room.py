"""Whether a server's new container can load beside what runs now, or something must stop first. Pure.

Cards tell how much is free now. What this run started and is still loading is not in that number yet, so it
is counted as taken (`claimed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.contracts import Accelerator, ContainerState, Unknown
from tasks.wording import gib

MAIN = "cpu"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether there is room; where not, on which device, and both numbers."""

    fits: bool
    device: str = ""
    why: str = ""


def pool_of(device: str, cards: Mapping[str, Accelerator]) -> str:
    """Return whose memory a device has: main memory, for one that shares it."""
    return MAIN if device in cards and cards[device].unified else device


def room(
    wanted: Mapping[str, int],
    cards: Mapping[str, Accelerator],
    *,
    main_bytes: int | Unknown,
    claimed: Mapping[str, int],
) -> Verdict:
    """Say whether all devices of a server have room for it now. What is not known is no room."""
    taken = _pooled(claimed, cards)
    for device, needed in _pooled(wanted, cards).items():
        card, title = cards.get(device), "main memory" if device == MAIN else device
        free = main_bytes if device == MAIN else card.memory_free_bytes if card else Unknown("it is gone")
        if isinstance(free, Unknown):
            why = f"how much of {title} is free is not known ({free.unknown})"
            return Verdict(fits=False, device=device, why=why)
        left = free - taken.get(device, 0)
        if left < needed:
            why = f"it needs {gib(needed)} of {title} and {gib(max(0, left))} are free"
            return Verdict(fits=False, device=device, why=why)
    return Verdict(fits=True)


def _pooled(sizes: Mapping[str, int], cards: Mapping[str, Accelerator]) -> dict[str, int]:
    found: dict[str, int] = {}
    for device, size_bytes in sizes.items():
        pool = pool_of(device, cards)
        found[pool] = found.get(pool, 0) + size_bytes
    return found


def holders(
    devices: Sequence[str],
    listed: Sequence[ContainerState],
    cards: Mapping[str, Accelerator],
    *,
    kept: Sequence[str],
) -> tuple[ContainerState, ...]:
    """Return our running containers in the memory of these devices that the plan does not keep, by name."""
    pools = {pool_of(device, cards) for device in devices}
    return tuple(
        one
        for one in sorted(listed, key=lambda state: state.name)
        if one.running
        and one.server not in kept
        and pools & {pool_of(device, cards) for device in one.devices}
    )
