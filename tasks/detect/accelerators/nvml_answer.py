"""What NVML's child printed, as accelerators. Pure.

Memory comes from the device, never from its name: a modified card reports 48 GiB under the stock one.
The one exception are integrated devices, whose memory is main memory. NVML says NOT_SUPPORTED there, or
gives figures that are wrong, so they are recognised by name. "Not supported" from any other
device, a lost device or a driver that does not fit its library stays unknown, in NVML's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tasks.contracts import Accelerator, DeviceProcess, Unknown
from tasks.detect.unified import Share

INTEGRATED = re.compile(r"^(NVIDIA GB10|NVIDIA Thor|NVIDIA Tegra.*|.*\(nvgpu\))$")
"""DGX Spark, Jetson Thor, and how NVML names the Jetsons before it. Grace Hopper has memory of its own."""

NOT_SUPPORTED, LIBRARY_NOT_FOUND = 3, 12
LONG_DOMAIN = 8
Raw = Mapping[str, Any]


def devices(answer: Raw, shared: Share) -> tuple[Accelerator, ...]:
    """Return every device in the order of the PCI bus; a card that is cut in slices is its slices."""
    cards = sorted(enumerate(answer["devices"]), key=lambda one: (_bus(one[1]), one[0]))
    found: list[Accelerator] = []
    for index, (number, card) in enumerate(cards):
        if "code" in card:
            found.append(_lost(card, number, index, answer))
        elif card["slices"]:
            bus = _bus(card)
            found += [
                _device(one, index, answer, slice_of=bus) for one in card["slices"] if "code" not in one
            ]
        elif INTEGRATED.match(str(card["name"])) and _may_share(card["memory"]):
            found.append(_shared(_device(card, index, answer), shared))
        else:
            found.append(_device(card, index, answer))
    return tuple(found)


def _may_share(memory: Raw) -> bool:
    """Accept figures (they are wrong) and NOT_SUPPORTED; any other error is trouble, not sharing."""
    return bool(memory.get("code", NOT_SUPPORTED) == NOT_SUPPORTED)


def _device(raw: Raw, index: int, answer: Raw, *, slice_of: str | None = None) -> Accelerator:
    memory = raw["memory"]
    capability = raw["capability"]
    empty_mig = raw.get("mig") == 1 and slice_of is None
    off = Unknown("MIG is on and has no slice: nothing can run on this card") if empty_mig else None
    return Accelerator(
        vendor="nvidia",
        name=_text(raw["name"], f"NVIDIA device {index}"),
        uuid=_known(raw["uuid"]),
        memory_total_bytes=off or _number(memory, "total"),
        memory_free_bytes=off or _number(memory, "free"),
        compute_capability=".".join(map(str, capability))
        if isinstance(capability, list)
        else _why(capability),
        driver=_known(answer["driver"]),
        index=index,
        bus_id=_bus(raw) or _why(raw["bus_id"]) if slice_of is None else slice_of,
        runtime=_cuda(answer["cuda"]),
        memory_reserved_bytes=_number(memory, "reserved"),
        memory_used_bytes=_number(memory, "used"),
        processes=_processes(raw["processes"]),
        slice_of=slice_of,
    )


def _shared(device: Accelerator, shared: Share) -> Accelerator:
    return replace(
        device,
        memory_total_bytes=shared.total_bytes,
        memory_free_bytes=shared.free_bytes,
        memory_reserved_bytes=shared.kept_bytes,
        memory_used_bytes=Unknown("it shares main memory, where the processor's use is not told apart"),
        unified=True,
    )


def _lost(card: Raw, number: int, index: int, answer: Raw) -> Accelerator:
    why = _why(card)
    return Accelerator(
        "nvidia", f"NVIDIA device {number}", why, why, why, why, _known(answer["driver"]), index,
        why, _cuda(answer["cuda"]), why, why,
    )  # fmt: skip


def _why(error: Raw) -> Unknown:
    return Unknown(f"NVML says: {error['says']}")


def _known(value: Any) -> str | Unknown:  # noqa: ANN401  # a value or an error, as the child printed it
    return _why(value) if isinstance(value, dict) else str(value)


def _text(value: Any, otherwise: str) -> str:  # noqa: ANN401  # the same
    return otherwise if isinstance(value, dict) else str(value)


def _number(memory: Raw, key: str) -> int | Unknown:
    if "code" in memory:
        return _why(memory)
    return int(memory[key]) if key in memory else Unknown("this driver does not tell it")


def _bus(card: Raw) -> str:
    """Return "0000:01:00.0" as the kernel writes it; NVML's domain has eight digits."""
    value = card.get("bus_id")
    if not isinstance(value, str):
        return ""
    domain, _, rest = value.lower().partition(":")
    return f"{domain[4:] if len(domain) == LONG_DOMAIN and domain.startswith('0000') else domain}:{rest}"


def _cuda(version: Any) -> str | Unknown:  # noqa: ANN401  # the same
    if isinstance(version, dict):
        return _why(version)
    return f"CUDA {version // 1000}.{version % 1000 // 10}"


def _processes(listed: Any) -> tuple[DeviceProcess, ...]:  # noqa: ANN401  # the same
    if isinstance(listed, dict):
        return ()
    hidden = Unknown("the driver does not tell what this process holds")
    return tuple(DeviceProcess(pid, hidden if used is None else used) for pid, used in listed)
