"""Captured hosts (tests/cases/hosts), planted below a root, seen by the real probes and the real pynvml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasks.detect import capture
from tasks.detect.accelerators import nvidia
from tasks.detect.engine import gpu_style
from tasks.detect.look import Where, look
from tasks.detect.root import Root
from tasks.effects.containers import EngineInfo
from tests.lab import fake_nvml

HOSTS = sorted((Path(__file__).parent.parent / "cases/hosts").glob("*.json"))


def plant(folder: Path, files: dict[str, str | None]) -> Path:
    """Write a case's files below a root."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or "")
    return folder


def replay_planted(case: dict[str, Any], folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Look at a host that is not here, with a library that answers as NVML did there."""
    root = plant(folder / "root", case["files"])
    if any((root / witness).exists() for witness in nvidia.WITNESSES):
        fake_nvml.answer_with(case["nvml"], folder, patch)
    store, state = (Path(disk) for disk in case.get("disks", ("/", "/")))
    facts = look(Where("lab", "lab", state, store, f"unix://{folder}/none", "none", "none", root))
    seen = capture.seen(facts)
    if case.get("engine"):
        seen["engine_gpu"] = msgspec.to_builtins(gpu_style(EngineInfo(**case["engine"]), Root(root)))
    return seen


def part(seen: Any, want: Any) -> Any:  # noqa: ANN401  # JSON has many shapes
    """Cut what was seen to what a case speaks of."""
    if isinstance(want, dict) and isinstance(seen, dict):
        return {key: part(seen.get(key, "missing"), value) for key, value in want.items()}
    if isinstance(want, list) and isinstance(seen, list) and len(want) == len(seen):
        return [part(*pair) for pair in zip(seen, want, strict=True)]
    return seen
