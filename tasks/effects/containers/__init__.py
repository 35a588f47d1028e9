"""The seam to the container engine.

info.py      what an engine says of itself, for detection
engine.py    what a stage may ask of an engine: `Engine`, and how it fails
docker.py    the real one, over the docker SDK; docker_*.py are its parts
pins.py      images of a catalogue → pinned and pulled; what a host pulled once stays its choice
faults.py    what engines and registries say when they fail → which of those errors it is
memory.py    the one in memory, for tests
"""

from __future__ import annotations

from tasks.effects.containers.info import EngineError, EngineInfo, engine_info, parse_info

__all__ = ["EngineError", "EngineInfo", "engine_info", "parse_info"]
