"""Environments for the processes that tests start: nothing of the caller's own settings leaks in."""

from __future__ import annotations

import os
import socket
from pathlib import Path

PREFIXES = ("PMOVES_", "PREFECT_", "HF_", "DOCKER_", "TENSORZERO_", "XDG_", "SUPERVISOR_")


def leaking() -> list[str]:
    """Return the variables that are set now and that this project or its libraries read."""
    return [name for name in os.environ if name.startswith(PREFIXES)]


def clean_environment(**extra: str) -> dict[str, str]:
    """Return an environment for a child process, without what `leaking` lists."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    return {**kept, **extra}


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def host_environment(folder: Path, cache: Path, *, prefect_port: int) -> dict[str, str]:
    """Return the environment of one simulated host: its own state, ports and server, no engine and no Hub."""
    folder.mkdir(parents=True, exist_ok=True)
    return clean_environment(
        HOME=str(folder),
        PMOVES_STATE=str(folder / "state"),
        PMOVES_HOST="lab-host",
        PMOVES_GATEWAY_PORT=str(free_port()),
        PMOVES_MODEL_PORT=str(free_port()),
        PMOVES_OLLAMA_LIBRARY="http://127.0.0.1:9/",
        # Not what an engine could have from a registry that is not here; tests that play one ask for it.
        PMOVES_GATEWAY="wheel",
        PMOVES_WATCH="1",
        DOCKER_HOST="unix:///nowhere/docker.sock",
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HUB_CACHE=str(cache),
        PREFECT_API_URL=f"http://127.0.0.1:{prefect_port}/api",
    )
