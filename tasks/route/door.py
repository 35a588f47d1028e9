"""How clients came in until now, and what is different: a door that opens or closes is always said.

<state>/gateway/door.json   0600; of a token only its sha256
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tasks.effects.files import write_atomic
from tasks.route.proxy.contract import Door

FILE = "door.json"


class Kept(msgspec.Struct, frozen=True):
    """A door as it was, and which kind of proxy kept it."""

    address: str
    token_sha256: str
    tls: bool
    kind: str


KEPT = msgspec.json.Decoder(Kept)
"""Made before threads begin: two that use a shape for the first time at once can crash msgspec."""


def kept_of(door: Door, kind: str) -> Kept:
    """Return what is kept of a door."""
    return Kept(f"{door.bind}:{door.port}", door.token_sha256, door.certificate is not None, kind)


def changes(folder: Path, now: Kept) -> tuple[str, ...]:
    """Say how clients come in otherwise than they did; nothing where that is not known."""
    was = _kept(folder)
    if was is None:
        return ()
    said = []
    if was.token_sha256 != now.token_sha256:
        opened = "no token is asked for any more: whoever reaches the gateway may use it"
        said.append(
            opened
            if not now.token_sha256
            else "another token is asked for"
            if was.token_sha256
            else "a token is asked for"
        )
    if was.tls != now.tls:
        said.append("clients come by TLS" if now.tls else "clients come without TLS")
    if was.address != now.address:
        said.append(f"the gateway moves from {was.address} to {now.address}")
    if was.kind != now.kind:
        said.append(f"{now.kind} takes the port from {was.kind}")
    return tuple(said)


def note(folder: Path, now: Kept) -> None:
    """Keep how clients come in now."""
    if _kept(folder) != now:
        write_atomic(folder / FILE, msgspec.json.encode(now).decode(), mode=0o600)


def _kept(folder: Path) -> Kept | None:
    try:
        return KEPT.decode((folder / FILE).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
