"""The table of stable ports: its shape, its rules, and where it lies. Pure, but for `read`.

    [{"server": "llm-qwen2.5-32b", "port": 8101, "backend_port": 18101}]

Keys that are not known are passed over, so that a front can read the table of a newer provisioner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

HIGHEST_PORT = 65535


class TableError(Exception):
    """Raised when a table cannot be used; its text is one clause."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One server: its stable port, and the port of what serves it now.

    `backend` names what serves, for counts and for whoever reads the table. With a `mark`, answers are
    counted by the word that follows it in them. With `paths`, only what begins with one of them is answered.
    """

    server: str
    port: int
    backend_port: int
    backend: str = ""
    mark: str = ""
    paths: tuple[str, ...] = ()


ROWS = msgspec.json.Decoder(tuple[Row, ...])
"""Made before threads begin: two that use a shape for the first time at once can crash msgspec."""


def table_path(folder: Path) -> Path:
    """Return where the table lies."""
    return folder / "table.json"


def render(rows: Iterable[Row]) -> str:
    """Return a table as text; equal tables are equal texts."""
    ordered = sorted(rows, key=lambda row: row.port)
    return msgspec.json.format(msgspec.json.encode(ordered), indent=2).decode() + "\n"


def parse(raw: bytes) -> tuple[Row, ...]:
    """Read a table.

    Raises:
        TableError: it is not one, or contradicts itself.
    """
    try:
        rows = ROWS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TableError(f"it is not a table of ports ({error})") from None
    for row in rows:
        if not all(0 < port <= HIGHEST_PORT for port in (row.port, row.backend_port)):
            raise TableError(f"{row.server} has a port that is not between 1 and {HIGHEST_PORT}")
    _refuse_doubles("port", [row.port for row in rows])
    _refuse_doubles("server", [row.server for row in rows])
    if loops := {row.backend_port for row in rows} & {row.port for row in rows}:
        raise TableError(f"port {min(loops)} is the front's own and a backend's")
    return rows


def digest(raw: bytes) -> str:
    """Return what the status calls a table by."""
    return hashlib.sha256(raw).hexdigest()


def _refuse_doubles(what: str, values: list[int] | list[str]) -> None:
    for value in values:
        if values.count(value) > 1:  # type: ignore[arg-type]  # both lists are of one type
            raise TableError(f"the {what} {value} stands in it twice")
