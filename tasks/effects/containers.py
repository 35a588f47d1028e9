"""The seam to the container engine. Today it only asks whether one answers."""

from __future__ import annotations

from pathlib import Path

UNIX = "unix://"


class EngineError(Exception):
    """Raised when no container engine answers; the text says why."""


def engine_version(address: str, timeout_s: int) -> str:
    """Return the version of the engine at `address` ("unix:///var/run/docker.sock", "tcp://…").

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
            return str(client.version()["Version"])
        finally:
            client.close()
    except (docker.errors.DockerException, RequestException, OSError) as error:
        raise EngineError(_plain(error)) from error


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
