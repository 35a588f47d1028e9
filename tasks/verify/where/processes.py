"""What the server's processes hold: of each device, as its driver tells, and of main memory."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.contracts import Accelerator, Held, Unknown
from tasks.verify.where.look import MAIN, Look, Placed, named
from tasks.wording import gib, listed

BARE_BYTES = 768 << 20
"""A process that only opened a card holds some 250 to 500 MiB of it for its context. This is more. Chosen."""
DRIVER, RESIDENT = "the driver's list of processes", "the resident memory of its processes"


def own(at: Look) -> Placed:
    """Look at the process of this program's own server."""
    pid = at.asked.server.process.pid
    found = at.memory(pid)
    held = () if isinstance(found, Unknown) else (Held(MAIN, found, RESIDENT),)
    return Placed(found, held)


def foreign(_at: Look) -> Placed:
    """Say that nothing is known of a server that is not ours."""
    why = "where it lies is not known: the server is not ours"
    return Placed(Unknown(why), findings=(why,))


def look(at: Look) -> Placed:
    """Look for the server's processes on the devices."""
    pids = at.pids()
    if not pids:
        why = "where it lies is not known: the processes of its server are not known"
        return Placed(Unknown(why), findings=(why,))
    devices = at.devices()
    main = _sum(at.memory(pid) for pid in pids)
    if isinstance(devices, Unknown):
        why = f"where it lies is not known: {devices.unknown}"
        return _in_main(main) if not at.on_gpu else Placed(Unknown(why), findings=(why,))
    by_name = named(devices)
    return _on_gpu(at, by_name, pids) if at.on_gpu else _on_cpu(by_name, pids, main)


def _on_cpu(devices: dict[str, Accelerator], pids: tuple[int, ...], main: int | Unknown) -> Placed:
    strays = _elsewhere(devices, pids, wanted=())
    wrong = f"holds {_told(strays)} and is planned in main memory" if strays else ""
    found = _in_main(main)
    return Placed(found.memory_bytes, (*found.held, *strays), wrong)


def _in_main(main: int | Unknown) -> Placed:
    return Placed(main, () if isinstance(main, Unknown) else (Held(MAIN, main, RESIDENT),))


def _on_gpu(at: Look, devices: dict[str, Accelerator], pids: tuple[int, ...]) -> Placed:
    held: list[Held] = []
    for name in at.wanted:
        device = devices.get(name)
        if device is None:
            why = f"{name} is not there any more"
            return Placed(Unknown(why), wrong=why)
        found = _held(device, pids)
        strays = _elsewhere(devices, pids, wanted=at.wanted)
        if isinstance(found, Unknown):
            return Placed(found, wrong=_stray(strays, at), findings=(f"how much it holds: {found.unknown}",))
        if found <= 0:
            return _absent(at, name, device, strays)
        held.append(Held(name, found, DRIVER))
    return Placed(sum(one.memory_bytes for one in held), (*held, *strays), _stray(strays, at))


def _absent(at: Look, name: str, device: Accelerator, strays: tuple[Held, ...]) -> Placed:
    """Return what it means that none of the processes is on a device."""
    why = f"none of its processes is on {name} ({device.name})"
    if strays or (device.processes and not device.unified):
        return Placed(Unknown(why), strays, _stray(strays, at) or f"is not on a GPU: {why}, where others are")
    told = f"where it lies is not known: the driver lists no process on {name} ({device.name})"
    return Placed(Unknown(told), findings=(told,))


def _stray(strays: tuple[Held, ...], at: Look) -> str:
    return f"holds {_told(strays)} and is planned on {listed(at.wanted)}" if strays else ""


def _told(held: tuple[Held, ...]) -> str:
    return listed([f"{gib(one.memory_bytes)} of {one.device}" for one in held])


def _elsewhere(
    devices: dict[str, Accelerator], pids: tuple[int, ...], *, wanted: tuple[str, ...]
) -> tuple[Held, ...]:
    """Return what the processes hold of devices that are not planned, beyond a bare context."""
    found = []
    for name, device in devices.items():
        memory = _held(device, pids)
        if name not in wanted and isinstance(memory, int) and memory > BARE_BYTES:
            found.append(Held(name, memory, DRIVER))
    return tuple(found)


def _held(device: Accelerator, pids: tuple[int, ...]) -> int | Unknown:
    return _sum(one.memory_bytes for one in device.processes if one.pid in pids)


def _sum(sizes: Iterable[int | Unknown]) -> int | Unknown:
    total = 0
    for size in sizes:
        if isinstance(size, Unknown):
            return size
        total += size
    return total
