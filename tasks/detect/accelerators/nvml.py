"""The child process that talks to NVML and prints one JSON line. Its parent may kill it.

It prints what NVML answered and judges nothing. Where NVML gives an error, its number and its words
stand in place of the value: `{"code": 3, "says": "Not Supported"}`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pynvml


def main() -> None:
    """Print `{"driver": …, "cuda": …, "devices": […]}`, or the error that NVML started with."""
    answer = _ask(_host)
    sys.stdout.write(json.dumps(answer) + "\n")


def _host() -> dict[str, Any]:
    pynvml.nvmlInit()
    return {
        "driver": _ask(lambda: _text(pynvml.nvmlSystemGetDriverVersion())),
        "cuda": _ask(pynvml.nvmlSystemGetCudaDriverVersion_v2),
        "devices": [_ask(partial(_card, at)) for at in range(pynvml.nvmlDeviceGetCount())],
    }


def _card(index: int) -> dict[str, Any]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    sliced = _ask(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0])
    return {**_device(handle), "mig": sliced, "slices": _slices(handle) if sliced == 1 else []}


def _slices(handle: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # a ctypes pointer
    """Return the MIG devices of a card; places without one answer "not found"."""
    places = _ask(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    found = [_ask(partial(_slice, handle, at)) for at in range(places if isinstance(places, int) else 0)]
    return [one for one in found if one.get("code") != pynvml.NVML_ERROR_NOT_FOUND]


def _slice(handle: Any, place: int) -> dict[str, Any]:  # noqa: ANN401  # the same
    return _device(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))


def _device(handle: Any) -> dict[str, Any]:  # noqa: ANN401  # a ctypes pointer
    return {
        "name": _ask(lambda: _text(pynvml.nvmlDeviceGetName(handle))),
        "uuid": _ask(lambda: _text(pynvml.nvmlDeviceGetUUID(handle))),
        "bus_id": _ask(lambda: _text(pynvml.nvmlDeviceGetPciInfo(handle).busId)),
        "memory": _memory(handle),
        "capability": _ask(lambda: list(pynvml.nvmlDeviceGetCudaComputeCapability(handle))),
        "processes": _ask(lambda: _processes(handle)),
    }


def _memory(handle: Any) -> Any:  # noqa: ANN401  # a ctypes pointer
    """Ask the second version, whose `used` leaves out what the driver reserves; then the first."""
    newer = _ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2))
    keys = ("total", "reserved", "free", "used")
    if not isinstance(newer, dict):
        return {key: int(getattr(newer, key)) for key in keys}
    older = _ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    if isinstance(older, dict):
        return newer if newer["code"] != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND else older
    return {key: int(getattr(older, key)) for key in keys if key != "reserved"}


def _processes(handle: Any) -> list[list[int | None]]:  # noqa: ANN401  # a ctypes pointer
    found: dict[int, int | None] = {}
    for ask in (pynvml.nvmlDeviceGetGraphicsRunningProcesses, pynvml.nvmlDeviceGetComputeRunningProcesses):
        listed = _ask(partial(ask, handle))
        if not isinstance(listed, dict):
            found |= {one.pid: one.usedGpuMemory for one in listed}
    return [[pid, used] for pid, used in sorted(found.items())]


def _ask(question: Callable[[], Any]) -> Any:  # noqa: ANN401  # NVML's answers have many types
    try:
        return question()
    except pynvml.NVMLError as error:
        return {"code": error.value, "says": str(error)}  # type: ignore[attr-defined]  # set in __new__


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
