"""HTTP to servers on this host: the one seam of the stages that ask them something.

A connection that fails, a time-out and a body that cannot be read are `HttpError`; any status is a `Reply`.
"""

from __future__ import annotations

import json as stdlib_json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import orjson

if TYPE_CHECKING:
    import httpx

OK = 200
NO_HEADERS: Mapping[str, str] = {}
SHOWN_CHARACTERS = 200


class HttpError(Exception):
    """Raised when there is no answer, or one that cannot be read; its text is one clause."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked."""

    method: str
    url: str
    json: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and how long it took."""

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:  # noqa: ANN401  # whatever a server sends
        """Return the decoded body. NaN passes, which JSON does not know but some servers send.

        Raises:
            HttpError: the body is not JSON.
        """
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            pass
        try:
            return stdlib_json.loads(self.body)
        except ValueError:
            raise HttpError(f"{self.shown()}, which is not JSON") from None

    def shown(self) -> str:
        """Return status and the beginning of the body on one line, for an error."""
        text = " ".join(self.body[: 4 * SHOWN_CHARACTERS].decode(errors="replace").split())
        cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
        return f"HTTP {self.status}: {cut or 'an empty body'}"


class Http(Protocol):
    """What asks servers. One real implementation, and one in memory for tests."""

    def get(self, url: str, *, timeout_s: float) -> Reply:
        """Fetch `url`.

        Raises:
            HttpError: no answer within `timeout_s`.
        """

    def post(
        self, url: str, json: object, *, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Reply:
        """Send `json` to `url`.

        Raises:
            HttpError: no answer within `timeout_s`.
        """


class Httpx:
    """The real one. Connections are kept open until `close`; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: httpx.Client | None = None

    def get(self, url: str, *, timeout_s: float) -> Reply:
        """Fetch `url`."""
        return self._send("GET", url, None, NO_HEADERS, timeout_s)

    def post(
        self, url: str, json: object, *, timeout_s: float, headers: Mapping[str, str] = NO_HEADERS
    ) -> Reply:
        """Send `json` to `url`."""
        return self._send(
            "POST", url, orjson.dumps(json), {"Content-Type": "application/json", **headers}, timeout_s
        )

    def close(self) -> None:
        """Close all connections."""
        if self._made is not None:
            self._made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        import httpx  # noqa: PLC0415  # 0.1 s, and most commands ask no server

        begun = time.monotonic()
        try:
            answer = self._client().request(
                method, url, content=body, headers=dict(headers), timeout=max(timeout_s, 0.001)
            )
        except httpx.TimeoutException:
            raise HttpError(f"no answer within {timeout_s:.3g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HttpError(_plain(error)) from None
        return Reply(answer.status_code, answer.content, time.monotonic() - begun)

    def _client(self) -> httpx.Client:
        import httpx  # noqa: PLC0415  # as above

        with self._lock:
            if self._made is None:
                # No proxy of the environment may come between this program and its own host.
                self._made = httpx.Client(trust_env=False)
            return self._made


def _plain(error: Exception) -> str:
    text = str(error)
    return "the connection is refused" if "refused" in text else text or type(error).__name__


class MemoryHttp:
    """The one for tests: `answer` plays the server, `requests` holds what it was asked."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._answer = answer
        self.requests: list[Request] = []

    def get(self, url: str, *, timeout_s: float) -> Reply:  # noqa: ARG002  # no time passes in memory
        """Let `answer` answer."""
        return self._ask(Request("GET", url))

    def post(
        self,
        url: str,
        json: object,
        *,
        timeout_s: float,  # noqa: ARG002  # no time passes in memory
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Reply:
        """Let `answer` answer."""
        return self._ask(Request("POST", url, json, headers))

    def _ask(self, request: Request) -> Reply:
        self.requests.append(request)
        return self._answer(request)
