"""llama.cpp's server logs how many of its layers it put on GPUs, and goes on with any number."""

from __future__ import annotations

import re

from tasks.contracts import Unknown
from tasks.verify.where.look import Look, Placed

NOT_TOLD = Unknown("llama.cpp logs layers, and no bytes that could be added up")
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_NO_GPU = re.compile(r"no usable GPU found", re.IGNORECASE)


def look(at: Look) -> Placed:
    """Look for the line about layers; of several loads the last counts."""
    return judge(at.log(), on_gpu=at.on_gpu)


def judge(log: str, *, on_gpu: bool) -> Placed:
    """Return what the log means."""
    lines = list(_OFFLOADED.finditer(log))
    if not lines:
        if on_gpu and _NO_GPU.search(log):
            return Placed(NOT_TOLD, wrong="is not on a GPU: its log says that it found none")
        finding = ("its log does not say how many layers lie on GPUs",) if on_gpu else ()
        return Placed(NOT_TOLD, findings=finding)
    done, of = (int(number) for number in lines[-1].groups())
    if on_gpu and done < of:
        return Placed(NOT_TOLD, wrong=f"has {done} of {of} layers on GPUs, and the rest in main memory")
    if not on_gpu and done:
        return Placed(NOT_TOLD, wrong=f"has {done} of {of} layers on GPUs and is planned in main memory")
    return Placed(NOT_TOLD)
