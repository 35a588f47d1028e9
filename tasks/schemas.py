"""contracts.py -> JSON Schemas (draft 2020-12), for editors of profiles/ and for readers of the plan's JSON.

`python -m tasks.schemas` writes them to profiles/schemas/<kind>.schema.json.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from tasks.catalogue import DEFAULT
from tasks.catalogue_files import DeviceFile, ImageFile, ModelFile
from tasks.contracts import Plan, PlanChange, Profile, Routing, Service
from tasks.effects.files import write_atomic
from tasks.pull.resolve.lock import LockFile

FOLDER = DEFAULT / "schemas"

_KINDS: dict[str, tuple[object, str]] = {
    "models": (ModelFile, "A file below profiles/models"),
    "profile": (Profile, "A file below profiles/hardware"),
    "service": (Service, "A file below profiles/services"),
    "devices": (DeviceFile, "The file profiles/devices.yaml"),
    "images": (ImageFile, "The file profiles/images.yaml"),
    "routing": (Routing, "The file profiles/routing.yaml"),
    "lock": (LockFile, "A lock file: profiles/weights.lock.json, <state>/weights.lock.json"),
    "plan": (Plan, "What `pmoves plan --json` prints"),
    "plan-diff": (tuple[PlanChange, ...], "What `pmoves plan --diff --json` prints"),
}


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each kind of file and of each record that is printed for other programs."""
    return {kind: _schema(shape, title) for kind, (shape, title) in _KINDS.items()}


def rendered(schema: dict[str, Any]) -> str:
    """Return a schema as its file has it."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def path(kind: str, folder: Path = FOLDER) -> Path:
    """Return where the schema of that kind is kept."""
    return folder / f"{kind}.schema.json"


def write(folder: Path = FOLDER) -> None:
    """Write every schema to its file."""
    for kind, schema in schemas().items():
        write_atomic(path(kind, folder), rendered(schema))


def _schema(shape: object, title: str) -> dict[str, Any]:
    schema = msgspec.json.schema(shape)
    for part in schema["$defs"].values():
        part["description"] = _flowing(part["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}


def _flowing(docstring: str) -> str:
    """Return a docstring without its indentation and with each paragraph on one line."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(docstring).split("\n\n"))


if __name__ == "__main__":
    write()
