"""One connection to an upstream: requests go out, answers come in, one after the other."""

from __future__ import annotations

import asyncio
from typing import cast

import h11

UNREAD_BYTES = 1 << 16
"""Nothing more is read of an answer while so much of it waits to be handed on."""
HEAD_BYTES = 1 << 16
"""The largest head that is taken, as in Node and twice what nginx takes by default."""


class WireError(Exception):
    """Raised when a connection is not made or breaks; its text is one clause."""


class Wire(asyncio.Protocol):
    """A connection, with HTTP/1.1 framed by h11.

    Attributes:
        alive: Whether another request may be sent once this one is done.
        answered: Whether a byte of the answer to the current request came.
    """

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._unread = 0
        self._paused = False
        self._eof = False
        self._lost = ""
        self._parked = False
        self.alive = True
        self.answered = False

    # --- what asyncio tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer. What nobody asked for ends the connection."""
        if self._parked:
            self.abort("it spoke unasked")
            return
        self.answered = True
        self._http.receive_data(data)
        self._unread += len(data)
        if self._unread > UNREAD_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        """Note the end; returning nothing makes asyncio close this side, too."""
        self.alive = False
        self._eof = True
        self._http.receive_data(b"")
        self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Wake whoever waits."""
        self.alive = False
        self._lost = self._lost or ("it closed the connection" if error is None else _plain(error))
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Let senders wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._writable.set()

    # --- one request ---------------------------------------------------------------------------

    async def send(self, event: h11.Event) -> None:
        """Send a part of the request, and wait while the upstream is slow to take it.

        Raises:
            WireError: the connection ended.
        """
        if self._lost or self._eof:
            raise WireError(self._lost or "it closed the connection")
        if data := self._http.send(event):
            self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()

    async def head(self) -> h11.Response:
        """Return status and headers of the answer.

        Raises:
            WireError: the connection ended, or what came is not HTTP.
        """
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise WireError("it closed the connection without an answer")

    async def part(self) -> bytes | None:
        """Return the next part of the answer's body, None at its end.

        Raises:
            WireError: it broke off.
        """
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise WireError("it ended too early")

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                reason = (
                    "it closed the connection too early" if self._eof else f"it does not speak HTTP: {error}"
                )
                raise WireError(reason) from None
            if event is not h11.NEED_DATA:
                return cast("h11.Event | type[h11.PAUSED]", event)
            if self._lost:
                raise WireError(self._lost)
            self._unread = 0
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self._news.clear()
            await self._news.wait()

    # --- between requests ----------------------------------------------------------------------

    def park(self) -> bool:
        """Make ready for another request; False when that is not possible."""
        both_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not both_done or not self.alive or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self._parked, self.answered, self._unread = True, False, 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return True

    def unpark(self) -> None:
        """Begin another request."""
        self._parked = False

    def abort(self, reason: str) -> None:
        """End the connection now."""
        self.alive = False
        self._lost = self._lost or reason
        self._transport.abort()
        self._news.set()
        self._writable.set()


def _plain(error: Exception) -> str:
    return "it reset the connection" if isinstance(error, ConnectionError) else str(error)
