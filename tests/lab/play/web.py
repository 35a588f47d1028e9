"""Plain HTTP requests, without proxies, redirects or certificates of the system."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class WebError(Exception):
    """Raised when there is no answer, or when it breaks off. `silent` says that nothing came in time."""

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class Answer:
    """An answer whose body is read piece by piece."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers

    def read(self, most: int | None = None) -> bytes:
        """Return the next bytes of the body, b"" at its end."""
        with _told():
            data = self._response.read(most) if most is None else self._response.read1(most)
        if not data and most is not None and self._response.length:
            raise WebError("unexpected EOF")
        return data


@contextmanager
def asked(
    method: str, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
) -> Iterator[Answer]:
    """Make a request."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port, timeout=timeout_s, context=NOBODY)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=timeout_s)
    )
    try:
        with _told():
            connection.request(
                method, parts.path + (f"?{parts.query}" if parts.query else ""), headers=dict(headers or {})
            )
            answer = Answer(connection.getresponse())
        yield answer
    finally:
        connection.close()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise WebError(str(error), silent=isinstance(error, TimeoutError)) from error
