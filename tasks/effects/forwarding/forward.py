"""One request -> the upstream -> the answer, both as streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

import h11
from starlette.types import Message, Receive, Scope, Send

from tasks.effects.forwarding.body import Body, ClientGoneError
from tasks.effects.forwarding.headers import asked, forwarded, target
from tasks.effects.forwarding.upstream import Upstream
from tasks.effects.forwarding.wire import Wire, WireError

UNASKED = 408


async def forward(upstream: Upstream, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request; a client that goes away ends what runs for it upstream.

    The upstream's lease is held until nothing of the request runs any more.
    """
    answer = _Answer(send)
    with upstream.lease():
        call = _Call(upstream, scope, Body(receive))
        try:
            await _relay(call, answer)
            upstream.trouble = ""
        except ClientGoneError:
            pass
        except WireError as error:
            upstream.trouble = str(error)
            await _tell(error, upstream, answer)
        except asyncio.CancelledError:
            # Only the server's shutdown cancels us, when it has waited long enough. A part of an
            # answer may be out already, and then a second status is refused.
            with contextlib.suppress(RuntimeError):
                await send_error(send, 503, f"{upstream.owner} is stopping")
        finally:
            call.end()


async def send_error(send: Send, status: int, message: str, *, kind: str = "server_error") -> None:
    """Answer with an error in the shape of OpenAI's API."""
    error = {"message": message, "type": kind, "param": None, "code": None}
    text = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def _tell(error: WireError, upstream: Upstream, answer: _Answer) -> None:
    if not answer.begun:
        await send_error(answer.send, 502, f"{upstream.name} does not answer ({error})")
        return
    # The status is out already. Ending without the last part makes the server close the
    # connection, which is how a client learns that the answer is not complete.
    sys.stderr.write(f"an answer of {upstream.name} broke off: {error}\n")
    sys.stderr.flush()


async def _relay(call: _Call, answer: _Answer) -> None:
    head = await call.head()
    headers = forwarded(head.headers.raw_items())
    await answer({"type": "http.response.start", "status": head.status_code, "headers": headers})
    while (part := await call.part()) is not None:
        await answer({"type": "http.response.body", "body": part, "more_body": True})
    # Before the last part is out: once it is, the next request may want this connection.
    call.end()
    await answer({"type": "http.response.body", "body": b""})


class _Answer:
    """What goes back to the client. `begun` says whether a status is out."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self.send(message)


class _Call:
    """A request to an upstream. A task sends it and then watches the client; the caller reads the answer."""

    def __init__(self, upstream: Upstream, scope: Scope, body: Body) -> None:
        self._upstream = upstream
        self._body = body
        self._request = h11.Request(
            method=scope["method"], target=target(scope), headers=asked(scope, upstream.host)
        )
        self._wire: Wire | None = None
        self._sending: asyncio.Task[None] | None = None
        self._client_gone = False

    async def head(self) -> h11.Response:
        """Return status and headers of the answer.

        A server that restarts closes its idle connections, and a request may cross that on its way. So one
        that was sent on such a connection, and of which nothing came back, is sent again on a new one. The
        same is done where a 408 came: servers send it unasked before they close an idle connection, and a
        request that crosses it may be repeated on another (RFC 9110, section 15.5.9).

        Raises:
            ClientGoneError: nobody waits for it any more.
            WireError: there is no answer.
        """
        kept = self._upstream.kept_wire()
        if kept is not None:
            try:
                head = await self._asked(kept)
            except WireError:
                if kept.answered or not self._body.replayable:
                    raise
            else:
                if head.status_code != UNASKED or not self._body.replayable:
                    return head
                kept.abort("it closed an idle connection")
            await self._stop_sending()
        return await self._asked(await self._upstream.new_wire())

    async def part(self) -> bytes | None:
        """Return the next part of the answer's body, None at its end.

        Raises:
            ClientGoneError: nobody waits for it any more.
            WireError: it broke off.
        """
        if self._wire is None:
            raise RuntimeError("nothing was asked")
        try:
            return await self._wire.part()
        except WireError:
            self._refuse_gone()
            raise

    def end(self) -> None:
        """Stop whatever runs for this request."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if self._wire is not None:
            self._upstream.give_back(self._wire)
            self._wire = None

    async def _asked(self, wire: Wire) -> h11.Response:
        self._wire = wire
        self._sending = asyncio.create_task(self._send(wire))
        try:
            return await wire.head()
        except WireError:
            self._refuse_gone()
            raise

    def _refuse_gone(self) -> None:
        if self._client_gone:
            raise ClientGoneError from None

    async def _stop_sending(self) -> None:
        """Wait for the sender's end: two must not read the body at once."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait((self._sending,))

    async def _send(self, wire: Wire) -> None:
        with contextlib.suppress(WireError, h11.LocalProtocolError):  # who reads the answer learns of it
            await wire.send(self._request)
            try:
                async for part in self._body.parts():
                    await wire.send(h11.Data(data=part))
                await wire.send(h11.EndOfMessage())
                await self._body.client_gone()
            except ClientGoneError:
                pass
            self._client_gone = True
            wire.abort("its client has gone")
