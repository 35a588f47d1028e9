"""What a server wants of its container, and where the host has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import Mount


@dataclass(frozen=True, slots=True)
class Places:
    """Where weights lie on the host: a Hugging Face cache, Ollama's folder, and a folder for small files."""

    store: Path
    ollama: Path
    state: Path


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a server wants of its container, beside what its image says.

    `files` are small texts that are written to the host before it starts, by path; `writes` is the folder
    of the host that it must be able to write, if any.
    """

    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    shm_bytes: int = 0
    writes: str = ""
    files: tuple[tuple[Path, str], ...] = ()
