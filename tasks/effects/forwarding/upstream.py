"""A server that requests are handed on to: its open connections, and how many requests run there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from tasks.effects.forwarding.wire import Wire, WireError

HOST = "127.0.0.1"
CONNECT_S = 5.0
IDLE_S = 4.0
"""How long an idle connection is used again.

uvicorn (its `--timeout-keep-alive`) and llama.cpp's cpp-httplib (CPPHTTPLIB_KEEPALIVE_TIMEOUT_SECOND) close
theirs after 5 s. A request that crosses such a close on its way is lost, so this ends before.
"""
MOST_IDLE = 64


class Upstream:
    """One server on this host, by its port. `idle` is set while none of its requests is in flight.

    Args:
        port: Its port on 127.0.0.1.
        name: How errors call it.
        owner: How errors call the program that forwards to it.
    """

    def __init__(self, port: int, name: str, owner: str) -> None:
        self.port = port
        self.name = name
        self.owner = owner
        self.host = f"{HOST}:{port}".encode()
        self.in_flight = 0
        self.trouble = ""
        self.idle = asyncio.Event()
        self.idle.set()
        self._closed = False
        self._wires: list[tuple[Wire, float]] = []

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Count one request for the block."""
        self.in_flight += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self.idle.set()

    def kept_wire(self) -> Wire | None:
        """Return a connection that is open from an earlier request, if there is a fresh one."""
        now = asyncio.get_running_loop().time()
        while self._wires:
            wire, since = self._wires.pop()
            if wire.alive and now - since < IDLE_S:
                wire.unpark()
                return wire
            wire.abort("it was idle for long")
        return None

    async def new_wire(self) -> Wire:
        """Connect.

        Raises:
            WireError: nobody answers.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, wire = await loop.create_connection(Wire, HOST, self.port)
        except ConnectionRefusedError:
            raise WireError("the connection is refused") from None
        except TimeoutError:
            raise WireError(f"no connection within {CONNECT_S:g} s") from None
        except OSError as error:
            raise WireError(error.strerror or str(error)) from None
        return wire

    def give_back(self, wire: Wire) -> None:
        """Keep a connection for another request, or end it where that cannot be."""
        if not self._closed and len(self._wires) < MOST_IDLE and wire.park():
            self._wires.append((wire, asyncio.get_running_loop().time()))
        else:
            wire.abort("it is not needed any more")

    def close(self) -> None:
        """End the idle connections now, and those in use when their requests have ended."""
        self._closed = True
        while self._wires:
            self._wires.pop()[0].abort("it is not needed any more")

    def open(self) -> None:
        """Keep connections again, after a `close`."""
        self._closed = False
