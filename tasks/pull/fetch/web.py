"""One HTTP answer: redirects, tokens, proxies, certificates, and what an error means.

urllib3 carries the bytes: it reads three times as fast as httpx, and a download may go through a proxy.
Redirects are followed here, because the token must stay at the origin that it was given for, and because
a large file asks the address behind the redirect again for each of its ranges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache, partial
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, MaxRetryError, SSLError

from tasks.errors import PullError, SourceRefusedError
from tasks.pull.fetch.causes import plain
from tasks.pull.fetch.pools import CHECK_TRUST, Pools, refused, trusting
from tasks.pull.store import INTACT

REDIRECTS = 5
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
AGAIN_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE_S = 300.0
LINKED = ("x-linked-", "x-xet-")
PARTIAL = int(HTTPStatus.PARTIAL_CONTENT)
TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (4\d\d [\w ]+)")
DRAIN_BYTES = 1 << 16
"""What is read of the body of a redirect, to keep its connection."""


class AgainError(Exception):
    """Raised when another try may help; its text is one clause. `wait_s` is what the server asked for."""

    def __init__(self, what: str, wait_s: float = 0.0) -> None:
        super().__init__(what, wait_s)
        self.what = what
        self.wait_s = wait_s


class StatusError(Exception):
    """Raised when a server answers with a status that is no content and no reason to try again."""

    def __init__(self, status: int, headers: Mapping[str, str], url: str) -> None:
        super().__init__(status, dict(headers), url)
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.url = url

    @property
    def reason(self) -> str:
        """The status in words: "404 Not Found"."""
        with suppress(ValueError):
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        return str(self.status)


@dataclass(frozen=True, slots=True)
class Wires:
    """How this host reaches others. `proxies` are the variables as they are set, passwords among them."""

    proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ca_file: str | None = None
    connect_s: float = 10.0
    read_s: float = 30.0


class Answer:
    """An answer whose body was not read yet."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def read_some(self, most_bytes: int) -> bytes:
        """Return what one read of the connection gives; b"" at the end of the body.

        Raises:
            AgainError: the connection broke, or was silent for too long.
        """
        try:
            return self._response.read1(most_bytes, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            raise AgainError(f"{host_of(self.url)} broke off ({plain(error)})") from error

    def read_full(self, size_bytes: int) -> bytes:
        """Return `size_bytes`, or fewer at the end of the body.

        Raises:
            AgainError: the connection broke, or was silent for too long.
        """
        try:
            return self._response.read(size_bytes, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            raise AgainError(f"{host_of(self.url)} broke off ({plain(error)})") from error

    def read_all(self, most_bytes: int) -> bytes:
        """Return the whole body of a small answer.

        Raises:
            AgainError: the connection broke, or the body is longer than `most_bytes`.
        """
        parts: list[bytes] = []
        while piece := self.read_some(1 << 16):
            parts.append(piece)
            if sum(map(len, parts)) > most_bytes:
                raise AgainError(f"an answer of more than {most_bytes} bytes")
        return b"".join(parts)

    def drain(self) -> None:
        """Read a body that nobody needs, if it is short, and let go of the connection."""
        left = self._response.length_remaining
        if left is not None and left <= DRAIN_BYTES:
            self._response.drain_conn()
        self.release()

    def release(self) -> None:
        """Keep the connection for the next request where the body was read; close it otherwise."""
        if self._response.length_remaining == 0:
            self._response.release_conn()
        else:
            self._response.close()


class Web:
    """Makes requests. Connections are kept; threads may share it.

    `token` is sent to the origin of `home` and to no other.
    """

    def __init__(self, wires: Wires, *, home: str = "", token: str | None = None) -> None:
        self._wires = wires
        self._home = origin(home) if home else ""
        self._token = token
        self._trust = cache(partial(trusting, wires.ca_file))
        self._pools = Pools(wires.proxies, self._trust)

    def twin(self) -> Web:
        """Return one with connections of its own."""
        twin = copy(self)
        twin._pools = Pools(self._wires.proxies, self._trust)  # noqa: SLF001  # its own kind
        return twin

    def open(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        check: Callable[[Answer], None] = lambda _answer: None,
    ) -> Answer:
        """Ask for `url`, follow redirects, and return the answer with a status of 2xx.

        `check` sees each answer, those that redirect as well, before the next is asked for.

        Raises:
            AgainError: no answer, or one that another try may better.
            StatusError: any other status.
            PullError: a redirect that is not followed, an address or a certificate that is not taken.
        """
        at, linked = url, dict[str, str]()
        for _ in range(REDIRECTS + 1):
            response = self._send(method, at, dict(headers or {}))
            answer = Answer(response, at)
            # What the hub says of a file stands on its redirect, and not on the answer behind it.
            linked |= {name: text for name, text in answer.headers.items() if name.startswith(LINKED)}
            answer.headers |= linked
            try:
                check(answer)
            except BaseException:
                answer.release()
                raise
            if response.status not in REDIRECT_STATUSES:
                return _checked(answer)
            at = _redirected(at, answer)
        raise refused(f"{host_of(url)} redirects in a circle")

    def cut(self) -> None:
        """End what another thread has under way here."""
        self._pools.cut()

    def end(self) -> None:
        """End what another thread has under way here, and ask nothing any more."""
        self._pools.end()

    def close(self) -> None:
        """Close what is kept."""
        self._pools.close()

    def _send(self, method: str, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        if not origin(url):
            raise refused(f"{host_of(url) or url} is not an address that can be asked")
        if self._token and origin(url) == self._home:
            headers["Authorization"] = f"Bearer {self._token}"
        timeout = urllib3.Timeout(connect=self._wires.connect_s, read=self._wires.read_s)
        try:
            return self._pools.of(url).request(
                method,
                url,
                headers={"Accept-Encoding": "identity", "User-Agent": "pmoves", **headers},
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=timeout,
            )
        except (MaxRetryError, SSLError) as error:
            raise (
                _trust(error, url)
                if "certificate" in str(error).lower()
                else AgainError(f"{host_of(url)} does not answer ({plain(error)})")
            ) from error
        except LocationValueError as error:
            raise refused(f"{host_of(url)} is not an address that can be asked") from error
        except (HTTPError, OSError) as error:
            if found := TUNNEL_REFUSED.search(str(error)):
                raise _proxy_refuses(url, found[1]) from error
            raise AgainError(f"{host_of(url)} does not answer ({plain(error)})") from error


def origin(url: str) -> str:
    """Return scheme, host and port of an address; "" where it is none that can be asked."""
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}[parts.scheme]
        port = parts.port or usual
    except (ValueError, KeyError):
        return ""
    return f"{parts.scheme}://{parts.hostname.lower()}:{port}" if parts.hostname else ""


def host_of(url: str) -> str:
    """Return host and port of an address as they are written there."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return url


def pause_s(headers: Mapping[str, str]) -> float:
    """Return how long a server asks to wait: Retry-After, else the reset of RateLimit; 0 for neither.

    A date is counted from the server's own clock, so that a wrong clock here does no harm.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return min(float(text), LONGEST_PAUSE_S)
    with suppress(ValueError, TypeError):
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
        return min(max(0.0, wait.total_seconds()), LONGEST_PAUSE_S)
    if found := re.search(r"\bt=(\d+)", headers.get("ratelimit", "")):
        return min(float(found[1]), LONGEST_PAUSE_S)
    return 0.0


def _checked(answer: Answer) -> Answer:
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    error = StatusError(status, answer.headers, answer.url)
    answer.release()
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        raise _proxy_refuses(answer.url, error.reason)
    if status in AGAIN_STATUSES:
        raise AgainError(f"{host_of(answer.url)} answered {error.reason}", pause_s(answer.headers))
    raise error


def _proxy_refuses(url: str, why: str) -> PullError:
    what = f"the proxy refuses to ask {host_of(url)} ({why})"
    return SourceRefusedError(what, INTACT, "check HTTPS_PROXY, its user and its password")


def _redirected(at: str, answer: Answer) -> str:
    """Return where an answer points to; its connection is kept or closed."""
    answer.drain()
    try:
        target = urljoin(at, answer.headers.get("location", ""))
    except ValueError:
        target = ""
    if not origin(target):
        raise refused(f"{host_of(at)} redirects to something that is no web address")
    if (urlsplit(at).scheme, urlsplit(target).scheme) == ("https", "http"):
        raise refused(f"{host_of(at)} redirects from https to plain http at {host_of(target)}")
    return target


def _trust(error: Exception, url: str) -> PullError:
    found = re.search(r"certificate verify failed: ([^(]+)", str(error))
    why = found[1].strip() if found else "its certificate is not trusted"
    return SourceRefusedError(f"{host_of(url)} cannot be trusted ({why})", INTACT, CHECK_TRUST)
