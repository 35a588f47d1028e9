"""What the engine answers about containers → ContainerState. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tasks.contracts import ContainerState
from tasks.effects.containers.engine import LABEL

Answer = Mapping[str, Any]
REACHED = ("127.0.0.1", "0.0.0.0")
"""Addresses under which 127.0.0.1 reaches a port. Ours are on the first alone; a stranger's may be on all."""

NEVER = "0001-"


def listed(answer: Answer) -> ContainerState:
    """Return one entry of GET /containers/json."""
    marks = answer.get("Labels") or {}
    names = [str(one).lstrip("/") for one in answer.get("Names") or ()]
    ports = [
        one.get("PublicPort", 0) for one in answer.get("Ports") or () if one.get("IP", "0.0.0.0") in REACHED
    ]
    return ContainerState(
        name=next((one for one in names if "/" not in one), ""),
        id=str(answer["Id"]),
        state=str(answer.get("State", "")),
        published=_marked_port(marks) or next((int(one) for one in ports if one), 0),
        **_marked(marks, str(answer.get("Image", ""))),
    )


def inspected(answer: Answer) -> ContainerState:
    """Return the answer of GET /containers/{id}/json."""
    config, state = answer.get("Config") or {}, answer.get("State") or {}
    marks = config.get("Labels") or {}
    return ContainerState(
        name=str(answer.get("Name", "")).lstrip("/"),
        id=str(answer["Id"]),
        state=str(state.get("Status", "")),
        pid=int(state.get("Pid") or 0),
        started_at=moment(str(state.get("StartedAt") or "")),
        published=_marked_port(marks) or _bound_port(answer.get("HostConfig") or {}),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        restarts=int(answer.get("RestartCount") or 0),
        **_marked(marks, str(config.get("Image", ""))),
    )


def owner_in(answer: Answer) -> str:
    """Return whose container an inspected one is; "" for a stranger's."""
    return str(((answer.get("Config") or {}).get("Labels") or {}).get(f"{LABEL}.owner", ""))


def processes(answer: Answer) -> tuple[int, ...]:
    """Return the numbers in the answer of GET /containers/{id}/top; none where it has no column for them."""
    titles = [str(one).upper() for one in answer.get("Titles") or ()]
    column = next((titles.index(one) for one in ("PID", "HPID") if one in titles), None)
    if column is None:
        return ()
    return tuple(int(row[column]) for row in answer.get("Processes") or ())


def familiar(image: str) -> str:
    """Return an image's name as engines shorten it: without the default registry."""
    return image.removeprefix("docker.io/").removeprefix("library/")


def holds(answer: Answer, image: str) -> bool:
    """Tell whether an inspected image has the digest of a pinned reference, from that repository."""
    return familiar(image) in {familiar(str(one)) for one in answer.get("RepoDigests") or ()}


def moment(text: str) -> float:
    """Return seconds since 1970 of a time with up to nine decimals; 0.0 for never, and for no time."""
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if text.startswith(NEVER):
        return 0.0
    try:
        return datetime.fromisoformat(f"{head}{dot}{digits[:6]}{rest[len(digits) :]}").timestamp()
    except ValueError:
        return 0.0


def _marked(marks: Mapping[str, str], image: str) -> dict[str, Any]:
    return {
        "owner": marks.get(f"{LABEL}.owner", ""),
        "server": marks.get(f"{LABEL}.server", ""),
        "spec_hash": marks.get(f"{LABEL}.spec-hash", ""),
        "image": marks.get(f"{LABEL}.image", image),
        "devices": tuple(marks.get(f"{LABEL}.devices", "").split()),
    }


def _marked_port(marks: Mapping[str, str]) -> int:
    text = marks.get(f"{LABEL}.port", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _bound_port(host: Answer) -> int:
    bound = [one for each in (host.get("PortBindings") or {}).values() for one in each or ()]
    texts = [one.get("HostPort", "") for one in bound if (one.get("HostIp") or "0.0.0.0") in REACHED]
    return next((int(one) for one in texts if one.isdigit() and int(one)), 0)
