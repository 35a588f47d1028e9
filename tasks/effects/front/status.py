"""What the front says of itself, asked over its unix socket."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tasks.effects.front.counting import Tally

SOCKET = "front.sock"
TIMEOUT_S = 2.0
OK = 200


class Flight(msgspec.Struct, frozen=True):
    """Requests in flight on a backend that gets no new ones."""

    backend_port: int
    in_flight: int


class PortStatus(msgspec.Struct, frozen=True):
    """One port: `open`, `closing` (its last requests run) or `refused` (somebody else has it).

    `error` says why it was refused, or why the last request found no answer. `counts` are of ports whose row
    has a mark, since the process began.
    """

    server: str
    port: int
    backend_port: int
    state: str
    in_flight: int = 0
    retiring: tuple[Flight, ...] = ()
    error: str = ""
    counts: tuple[Tally, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """What became of one reading of the table."""

    attempt: int
    ok: bool
    table_hash: str
    error: str


class Status(msgspec.Struct, frozen=True):
    """The whole front. `pid` lets a reader tell this process from an older one."""

    pid: int
    table_hash: str
    generation: int
    last_reading: Reading
    ports: tuple[PortStatus, ...] = ()

    @property
    def reading(self) -> tuple[int, int]:
        """What tells the last reading of the table from all others."""
        return self.pid, self.last_reading.attempt

    def refused(self, needed: tuple[int, ...]) -> PortStatus | None:
        """Return the first of the needed ports that somebody else has."""
        refused = [port for port in self.ports if port.state == "refused"]
        return next((port for port in refused if port.port in needed), None)

    def retired(self, server: str) -> int:
        """Return how many requests of a server still run where it was pointed before."""
        mine = [port for port in self.ports if port.server == server]
        closing = sum(port.in_flight for port in mine if port.state == "closing")
        return closing + sum(flight.in_flight for port in mine for flight in port.retiring)


STATUS = msgspec.json.Decoder(Status)
"""Made before threads begin: two that use a shape for the first time at once can crash msgspec."""


def ask(folder: Path) -> Status | None:
    """Return the status of the front of a folder, None when none answers."""
    connection = _UnixConnection(folder)
    try:
        connection.request("GET", "/status")
        reply = connection.getresponse()
        return STATUS.decode(reply.read()) if reply.status == OK else None
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Yield a path of the status socket that fits: one holds at most 107 bytes on Linux (unix(7))."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, folder: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        with short_path(self._folder) as path:
            self.sock.connect(path)
