"""What a look at a model's place has, and what it finds. Also: which device a plan means by "gpu1"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.contracts import Accelerator, Held, PlannedModel, Unknown
from tasks.verify.asking import Asked

MAIN = "cpu"
Devices = Callable[[], tuple[Accelerator, ...] | Unknown]


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that can be asked. The callables come from outside: stages do not know each other."""

    asked: Asked
    devices: Devices
    pids: Callable[[], tuple[int, ...]]
    log: Callable[[], str]
    memory: Callable[[int], int | Unknown]

    @property
    def planned(self) -> PlannedModel:
        """What the plan says of the model."""
        return self.asked.planned

    @property
    def wanted(self) -> tuple[str, ...]:
        """The devices that it is planned on: "gpu0" and so on, or "cpu"."""
        return tuple(share.device for share in self.planned.devices) or tuple(self.planned.device.split("+"))

    @property
    def on_gpu(self) -> bool:
        """Whether the plan has it on an accelerator."""
        return MAIN not in self.wanted


@dataclass(frozen=True, slots=True)
class Placed:
    """What was found. `wrong` says that it lies elsewhere than planned, "" where nothing says so."""

    memory_bytes: int | Unknown
    held: tuple[Held, ...] = ()
    wrong: str = ""
    findings: tuple[str, ...] = ()


def named(devices: tuple[Accelerator, ...]) -> dict[str, Accelerator]:
    """Return the devices by the names that plans give them.

    In their order, without those that no plan uses: whose memory is not known, and a second one that shares
    main memory.
    """
    found: list[Accelerator] = []
    for device in devices:
        shares = device.unified and any(one.unified for one in found)
        if not isinstance(device.memory_total_bytes, Unknown) and not shares:
            found.append(device)
    return {f"gpu{place}": device for place, device in enumerate(found)}
