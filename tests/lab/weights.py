"""Small weights for the tests of the pull: their bytes, their pins, and who holds a store."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

from tasks.contracts import Event, PlannedModel, WeightFile, Weights, WheelMirror
from tests.lab.hub import REVISION

REPO = "org/name"
BIG = "model.safetensors"
FILES = {
    "config.json": b'{"hidden_size": 384}\n',
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}\n',
    BIG: random.Random(1).randbytes(3_000_000),  # noqa: S311  # any bytes will do
}
SIZE_BYTES = sum(len(data) for data in FILES.values())


def pin(path: str, data: bytes) -> WeightFile:
    """Return the pin of one file."""
    return WeightFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def pinned(
    files: dict[str, bytes] = FILES, *, wheel: WheelMirror | None = None, revision: str = REVISION
) -> Weights:
    """Return the pin of all files."""
    pins = tuple(pin(path, data) for path, data in files.items())
    return Weights(repo=REPO, revision=revision, files=pins, wheel=wheel)


def planned(weights: Weights) -> PlannedModel:
    """Return a plan that wants these weights."""
    return PlannedModel(
        role="embeddings",
        model="lab",
        runtime="embedded",
        residency="cpu",
        device="cpu",
        port=0,
        memory_bytes=0,
        memory_measured=False,
        download_bytes=weights.size_bytes,
        weights=weights,
    )


def fill(snapshot: Path, files: dict[str, bytes] = FILES) -> None:
    """Write files into a snapshot as plain files, which readers cannot tell from links."""
    for path, data in files.items():
        (snapshot / path).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / path).write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder` by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def staging_folders(cache: Path) -> list[Path]:
    """Return the staging folders in a store."""
    return list(cache.glob("models--*/.pmoves-*"))


def processes_of(cache: Path) -> list[int]:
    """Return the processes that have the path of a store in their command or their environment."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _mentions(folder, str(cache))]


def _mentions(process: Path, text: str) -> bool:
    if process.name == str(os.getpid()):
        return False
    try:
        return any(text.encode() in (process / name).read_bytes() for name in ("cmdline", "environ"))
    except OSError:
        return False


def wait_for(condition: Callable[[], object], *, what: str, deadline_s: float = 60.0) -> None:
    """Poll until `condition` holds."""
    end = monotonic() + deadline_s
    while not condition():
        assert monotonic() < end, f"waited {deadline_s:g} s for {what}"
        sleep(0.02)


class Watcher:
    """A sink that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Keep one event."""
        self.events.append(event)

    @property
    def messages(self) -> list[str]:
        """What was said, without the counting."""
        return [event.message for event in self.events if not event.total_bytes]
