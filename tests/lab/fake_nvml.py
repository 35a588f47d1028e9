"""libnvidia-ml.so.1 as the tests build it: the real pynvml loads it in the real child process."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("nvml.c")
LIBRARY_NOT_FOUND = 12
UNTOLD = -1


@functools.cache
def library() -> Path | None:
    """Build the library once, and return its folder; None where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="nvml-"))
    target = folder / "libnvidia-ml.so.1"
    subprocess.run((compiler, "-shared", "-fPIC", "-O0", "-o", target, SOURCE), check=True)
    return folder


def answer_with(answer: Mapping[str, Any] | None, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let NVML answer what a case holds; None is a host without the library."""
    built = library()
    if built is None:
        pytest.skip("needs gcc or cc to build an NVML that answers like the real one")
    path = folder / "nvml-scenario"
    path.write_text("\n".join(lines(answer or {"code": LIBRARY_NOT_FOUND})) + "\n")
    patch.setenv("LD_LIBRARY_PATH", str(built))
    patch.setenv("NVML_SCENARIO", str(path))


def lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Write an answer as the library reads it."""
    yield f"init {answer.get('code', 0)}"
    yield from (f"{trouble} {answer[trouble]}" for trouble in ("stall", "crash") if trouble in answer)
    if isinstance(answer.get("driver"), str):
        yield f"driver {answer['driver']}"
    if isinstance(answer.get("cuda"), int):
        yield f"cuda {answer['cuda']}"
    for card in answer.get("devices", ()):
        yield from device("device", card)
        for one in card.get("slices", ()):
            yield from device("slice", one)


def device(kind: str, raw: Mapping[str, Any]) -> Iterator[str]:
    """Write one device."""
    yield f"{kind} {raw.get('name', '')}"
    if "code" in raw:
        yield f"lost {raw['code']}"
        return
    for key, word in (("uuid", "uuid"), ("bus_id", "bus")):
        if isinstance(raw.get(key), str):
            yield f"{word} {raw[key]}"
    memory = raw["memory"]
    numbers = " ".join(str(memory.get(key, 0)) for key in ("total", "reserved", "free", "used"))
    yield f"memory {memory.get('code', 0)} {numbers}"
    if "code" not in memory and "reserved" not in memory:
        yield "v2 13"
    if isinstance(raw.get("capability"), list):
        yield "capability {} {}".format(*raw["capability"])
    if isinstance(raw.get("mig"), int):
        yield f"mig 0 {raw['mig']}"
    for pid, used in raw["processes"] if isinstance(raw.get("processes"), list) else ():
        yield f"process {pid} {UNTOLD if used is None else used}"
