"""Ollama says of each loaded model how much of it lies on GPUs: all of it, a part (silently), or none."""

from __future__ import annotations

from tasks.contracts import Held, Unknown
from tasks.effects import ollama_api
from tasks.effects.http import HttpError
from tasks.verify.where.look import MAIN, Look, Placed
from tasks.wording import gib

TIMEOUT_S = 10.0
BASIS = "Ollama's /api/ps"


def look(at: Look) -> Placed:
    """Compare `size` with `size_vram`."""
    name = at.asked.server.asked_as
    try:
        found = ollama_api.loaded(at.asked.http, at.asked.root_url, name, TIMEOUT_S)
    except HttpError as error:
        return Placed(Unknown(f"{BASIS}: {error}"), findings=(f"where it lies is not known: {error}",))
    if found is None:
        why = f"{BASIS} does not list {name} right after it answered"
        return Placed(Unknown(why), wrong=why)
    return judge(found, at)


def judge(found: ollama_api.Loaded, at: Look) -> Placed:
    """Return what the sizes mean."""
    if found.size_bytes <= 0:
        why = f"{BASIS} has no size for it"
        return Placed(Unknown(why), findings=(why,))
    rest = found.size_bytes - found.vram_bytes
    wrong = ""
    if at.on_gpu and rest > 0:
        part = "is not on a GPU" if not found.vram_bytes else f"has {gib(rest)} in main memory"
        wrong = f"{part} ({gib(found.vram_bytes)} of {gib(found.size_bytes)} are on GPUs)"
    elif not at.on_gpu and found.vram_bytes > 0:
        wrong = f"has {gib(found.vram_bytes)} on a GPU and is planned in main memory"
    held = [
        Held("+".join(at.wanted) if at.on_gpu else "gpu", found.vram_bytes, BASIS),
        Held(MAIN, rest, BASIS),
    ]
    return Placed(found.size_bytes, tuple(one for one in held if one.memory_bytes > 0), wrong)
