"""The journal of a rollout: `rollout.json`, synced before each step; its absence says that all is settled.

What a later run needs to end or to undo a rollout that a crash broke off stands in it, and no secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from tasks.effects.files import sync_folder, write_atomic
from tasks.route.probe import Ask

FILE = "rollout.json"
Step = Literal[
    "unknown", "write", "check", "start", "smoke", "switch", "watch", "services", "drain", "retire"
]
DOING: dict[Step, str] = {
    "unknown": "while nobody knows what was done",
    "write": "while the config was written",
    "check": "while TensorZero checked the config",
    "start": "while the new gateway started",
    "smoke": "while the new gateway was asked",
    "switch": "while the proxy was switched",
    "watch": "while the new gateway was watched",
    "services": "while the services' addresses were written",
    "drain": "while the gateway of before answered its last requests",
    "retire": "while the gateway of before was ended",
}


@dataclass(frozen=True, slots=True)
class Journal:
    """How far a rollout came.

    `green` is the generation that is to serve, `blue` the one before ("" for none), `asks` what green must
    answer, `environment` what `pmoves.env` gets with it.
    """

    green: str
    blue: str = ""
    step: Step = "unknown"
    begun: str = ""
    asks: tuple[Ask, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def read(folder: Path) -> Journal | None:
    """Return the journal; None where all is settled. One that cannot be read names no generation."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Journal)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return Journal("")


def write(folder: Path, journal: Journal) -> None:
    """Write down what is done next."""
    write_atomic(folder / FILE, msgspec.json.encode(journal).decode())


def settle(folder: Path) -> None:
    """Note that the rollout came to its end, good or bad."""
    if (folder / FILE).exists():
        (folder / FILE).unlink(missing_ok=True)
        sync_folder(folder)
