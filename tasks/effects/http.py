"""HTTP to servers on this host: the one seam of the stages that ask them something.

A connection that fails, a time-out and a body that cannot be read are `HttpError`; any status is a `Reply`.
"""

from __future__ import annotations

import json as stdlib_json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import orjson

from tasks.effects.wire import FormFile, multipart, printable

if TYPE_CHECKING:
    import httpx

    from tasks.effects.bounded import Deadline

OK = 200
MOST_BYTES = 64 << 20
"""No answer is read further. The largest that is asked for, a batch of vectors, has some 3 MiB. Chosen."""
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
    form: Mapping[str, str] | None = None
    file: FormFile | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and how long it took."""

    status: int
    body: bytes
    seconds: float
    content_type: str = ""

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
        text = printable(self.body[: 4 * SHOWN_CHARACTERS].decode(errors="replace"))
        cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
        return f"HTTP {self.status}: {cut or 'an empty body'}"


Line = Callable[[bytes, float], bool]
"""Takes a line of a stream and the seconds since it was asked for; returns whether it wants more."""


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

    def post_lines(self, url: str, json: object, line: Line, *, timeout_s: float, most_bytes: int) -> Reply:
        """Send `json` to `url`, and give each line to `line` as it comes; only a refusal has a body.

        Raises:
            HttpError: not over within `timeout_s`, or more than `most_bytes`.
        """

    def post_form(self, url: str, form: Mapping[str, str], file: FormFile, *, timeout_s: float) -> Reply:
        """Send a form with a file.

        Raises:
            HttpError: no answer within `timeout_s`.
        """


class Httpx:
    """The real one. Connections are kept open until `close`; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[httpx.Client, Deadline] | None = None

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

    def post_lines(self, url: str, json: object, line: Line, *, timeout_s: float, most_bytes: int) -> Reply:
        """Send `json` to `url`, and give each line to `line` as it comes."""
        headers = {"Content-Type": "application/json"}
        return self._send(
            "POST", url, orjson.dumps(json), headers, timeout_s, most_bytes=most_bytes, line=line
        )

    def post_form(self, url: str, form: Mapping[str, str], file: FormFile, *, timeout_s: float) -> Reply:
        """Send a form with a file."""
        body, content_type = multipart(form, file)
        return self._send("POST", url, body, {"Content-Type": content_type}, timeout_s)

    def close(self) -> None:
        """Close all connections."""
        if self._made is not None:
            self._made[0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(  # noqa: PLR0913  # what a request has
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        *,
        most_bytes: int = MOST_BYTES,
        line: Line | None = None,
    ) -> Reply:
        import httpx  # noqa: PLC0415  # 0.1 s, and most commands ask no server

        begun = time.monotonic()
        client, deadline = self._client()
        sent = {"Accept-Encoding": "identity", **headers}
        timeout = max(timeout_s, 0.001)
        try:
            with (
                deadline.within(timeout),
                client.stream(method, url, content=body, headers=sent, timeout=timeout) as answer,
            ):
                chunks = answer.iter_raw()
                if line is not None and answer.status_code == OK:
                    _lines(chunks, line, begun, most_bytes)
                    chunks = iter(())
                got = _capped(chunks, most_bytes)
                content_type = answer.headers.get("content-type", "")
                return Reply(answer.status_code, got, time.monotonic() - begun, content_type)
        except httpx.TimeoutException:
            raise HttpError(f"no answer within {timeout_s:.3g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HttpError(_plain(error)) from None

    def _client(self) -> tuple[httpx.Client, Deadline]:
        import httpx  # noqa: PLC0415  # as above

        from tasks.effects.bounded import Deadline, Transport  # noqa: PLC0415  # as above

        with self._lock:
            if self._made is None:
                deadline = Deadline()
                # No proxy of the environment may come between this program and its own host.
                client = httpx.Client(trust_env=False, transport=Transport(deadline))
                self._made = (client, deadline)
            return self._made


def _capped(chunks: Iterable[bytes], most_bytes: int) -> bytes:
    """Return all of it.

    Raises:
        HttpError: there is more than `most_bytes`.
    """
    got = bytearray()
    for chunk in chunks:
        got += chunk
        if len(got) > most_bytes:
            raise HttpError(f"more than {most_bytes:,} bytes")
    return bytes(got)


def _lines(chunks: Iterable[bytes], line: Line, begun: float, most_bytes: int) -> None:
    """Give each line to `line` until it wants no more."""
    rest, total = b"", 0
    for chunk in chunks:
        total += len(chunk)
        if total > most_bytes:
            raise HttpError(f"a stream of more than {most_bytes:,} bytes")
        *whole, rest = (rest + chunk).split(b"\n")
        now = time.monotonic() - begun
        if not all(line(one.rstrip(b"\r"), now) for one in whole):
            return
    if rest:
        line(rest.rstrip(b"\r"), time.monotonic() - begun)


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

    def post_lines(
        self,
        url: str,
        json: object,
        line: Line,
        *,
        timeout_s: float,  # noqa: ARG002  # no time passes in memory
        most_bytes: int,
    ) -> Reply:
        """Let `answer` answer; its lines come in equal steps of the time that it is said to have taken."""
        reply = self._ask(Request("POST", url, json))
        if reply.status != OK:
            return reply
        lines = _capped([reply.body], most_bytes).splitlines()
        for place, one in enumerate(lines, start=1):
            if not line(one, reply.seconds * place / len(lines)):
                break
        return Reply(reply.status, b"", reply.seconds, reply.content_type)

    def post_form(
        self,
        url: str,
        form: Mapping[str, str],
        file: FormFile,
        *,
        timeout_s: float,  # noqa: ARG002  # no time passes in memory
    ) -> Reply:
        """Let `answer` answer."""
        return self._ask(Request("POST", url, form=form, file=file))

    def _ask(self, request: Request) -> Reply:
        self.requests.append(request)
        return self._answer(request)
