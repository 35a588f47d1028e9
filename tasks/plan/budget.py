"""HostFacts -> pools of memory that a plan may fill. Pure.

A pool is a card, a slice of one, or main memory. A device that shares main memory and main memory itself
are one pool, so nothing is counted twice.

    total = reserved + others + margin + budget

Reserved is what the driver (or, in main memory, the system) keeps; others is what programs of other people
hold now; the margin is a number in the profile.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import Accelerator, HostFacts, Limits, Unknown
from tasks.plan.request import Request
from tasks.wording import gib, plural

MAIN = "cpu"
MOST_DEVICES = 16
"""More are not planned on: what can be cut over how many cards would take too long to tell."""


APPLE_SMALL, APPLE_LARGE, APPLE_SMALL_BYTES = 66, 75, 36 << 30
"""Percent of main memory that macOS lets the GPU take: 66.7% was reported for 32 GiB; 75% for more is what
its users report, and can be raised (iogpu.wired_limit_mb)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Memory that models can lie in. `device` is None for main memory alone."""

    name: str
    title: str
    device: Accelerator | None
    main: bool
    total_bytes: int
    reserved_bytes: int
    others_bytes: int
    margin_bytes: int
    budget_bytes: int

    @property
    def on_gpu(self) -> bool:
        """Whether an accelerator computes on it."""
        return self.device is not None


@dataclass(frozen=True, slots=True)
class Pools:
    """All pools of a host, cards first in their order, and what could not be made one."""

    pools: tuple[Pool, ...]
    left_out: tuple[str, ...] = ()

    def index(self, name: str) -> int | None:
        """Return the place of a pool; "cpu" is wherever main memory is."""
        return next(
            (
                place
                for place, one in enumerate(self.pools)
                if one.name == name or (one.main and name == MAIN)
            ),
            None,
        )


def pools(facts: HostFacts, limits: Limits, request: Request) -> Pools:
    """Return the pools of a host, with what the plan may use of each."""
    if isinstance(facts.accelerators, Unknown) or not limits.accelerators:
        main = _main(facts, request)
        return Pools((main,) if main else (), _unknown(facts))
    found: list[Pool] = []
    left_out: list[str] = []
    margin = 0 if request.accept_risk else limits.margin_bytes
    for device in facts.accelerators:
        name = f"gpu{len(found)}"
        if isinstance(device.memory_total_bytes, Unknown):
            left_out.append(f"{device.name} is not planned on: {device.memory_total_bytes.unknown}")
        elif device.unified and any(one.main for one in found):
            left_out.append(f"{device.name} is not planned on: it shares main memory with another device")
        else:
            found.append(_device(name, device, margin=margin, request=request))
    if len(found) > MOST_DEVICES:
        more = len(found) - MOST_DEVICES
        them = f"{plural(more, 'device')} {'is' if more == 1 else 'are'}"
        left_out.append(f"{them} not planned on: {MOST_DEVICES} are the most")
        largest = sorted(found, key=lambda one: -one.total_bytes)[:MOST_DEVICES]
        found = [one for one in found if one in largest]
    main = None if any(one.main for one in found) else _main(facts, request)
    return Pools((*found, *([main] if main else [])), tuple(left_out))


def _unknown(facts: HostFacts) -> tuple[str, ...]:
    if not isinstance(facts.accelerators, Unknown):
        return ()
    return (f"no accelerator is planned on: {facts.accelerators.unknown}",)


def _device(name: str, device: Accelerator, *, margin: int, request: Request) -> Pool:
    total = _known(device.memory_total_bytes)
    reserved = _known(device.memory_reserved_bytes)
    own = sum(_known(one.memory_bytes) for one in device.processes if one.pid in request.own_pids)
    if device.unified:
        own = request.own_bytes
    free = device.memory_free_bytes
    others = 0 if isinstance(free, Unknown) else max(0, total - reserved - free - own)
    cap = request.ram_bytes if device.unified else request.vram_bytes
    left = total - reserved - others
    if device.vendor == "apple":
        left = min(left, total * (APPLE_SMALL if total <= APPLE_SMALL_BYTES else APPLE_LARGE) // 100)
    return Pool(
        name=name,
        title=device.name,
        device=device,
        main=device.unified,
        total_bytes=total,
        reserved_bytes=min(reserved, total),
        others_bytes=others,
        margin_bytes=max(0, min(margin, left)),
        budget_bytes=_capped(max(0, left - margin), cap),
    )


def _main(facts: HostFacts, request: Request) -> Pool | None:
    memory = facts.memory
    kept = memory.kept_bytes
    if isinstance(memory.total_bytes, Unknown) or isinstance(kept, Unknown):
        return None
    total, available = memory.total_bytes, memory.available_bytes
    if isinstance(available, Unknown):
        available = total
    available = min(total, available + request.own_bytes)
    reserved = min(kept, total)
    others = max(0, total - reserved - max(0, available - reserved))
    return Pool(
        name=MAIN,
        title="main memory",
        device=None,
        main=True,
        total_bytes=total,
        reserved_bytes=reserved,
        others_bytes=min(others, total - reserved),
        margin_bytes=0,
        budget_bytes=_capped(max(0, available - reserved), request.ram_bytes),
    )


def _known(value: int | Unknown) -> int:
    return 0 if isinstance(value, Unknown) else value


def _capped(size_bytes: int, cap: int | None) -> int:
    return size_bytes if cap is None else min(size_bytes, cap)


def describe(found: Pools) -> str:
    """Return what there is to plan with, in one clause."""
    if not found.pools:
        return "no memory is known"
    return ", ".join(
        f"{one.name} {one.title} {gib(one.total_bytes)}, {gib(one.budget_bytes)} to plan with"
        for one in found.pools
    )
