"""One request → the generation that serves → the answer, both as streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator

import httpx
from starlette.types import Receive, Scope, Send

from tasks.route.gateway.generations import Generation, Switch

# TensorZero has its own, shorter time-outs for each provider; these only end what it forgot.
TIMEOUT = httpx.Timeout(connect=5.0, read=900.0, write=900.0, pool=None).as_dict()
NOT_FORWARDED = frozenset(
    {
        b"connection",
        b"expect",  # answered here, by asking for the body
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
Headers = list[tuple[bytes, bytes]]


class ClientGoneError(Exception):
    """Raised when the client closed its connection in the middle of its request."""


class Body:
    """A request's body as it arrives, and after it the news that the client has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts of the body.

        Raises:
            ClientGoneError: the client went away before the end.
        """
        while not self._complete.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            if not message.get("more_body", False):
                self._complete.set()
            if message.get("body"):
                yield message["body"]

    async def client_gone(self) -> None:
        """Return once the client closed its connection after its request."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Forwarder:
    """The ASGI application behind `/openai/v1/`."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a client that goes away cancels what runs for it."""
        body = Body(receive)
        with self._switch.lease() as generation:
            answer = asyncio.create_task(_answer(generation, scope, body, send))
            gone = asyncio.create_task(body.client_gone())
            try:
                await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                # Only the server's shutdown cancels us, when it has waited long enough. A part of an
                # answer may be out already, and then a second status is refused.
                with contextlib.suppress(RuntimeError):
                    await _send_error(send, 503, "the gateway is stopping")
            finally:
                answer.cancel()
                gone.cancel()
                # Before the lease ends: a generation is idle only when nothing of it runs any more.
                await asyncio.wait((answer, gone))
            with contextlib.suppress(asyncio.CancelledError, ClientGoneError):
                answer.result()


async def _answer(generation: Generation, scope: Scope, body: Body, send: Send) -> None:
    request = await _request(generation, scope, body)
    try:
        response = await generation.transport.handle_async_request(request)
    except httpx.TransportError as error:
        await _send_error(send, 502, f"the gateway's TensorZero does not answer ({error!r})")
        return
    try:
        headers = forwarded(response.headers.raw)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        async for part in response.aiter_raw():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except httpx.TransportError as error:
        # The status is out already. Ending without the last part makes the server close the
        # connection, which is how a client learns that the answer is not complete.
        sys.stderr.write(f"an answer broke off: {error!r}\n")
    finally:
        await response.aclose()


async def _request(generation: Generation, scope: Scope, body: Body) -> httpx.Request:
    headers = forwarded(scope["headers"])
    path = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    url = httpx.URL(generation.native.base_url).copy_with(raw_path=path)
    names = {name for name, _ in scope["headers"]}
    has_body = bool(names & {b"content-length", b"transfer-encoding"})
    if not has_body:
        async for _ in body:
            pass
    content = body if has_body else None
    return httpx.Request(
        scope["method"], url, headers=headers, content=content, extensions={"timeout": TIMEOUT}
    )


def forwarded(headers: Headers) -> Headers:
    """Return the headers that are meant for the other end, not for this connection."""
    named = b",".join(value for name, value in headers if name.lower() == b"connection")
    dropped = NOT_FORWARDED | {name.strip().lower() for name in named.split(b",")}
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]


async def _send_error(send: Send, status: int, message: str) -> None:
    text = json.dumps({"error": {"message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
