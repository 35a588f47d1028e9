"""A request's body as it arrives, and after it the news that the client has gone."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.types import Receive

KEPT_BYTES = 1 << 16
"""What is kept of a body, so that the request can be sent again. Chosen here; embeddings requests fit."""


class ClientGoneError(Exception):
    """Raised when the client closed its connection in the middle of its request."""


class Body:
    """A request's body. It can be read again from its beginning as long as it is `replayable`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._complete = False
        self.replayable = True

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the parts of the body: those that were read before, then those that arrive.

        Raises:
            ClientGoneError: the client went away before the end.
        """
        for part in tuple(self._kept):
            yield part
        while not self._complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            self._complete = not message.get("more_body", False)
            arrived: bytes = message.get("body", b"")
            if arrived:
                self._keep(arrived)
                yield arrived

    async def client_gone(self) -> None:
        """Return once the client closed its connection after its request."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _keep(self, part: bytes) -> None:
        self._kept_bytes += len(part)
        if self._kept_bytes <= KEPT_BYTES:
            self._kept.append(part)
        else:
            self._kept.clear()
            self.replayable = False
