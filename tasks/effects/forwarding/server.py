"""A port that is listened on, and the HTTP server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from tasks.effects.forwarding.upstream import HOST
from tasks.effects.forwarding.wire import HEAD_BYTES
from tasks.errors import PortTakenError

KEEP_ALIVE_S = 120
"""Longer than clients keep an idle connection (Go's net/http: 90 s), so that they close it and never
write into one that closes."""
BACKLOG = 2048


class Server(uvicorn.Server):
    """Uvicorn that leaves the signals alone (it would end this process with their code) and never ticks."""

    def __init__(self, app: ASGIApp, *, finish_s: int | None = None) -> None:
        super().__init__(_settings(app, finish_s))
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever runs this."""
        yield

    async def main_loop(self) -> None:
        """Wait for `stop`. Uvicorn wakes ten times a second for a date header that is not sent."""
        await self._ended.wait()

    def stop(self) -> None:
        """Accept nothing new from now on; `serve` returns when what runs has ended."""
        self.should_exit = True
        self._ended.set()

    def cut_off(self) -> None:
        """Cancel the requests that still run."""
        for task in tuple(self.server_state.tasks):
            task.cancel()


def listen(port: int, owner: str) -> socket.socket:
    """Take the port. Clients that connect before it is served wait instead of being refused.

    Raises:
        PortTakenError: somebody else has it.
    """
    # The protocol is named, because asyncio turns Nagle's algorithm off only where it is: 2 ms, not 44.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortTakenError(
            f"{owner} cannot listen on {HOST}:{port} ({error.strerror})",
            "nothing was started",
            "end the program that holds the port, or choose another port",
        ) from error
    return listener


def _settings(app: ASGIApp, finish_s: int | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        date_header=False,
        http="h11",  # not what happens to be installed: they differ in what they let through
        h11_max_incomplete_event_size=HEAD_BYTES,
        lifespan="off",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=finish_s,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
    )
