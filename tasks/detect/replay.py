"""A capture, or a profile's example -> the facts of a host that is not here.

The probes are those that look at this host. They read a root that is held in memory: no process is started,
nothing is written, nobody is asked. What neither source tells is assumed and says so, or stays unknown:

    sizes of disks          `assumed_free_bytes` each, all of it free
    container engine        answers, unless a capture says that none did
    hub, Ollama library     answer
    Ollama                  runs on a Mac, whose GPU no container gets, and nowhere else
    an example's memory     94% of it is available, and all of its cards' own memory is free
    an example's processor  8 cores, with AVX2 on x86_64
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tasks.contracts import (
    Disk,
    EngineGpu,
    HostFacts,
    Proxy,
    Reach,
    Unknown,
)
from tasks.detect import disks
from tasks.detect import host as kernel
from tasks.detect.accelerators import accelerators
from tasks.detect.accelerators.nvml_answer import LIBRARY_NOT_FOUND
from tasks.detect.board import board, jetson
from tasks.detect.case_file import Case, plain, read_case, refusal, shaped
from tasks.detect.engine import gpu_style
from tasks.detect.example import ASSUMED, ASSUMED_FREE_BYTES, NOT_KNOWN, assumed_ollama
from tasks.detect.look import engine_reach
from tasks.detect.outside import ENGINE, HUB, LIBRARY
from tasks.detect.root import CapturedRoot
from tasks.effects.containers import EngineInfo

__all__ = ["read_case", "replay"]

MOST_BYTES = 1 << 60
"""No host has so much memory: what says more is not a host's answer."""

NOT_TOLD = "assumed: the capture does not tell"
NO_ENGINE = "no engine answered when the capture was written"
NO_LIBRARY = {"code": LIBRARY_NOT_FOUND, "says": "NVML Shared Library Not Found"}
ARCHITECTURE = "proc/sys/kernel/arch"


def replay(case: dict[str, Any], *, host: str, assumed_free_bytes: int = ASSUMED_FREE_BYTES) -> HostFacts:
    """Look at a captured host with the real probes.

    Args:
        case: a capture, as `read_case` returns it.
        host: what to call the host; a capture has no names in it.
        assumed_free_bytes: the size of each disk, all of it free; a capture has no sizes.

    Raises:
        UsageError: the capture does not describe a host.
    """
    name = f"the capture of {host}"
    captured = shaped(case, name=name)
    if not captured.files.get(ARCHITECTURE):
        raise refusal(name, f"has no file {ARCHITECTURE}, so the processor's architecture is not known")
    try:
        root = CapturedRoot(held=captured.files, answers=_answers(captured))
        facts = _look(captured, root, host, assumed_free_bytes)
        msgspec.convert(msgspec.to_builtins(facts), HostFacts)
    except (
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
        msgspec.MsgspecError,
    ) as error:
        raise refusal(name, f"cannot be read as a host ({plain(error)})") from error
    if isinstance(facts.memory.total_bytes, Unknown):
        raise refusal(name, f"does not tell its memory ({facts.memory.total_bytes.unknown})")
    if not all(0 <= number < MOST_BYTES for number in _sizes(facts)):
        raise refusal(name, "tells an amount of memory that no host has")
    return facts


# --- a capture -----------------------------------------------------------------------------------


def _answers(captured: Case) -> dict[str, str]:
    if captured.nvml is UNSET:
        return {}
    return {"nvml": json.dumps(NO_LIBRARY if captured.nvml is None else captured.nvml)}


def _look(captured: Case, root: CapturedRoot, host: str, size_bytes: int) -> HostFacts:
    engine, style = _engine(captured.engine, root)
    store, state = captured.disks
    devices = accelerators(root)
    system = kernel.system(root, host)
    return HostFacts(
        host=host,
        seen_at="",
        # The rest of `system` would be this host's where a capture does not tell.
        system=replace(system, kernel=root.value("proc/sys/kernel/osrelease") or NOT_KNOWN, python=NOT_KNOWN),
        cpu=kernel.cpu(root),
        memory=kernel.memory(root),
        disks=(_disk(root, "store", store, size_bytes), _disk(root, "state", state, size_bytes)),
        accelerators=devices,
        board=board(root),
        container_engine=engine,
        hub=_assumed(HUB),
        ollama_library=_assumed(LIBRARY),
        jetson=jetson(root),
        engine_gpu=style,
        proxies=tuple(Proxy(name, NOT_KNOWN) for name in captured.proxies),
        ollama=assumed_ollama(devices),
    )


def _engine(info: EngineInfo | UnsetType | None, root: CapturedRoot) -> tuple[Reach, EngineGpu]:
    if isinstance(info, UnsetType):
        return _assumed(ENGINE, NOT_TOLD), EngineGpu("unknown", NOT_TOLD)
    if info is None:
        return Reach(ENGINE, NOT_KNOWN, answers=False, detail=NO_ENGINE), EngineGpu("unknown", NO_ENGINE)
    return engine_reach(info, NOT_KNOWN), gpu_style(info, root)


def _disk(root: CapturedRoot, purpose: str, path: str, size_bytes: int) -> Disk:
    mount = disks.parse_mount(root.text("proc/self/mountinfo"), Path(path))
    speed = disks.speed(root, mount)
    return Disk(purpose, path, mount.point, mount.filesystem, size_bytes, size_bytes, speed)


def _sizes(facts: HostFacts) -> Iterator[int]:
    memory = facts.memory
    numbers: list[int | Unknown | None] = [memory.total_bytes, memory.available_bytes]
    numbers += [memory.swap_total_bytes, memory.swap_free_bytes, memory.limit_bytes]
    for one in facts.accelerators if isinstance(facts.accelerators, tuple) else ():
        numbers += [one.memory_total_bytes, one.memory_free_bytes]
        numbers += [one.memory_reserved_bytes, one.memory_used_bytes]
        numbers += [process.memory_bytes for process in one.processes]
    return (number for number in numbers if isinstance(number, int))


# --- both ----------------------------------------------------------------------------------------


def _assumed(name: str, detail: str = ASSUMED) -> Reach:
    return Reach(name, NOT_KNOWN, answers=True, detail=detail)
