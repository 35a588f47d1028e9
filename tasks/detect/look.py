"""One look at the host: all probes, the slow ones side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tasks.contracts import EngineGpu, HostFacts, Proxy, Reach
from tasks.detect import board, disks, host
from tasks.detect.accelerators import accelerators
from tasks.detect.engine import gpu_style
from tasks.detect.ollama import running
from tasks.detect.outside import ENGINE, HUB, LIBRARY
from tasks.detect.root import Root
from tasks.effects.containers import EngineError, EngineInfo, engine_info
from tasks.effects.network import reach


@dataclass(frozen=True, slots=True)
class Where:
    """Where to look: the root of /proc, /sys and /etc, the folders in use, and the addresses to ask.

    Without `ollama`, nobody is asked whether one runs.
    """

    host: str
    hostname: str
    state: Path
    store: Path
    engine: str
    hub: str
    ollama_library: str
    root: Path = Path("/")
    timeout_s: int = 3
    proxies: tuple[Proxy, ...] = ()
    ollama: str = ""


def look(where: Where, root: Root | None = None) -> HostFacts:
    """Establish what can be established about this host. What cannot be is `Unknown`, with the reason.

    Args:
        where: what to look at.
        root: notes everything that was read, when the caller wants to see it.
    """
    root = root or Root(where.root)
    with ThreadPoolExecutor(5) as pool:
        engine = pool.submit(_engine, where, root)
        hub = pool.submit(reach, HUB, where.hub, where.timeout_s)
        library = pool.submit(reach, LIBRARY, where.ollama_library, where.timeout_s)
        ollama = pool.submit(running, where.ollama, where.timeout_s)
        devices = pool.submit(accelerators, root)
        return HostFacts(
            host=where.host,
            seen_at=datetime.now(UTC).isoformat(timespec="seconds"),
            system=host.system(root, where.hostname),
            cpu=host.cpu(root),
            memory=host.memory(root),
            disks=(
                disks.disk(root, "store", where.store),
                disks.disk(root, "state", where.state),
            ),
            accelerators=devices.result(),
            board=board.board(root),
            container_engine=engine.result()[0],
            hub=hub.result(),
            ollama_library=library.result(),
            jetson=board.jetson(root),
            engine_gpu=engine.result()[1],
            proxies=where.proxies,
            ollama=ollama.result(),
        )


def _engine(where: Where, root: Root) -> tuple[Reach, EngineGpu]:
    try:
        info = engine_info(where.engine, where.timeout_s)
    except EngineError as error:
        root.answers["engine"] = str(error)
        why = EngineGpu("unknown", f"no engine answers: {error}")
        return Reach(ENGINE, where.engine, answers=False, detail=str(error)), why
    root.answers["engine"] = msgspec.json.encode(asdict(info)).decode()
    return engine_reach(info, where.engine), gpu_style(info, root)


def engine_reach(info: EngineInfo, address: str) -> Reach:
    """Return that an engine answers, and which."""
    kind = "podman " if info.podman else ""
    return Reach(ENGINE, address, answers=True, detail=f"{kind}version {info.version}")
