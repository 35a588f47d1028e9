"""One HTTP request in a thread of its own, so that it can be broken off at any time.

A blocking read hears no stop event, and one that times out cannot be taken up again. So a thread reads, the
caller waits for what it brings, and breaking off shuts the thread's socket down, which ends its read at once.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import SplitResult, urlsplit

from tasks.errors import SettingsError

if TYPE_CHECKING:
    import httpx

POLL_S = 0.1
CONNECT_S = 5.0
END_S = 2.0
WAITING_PIECES = 64


class BrokenExchangeError(Exception):
    """Raised when a request got no answer or not all of it; its text is one clause."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. A `body` that is iterable is sent piece by piece, and needs a Content-Length."""

    method: str
    url: str
    body: bytes | Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """A request and its answer. Use as a context manager; leaving the block breaks off what still runs."""

    def __init__(self, client: httpx.Client, ask: Ask) -> None:
        self._client = client
        self._ask = ask
        self._pieces: queue.Queue[int | bytes | Exception | None] = queue.Queue(WAITING_PIECES)
        self._broken = threading.Event()
        self._streams: list[object] = []
        self._thread = threading.Thread(target=self._run, name=f"ask {ask.url}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._broken.set()
        for stream in self._streams:
            _shut_down(stream)
        self._thread.join(END_S)

    def arriving(self) -> Iterator[int | bytes | None]:
        """Yield the status, then the body's pieces; None each time nothing came for `POLL_S`.

        Raises:
            BrokenExchangeError: there was no answer, or it broke off.
        """
        while True:
            try:
                piece = self._pieces.get(timeout=POLL_S)
            except queue.Empty:
                yield None
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise BrokenExchangeError(_clause(piece)) from None
            yield piece

    def _run(self) -> None:
        import httpx  # noqa: PLC0415  # 0.1 s, and most commands ask no server

        ask = self._ask
        try:
            with self._client.stream(
                ask.method,
                ask.url,
                content=ask.body,
                headers=dict(ask.headers),
                extensions={"trace": self._trace},
            ) as answer:
                self._put(answer.status_code)
                for piece in answer.iter_bytes():
                    self._put(piece)
            self._put(None)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            # ValueError: an address or a header that cannot be sent, and what a shut socket makes of TLS.
            self._put(error)

    def _trace(self, event: str, info: Mapping[str, object]) -> None:
        """Keep each connection that is made: httpx hands the socket out only with the answer's head."""
        stream = info.get("return_value")
        if event.endswith(".complete") and hasattr(stream, "get_extra_info"):
            self._streams.append(stream)
            if self._broken.is_set():
                _shut_down(stream)

    def _put(self, piece: int | bytes | Exception | None) -> None:
        while not self._broken.is_set():
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=POLL_S)
                return
        # Nobody listens any more; a long answer must not be read to its end.
        for stream in self._streams:
            _shut_down(stream)


def client(url: str) -> httpx.Client:
    """Return what asks the server of `url`. No proxy of the environment comes before this host's own servers.

    Only connecting has a time-out: how long an answer may take is for the caller to count.
    """
    import httpx  # noqa: PLC0415  # as above

    host = address(url)
    return httpx.Client(
        headers={"Accept-Encoding": "identity"},
        timeout=httpx.Timeout(None, connect=CONNECT_S),
        trust_env=not is_loopback(host.hostname or ""),
        # A connection that is taken up again would not be traced, and could not be shut down.
        limits=httpx.Limits(max_keepalive_connections=0),
        verify=host.scheme != "http" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        follow_redirects=True,
        max_redirects=5,
    )


def address(url: str) -> SplitResult:
    """Take an address apart.

    Raises:
        SettingsError: it is none that can be asked by HTTP.
    """
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return parts
    raise SettingsError(
        f"{url!r} is not the address of a server", "nothing was asked for", "write it as http://host:port"
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or an address means this host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _shut_down(stream: object) -> None:
    get_extra_info = getattr(stream, "get_extra_info", None)
    sock = get_extra_info("socket") if callable(get_extra_info) else None
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _clause(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "the connection is refused" if "refused" in text else text or type(error).__name__
