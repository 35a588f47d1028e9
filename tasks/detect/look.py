"""One look at the host: all probes, the slow ones side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.contracts import HostFacts, Reach
from tasks.detect import host
from tasks.detect.accelerators import accelerators
from tasks.effects.containers import EngineError, engine_version
from tasks.effects.network import reach


@dataclass(frozen=True, slots=True)
class Where:
    """Where to look: the root of /proc, /sys and /etc, the folders in use, and the addresses to ask."""

    host: str
    hostname: str
    state: Path
    store: Path
    engine: str
    hub: str
    ollama_library: str
    root: Path = Path("/")
    timeout_s: int = 3


def look(where: Where) -> HostFacts:
    """Establish what can be established about this host. What cannot be is `Unknown`, with the reason."""
    with ThreadPoolExecutor(4) as pool:
        engine = pool.submit(_engine, where)
        hub = pool.submit(reach, "Hugging Face Hub", where.hub, where.timeout_s)
        library = pool.submit(reach, "Ollama library", where.ollama_library, where.timeout_s)
        devices = pool.submit(accelerators, where.root)
        return HostFacts(
            host=where.host,
            seen_at=datetime.now(UTC).isoformat(timespec="seconds"),
            system=host.system(where.root, where.hostname),
            cpu=host.cpu(where.root),
            memory=host.memory(where.root),
            disks=(
                host.disk(where.root, "store", where.store),
                host.disk(where.root, "state", where.state),
            ),
            accelerators=devices.result(),
            board=host.board(where.root),
            container_engine=engine.result(),
            hub=hub.result(),
            ollama_library=library.result(),
        )


def _engine(where: Where) -> Reach:
    try:
        version = engine_version(where.engine, where.timeout_s)
    except EngineError as error:
        return Reach("container engine", where.engine, answers=False, detail=str(error))
    return Reach("container engine", where.engine, answers=True, detail=f"version {version}")
