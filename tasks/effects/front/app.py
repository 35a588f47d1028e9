"""The life of the front process: read the table, own its ports, obey signals, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import msgspec
from starlette.types import Receive, Scope, Send

from tasks.effects.files import try_lock
from tasks.effects.forwarding.server import Server
from tasks.effects.front.ports import StablePort
from tasks.effects.front.status import SOCKET, PortStatus, Reading, Status, short_path
from tasks.effects.front.table import Row, TableError, digest, parse, table_path
from tasks.errors import BusyError, PortTakenError

TRY_AGAIN_S = 1.0
CUT_OFF_S = 2.0


class Front:
    """The open ports, and the table that they follow."""

    def __init__(self, folder: Path) -> None:
        self._path = table_path(folder)
        self._ports: dict[int, StablePort] = {}
        self._closing: dict[StablePort, asyncio.Task[None]] = {}
        self._refused: dict[Row, str] = {}
        self._table_hash = ""
        self._generation = 0
        self._last = Reading(0, ok=False, table_hash="", error="not read yet")

    async def reload(self) -> Reading:
        """Read the table and follow it; one that cannot be read leaves everything as it is."""
        found, error = "", ""
        try:
            raw = self._path.read_bytes()
            found = digest(raw)
            await self._follow(parse(raw))
        except OSError as failure:
            error = f"{self._path} cannot be read ({failure.strerror or failure})"
        except TableError as failure:
            error = f"{self._path} cannot be used: {failure}"
        except Exception as failure:  # noqa: BLE001  # a table must never end the front that serves
            error = repr(failure)
        else:
            self._table_hash, self._generation = found, self._generation + 1
        self._last = Reading(self._last.attempt + 1, not error, found, error)
        return self._last

    async def _follow(self, rows: tuple[Row, ...]) -> None:
        wanted = {row.port for row in rows}
        for port in [port for port in self._ports if port not in wanted]:
            self._close(self._ports.pop(port))
        self._refused.clear()
        for row in rows:
            if there := self._ports.get(row.port):
                there.point(row)
            else:
                await self._open(row)

    async def _open(self, row: Row) -> None:
        port = StablePort(row)
        try:
            await port.open()
        except PortTakenError as refusal:
            self._refused[row] = refusal.what
        else:
            self._ports[row.port] = port

    def _close(self, port: StablePort) -> None:
        port.close()
        ending = asyncio.create_task(port.ended())
        self._closing[port] = ending
        ending.add_done_callback(lambda _: self._closing.pop(port, None))

    async def try_refused(self) -> None:
        """Try the ports again that somebody else had."""
        for row in tuple(self._refused):
            del self._refused[row]
            await self._open(row)

    @property
    def has_refused(self) -> bool:
        """Whether a port of the table is taken by somebody else."""
        return bool(self._refused)

    async def close(self, finish_s: float) -> None:
        """Close every port; what still runs after `finish_s` is cut off."""
        while self._ports:
            self._close(self._ports.popitem()[1])
        for wait_s in (finish_s, CUT_OFF_S):
            if self._closing:
                await asyncio.wait(tuple(self._closing.values()), timeout=wait_s)
            for port in tuple(self._closing):
                port.cut_off()

    def describe(self) -> Status:
        """Return what `/status` says."""
        ports = [_described(port, "open") for port in self._ports.values()]
        ports += [_described(port, "closing") for port in self._closing]
        ports += [
            PortStatus(row.server, row.port, row.backend_port, "refused", error=error)
            for row, error in self._refused.items()
        ]
        return Status(os.getpid(), self._table_hash, self._generation, self._last, tuple(ports))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        """Answer on the status socket."""
        found = scope["path"] == "/status"
        body = msgspec.json.encode(self.describe() if found else {"error": "only /status is here"})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _described(port: StablePort, state: str) -> PortStatus:
    row = port.row
    return PortStatus(
        row.server,
        row.port,
        row.backend_port,
        state,
        port.in_flight,
        port.retiring,
        port.trouble,
        port.counts,
    )


def _listen_for_status(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    (folder / SOCKET).unlink(missing_ok=True)
    with short_path(folder) as path:
        listener.bind(path)
    (folder / SOCKET).chmod(0o600)
    listener.listen()
    return listener


async def serve(folder: Path, *, finish_s: int) -> None:
    """Serve until SIGTERM or SIGINT; requests that still run `finish_s` later are cut off.

    Raises:
        BusyError: another front serves this folder.
    """
    with try_lock(folder / "front.lock") as mine:
        if not mine:
            raise BusyError(
                f"another front serves {folder}", "it goes on", "end it first, or choose another folder"
            )
        _allow_many_connections()
        await _serve(folder, finish_s)


async def _serve(folder: Path, finish_s: int) -> None:
    front, wanted, ending = Front(folder), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ending.set)
    wanted.set()
    following = asyncio.create_task(_follow_when(wanted, front))
    status = Server(front, finish_s=1)
    answering = asyncio.create_task(status.serve([_listen_for_status(folder)]))
    await ending.wait()
    following.cancel()
    await front.close(finish_s)
    status.stop()
    await answering


async def _follow_when(wanted: asyncio.Event, front: Front) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wanted.wait(), TRY_AGAIN_S if front.has_refused else None)
        if not wanted.is_set():
            await front.try_refused()
            continue
        # Cleared before the file is read: a signal that comes later asks for another reading.
        wanted.clear()
        done = await front.reload()
        outcome = f"in use: {done.table_hash}" if done.ok else f"rejected, the old one stays: {done.error}"
        sys.stderr.write(f"table {outcome}\n")
        sys.stderr.flush()


def _allow_many_connections() -> None:
    """Raise the limit of open files to what is allowed: each request holds two, and 1024 is usual."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
