"""One HTTP exchange: reads a body within limits, notices a client that hangs up, writes answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tasks.serve.embedded.admission import Ticket
from tasks.serve.embedded.wire import Refusal, render_error

log = logging.getLogger("embedded")
T = TypeVar("T")
GONE = 499
"""What the log shows for a client that did not wait for its answer; nobody receives it."""
DISCARD_BODIES = 4
"""A body over the limit is read on up to this many limits, so that its sender gets to see the refusal."""


async def read_body(request: Request, ticket: Ticket, limit: int) -> bytes:
    """Return the body.

    Raises:
        Refusal: it has more than `limit` bytes, or too much waits already.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            ticket.add(body_bytes=len(chunk))
            chunks.append(chunk)
        elif size > DISCARD_BODIES * limit:
            break
    if size > limit:
        message = f"the body has more than {limit} bytes; send fewer texts at a time"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", message)
    return b"".join(chunks)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` gives, or give it up as soon as the client hangs up.

    The body must have been read: what comes after it can only be the end of the connection.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Refusal(GONE, "client_gone", "the client hung up")
        return doing.result()
    finally:
        doing.cancel()
        gone.cancel()


def as_json(body: bytes, status: int = HTTPStatus.OK) -> Response:
    """Return an answer with a JSON body."""
    return Response(body, status, media_type="application/json")


def refuse(refusal: Refusal) -> Response:
    """Return the answer that a refusal stands for."""
    response = as_json(render_error(refusal.status, refusal.code, refusal.message), refusal.status)
    if refusal.retry_after_s:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    return response


async def refused(request: Request, error: Exception) -> Response:
    """Answer what a route raised, and what no route takes."""
    if isinstance(error, Refusal):
        return refuse(error)
    if isinstance(error, HTTPException):
        return _not_routed(request, error)
    log.error("unexpected %s: %s", type(error).__name__, error)
    return refuse(
        Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "this server has a fault; read its log")
    )


def _not_routed(request: Request, error: HTTPException) -> Response:
    headers = error.headers or {}
    path = request.url.path
    if allowed := headers.get("Allow"):
        message = (
            f"{request.method} is not answered at {path}; send {' or '.join(sorted(allowed.split(', ')))}"
        )
    else:
        message = f"there is nothing at {path}; use /v1/embeddings, /v1/models or /health"
    response = refuse(Refusal(error.status_code, "not_served", message))
    response.headers.update(headers)
    return response
