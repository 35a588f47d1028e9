"""What is handed on of a head. Pure."""

from __future__ import annotations

import re

from starlette.types import Scope

Headers = list[tuple[bytes, bytes]]

NOT_FORWARDED = frozenset(
    {
        b"connection",
        b"expect",  # answered here, by asking for the body
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
LOCAL_HOST = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


def forwarded(headers: Headers) -> Headers:
    """Return the headers that are meant for the other end, not for this connection.

    Where a body came in chunks, a length beside it is wrong (RFC 9112, section 6.3) and is left out.
    """
    named = b",".join(value for name, value in headers if name.lower() == b"connection")
    dropped = NOT_FORWARDED | {name.strip().lower() for name in named.split(b",")}
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        dropped |= {b"content-length"}
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]


def asked(scope: Scope, host: bytes) -> Headers:
    """Return the headers of the request as the upstream gets them."""
    chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    framing = [(b"transfer-encoding", b"chunked")] if chunked else []
    return [(b"host", host), *forwarded(scope["headers"]), *framing]


def target(scope: Scope) -> bytes:
    """Return path and query as they were asked for."""
    path: bytes = scope["raw_path"]
    return path + b"?" + scope["query_string"] if scope["query_string"] else path


def is_local(scope: Scope) -> bool:
    """Whether a request was made to this host by one of its own names.

    A web page whose name was made to resolve to 127.0.0.1 (DNS rebinding) has a browser send that name.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return len(hosts) == 1 and LOCAL_HOST.fullmatch(hosts[0]) is not None
