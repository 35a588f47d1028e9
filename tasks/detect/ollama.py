"""Whether an Ollama already runs on the host. It is asked what it is, past every proxy."""

from __future__ import annotations

from urllib.parse import urlsplit

from tasks.contracts import NOT_ASKED, Reach
from tasks.detect.outside import OLLAMA
from tasks.effects.http import OK, HttpError, Httpx
from tasks.effects.network import listener

NEAR = {"127.0.0.1", "localhost"}
SILENT = "nobody listens there"


def running(address: str, timeout_s: float) -> Reach:
    """Ask for a version, which only Ollama tells under this path.

    Args:
        address: where it answers, if it does; empty asks nobody. On this host, a port on which nobody listens
            is not asked.
        timeout_s: how long it may take.
    """
    if not address:
        return Reach(OLLAMA, address, answers=False, detail=NOT_ASKED.unknown)
    parts = urlsplit(address)
    if parts.hostname in NEAR and not listener(parts.port or 80):
        return Reach(OLLAMA, address, answers=False, detail=SILENT)
    with Httpx() as http:
        try:
            reply = http.get(f"{address}/api/version", timeout_s=timeout_s)
            said = reply.json() if reply.status == OK else None
        except HttpError as error:
            return Reach(OLLAMA, address, answers=False, detail=str(error))
    version = said.get("version") if isinstance(said, dict) else None
    if not isinstance(version, str):
        return Reach(OLLAMA, address, answers=False, detail="something else answers there")
    return Reach(OLLAMA, address, answers=True, detail=f"version {version}")
