"""What a container engine says of itself, for detection: whether one answers, and what it offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNIX = "unix://"


class EngineError(Exception):
    """Raised when no container engine answers; the text says why."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself: its OCI runtimes, and the CDI folders and devices it knows."""

    version: str
    podman: bool = False
    runtimes: tuple[str, ...] = ()
    cdi_folders: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


def engine_info(address: str, timeout_s: int) -> EngineInfo:
    """Return what the engine at `address` ("unix:///var/run/docker.sock", "tcp://…") says of itself.

    Raises:
        EngineError: nothing answers there.
    """
    if address.startswith(UNIX) and not Path(address.removeprefix(UNIX)).exists():
        raise EngineError(f"there is no socket {address.removeprefix(UNIX)}")

    import docker  # noqa: PLC0415  # 0.15 s that a host without an engine does not pay
    from requests.exceptions import RequestException  # noqa: PLC0415

    try:
        client = docker.APIClient(base_url=address, version="auto", timeout=timeout_s)
        try:
            return parse_info(client.version(), client.info())
        finally:
            client.close()
    except (docker.errors.DockerException, RequestException, OSError) as error:
        raise EngineError(_plain(error)) from error


def parse_info(version: dict[str, Any], info: dict[str, Any]) -> EngineInfo:
    """Parse the engine's answers to /version and /info; older engines leave keys out."""
    components = [str(one.get("Name", "")) for one in version.get("Components") or ()]
    return EngineInfo(
        version=str(version["Version"]),
        podman=any("podman" in name.lower() for name in components),
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        cdi_folders=tuple(info.get("CDISpecDirs") or ()),
        devices=tuple(str(one.get("ID", "")) for one in info.get("DiscoveredDevices") or ()),
    )


def _plain(error: Exception) -> str:
    text = str(error)
    for part, plain in (
        ("PermissionError", "the socket is not readable for this user"),
        ("ConnectionRefused", "nothing listens on the socket"),
        ("Read timed out", "it does not answer in time"),
        ("timed out", "it does not answer in time"),
    ):
        if part in text:
            return plain
    return text.splitlines()[0][:200]
