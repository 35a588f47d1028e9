"""The child process that talks to NVML and prints one JSON line. Its parent may kill it.

Memory comes from the device: a modified card reports 48 GiB under the stock name. Where NVML says
NOT_SUPPORTED (integrated devices share main memory) the value is unknown, with NVML's own words.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pynvml


def main() -> None:
    """Print `{"driver": …, "devices": […]}` or `{"error": …}`."""
    try:
        pynvml.nvmlInit()
        answer: dict[str, Any] = {"driver": _text(pynvml.nvmlSystemGetDriverVersion()), "devices": _devices()}
    except pynvml.NVMLError as error:
        answer = {"error": f"NVML says: {error}"}
    sys.stdout.write(json.dumps(answer) + "\n")


def _devices() -> list[dict[str, Any]]:
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return [_device(handle) for handle in handles]


def _device(handle: Any) -> dict[str, Any]:  # noqa: ANN401  # a ctypes pointer
    memory = _ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2))
    if isinstance(memory, dict):
        memory = _ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    known = not isinstance(memory, dict)
    return {
        "name": _text(pynvml.nvmlDeviceGetName(handle)),
        "uuid": _ask(lambda: _text(pynvml.nvmlDeviceGetUUID(handle))),
        "memory_total_bytes": int(memory.total) if known else memory,
        "memory_free_bytes": int(memory.free) if known else memory,
        "compute_capability": _ask(
            lambda: "{}.{}".format(*pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
        ),
    }


def _ask(question: Callable[[], Any]) -> Any:  # noqa: ANN401  # NVML's answers have many types
    try:
        return question()
    except pynvml.NVMLError as error:
        return {"unknown": f"NVML says: {error}"}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
