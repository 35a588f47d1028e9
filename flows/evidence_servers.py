"""What the evidence says of servers: where they lie, as planned and as measured, and their images. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.contracts import Image, RunRecord, Unknown, VerifiedServer
from tasks.wording import gib

Row = tuple[str, str, str, str, str, str]


def lie_rows(verified: Iterable[VerifiedServer]) -> list[Row]:
    """Return a row a model and device: what the plan gave it there, what it holds, and who says so.

    A device that the plan does not have for the model has a row too: that is where a fallback is seen.
    """
    return [row for one in verified for row in (_held(one) if one.held else _whole(one))]


def _held(one: VerifiedServer) -> list[Row]:
    planned = _planned(one)
    measured: dict[str, int] = {}
    basis: dict[str, str] = {}
    for part in one.held:
        measured[part.device] = measured.get(part.device, 0) + part.memory_bytes
        basis.setdefault(part.device, part.basis)
    model = one.server.planned.model
    return [
        (
            model,
            device,
            gib(planned[device]) if device in planned else "nothing",
            gib(measured[device]) if device in measured else "nothing",
            difference(planned.get(device, 0), measured.get(device, 0)),
            basis.get(device, ""),
        )
        for device in dict.fromkeys([*planned, *measured])
    ]


def _whole(one: VerifiedServer) -> list[Row]:
    """Return the one row of a server whose memory is known as a whole, or not at all."""
    planned = _planned(one)
    model, devices, total = one.server.planned.model, " and ".join(planned), sum(planned.values())
    if isinstance(one.memory_bytes, Unknown):
        return [(model, devices, gib(total), "unknown", "", one.memory_bytes.unknown)]
    apart = difference(total, one.memory_bytes)
    return [(model, devices, gib(total), gib(one.memory_bytes), apart, "the server as a whole")]


def _planned(one: VerifiedServer) -> dict[str, int]:
    """Return what the plan gives a model on each device; records that are older name one device alone."""
    planned = one.server.planned
    shares: dict[str, int] = {}
    for share in planned.devices:
        shares[share.device] = shares.get(share.device, 0) + share.memory_bytes
    return shares or {planned.device: planned.memory_bytes}


def difference(planned_bytes: int, measured_bytes: int) -> str:
    """Write how much more or less was measured than was planned: "+0.4 GiB (+2%)"."""
    more = measured_bytes - planned_bytes
    if not more:
        return "none"
    sign = "+" if more > 0 else "-"
    share = f" ({sign}{abs(more) * 100 / planned_bytes:.0f}%)" if planned_bytes else ""
    return f"{sign}{gib(abs(more))}{share}"


# --- images --------------------------------------------------------------------------------------


def image_lines(record: RunRecord) -> list[str]:
    """Return a line a container: its image and the whole digest, as it runs or, before that, as planned."""
    planned = {one.name: one.image for one in record.plan.servers if one.image} if record.plan else {}
    running = {one.server.name: one.server for one in record.verified if one.server.image}
    lines = []
    for name in dict.fromkeys([*planned, *running]):
        tag = planned.get(name)
        server = running.get(name)
        if server is None:
            lines += [f"{name}: {_as_planned(tag)}, not verified"] if tag else []
            continue
        repository, _, digest = server.image.partition("@")
        shown = tag.reference if tag and tag.repository == repository else repository
        lines.append(
            f"{name}: {shown} {digest or 'without a digest'}, container {server.container or 'unknown'}"
        )
    return lines


def _as_planned(image: Image) -> str:
    return f"{image.reference} {image.digest or f'without a digest ({image.unpinned})'}"
