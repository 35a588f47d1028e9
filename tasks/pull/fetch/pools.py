"""The connections of one thread: through which proxy they go, whom they trust, and how others end them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from tasks.errors import SourceRefusedError
from tasks.pull.store import INTACT

CHECK_TRUST = "check the clock of this host and its certificates (SSL_CERT_FILE), then run it again"


class Pools:
    """Connections, kept by proxy, host and port. One thread asks; `cut` and `end` may come from another."""

    def __init__(self, proxies: tuple[tuple[str, str], ...], trust: Callable[[], ssl.SSLContext]) -> None:
        self._proxies = proxies
        self._trust = trust
        self._by_proxy: dict[str, urllib3.PoolManager] = {}
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()
        self._ended = False

    def of(self, url: str) -> urllib3.PoolManager:
        """Return what asks for `url`.

        Raises:
            SourceRefusedError: the proxy or the certificates cannot be used.
        """
        proxy = proxy_of(url, self._proxies)
        if proxy not in self._by_proxy:
            self._by_proxy[proxy] = self._made(proxy)
        return self._by_proxy[proxy]

    def cut(self) -> None:
        """End what is under way; whoever reads finds the connection broken."""
        with self._lock:
            sockets = tuple(self._sockets)
        for one in sockets:
            with suppress(OSError):
                # Not the method of a TLS socket, which would go on as if the bytes were not encrypted.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def end(self) -> None:
        """End what is under way, and make no more connections."""
        self._ended = True
        self.cut()

    def close(self) -> None:
        """Close what is kept."""
        for pool in tuple(self._by_proxy.values()):
            pool.clear()

    def note(self, made: socket.socket) -> None:
        """Keep in mind a socket that was connected."""
        with self._lock:
            self._sockets.add(made)
        if self._ended:
            raise ConnectionAbortedError("ended")

    def _made(self, proxy: str) -> urllib3.PoolManager:
        if not proxy:
            return self._kept(urllib3.PoolManager(maxsize=1, ssl_context=self._trust()))
        parts = urlsplit(proxy)
        if parts.scheme not in {"http", "https"}:
            raise refused(f"the proxy {parts.scheme}://{parts.hostname} is of a kind that is not supported")
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        extra = urllib3.make_headers(proxy_basic_auth=login) if login else None
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return self._kept(
            urllib3.ProxyManager(bare, proxy_headers=extra, maxsize=1, ssl_context=self._trust())
        )

    def _kept(self, manager: urllib3.PoolManager) -> urllib3.PoolManager:
        """Let `manager` tell of each socket that it connects."""
        note = self.note

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                note(self.sock)

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                note(self.sock)

        plain = type("PlainPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": Plain})
        encrypted = type("EncryptedPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": Encrypted})
        manager.pool_classes_by_scheme = {"http": plain, "https": encrypted}
        return manager


def proxy_of(url: str, variables: tuple[tuple[str, str], ...]) -> str:
    """Return the proxy that the variables of the environment name for `url`, or ""."""
    known = {name.lower().removesuffix("_proxy"): value for name, value in variables if value}
    parts = urlsplit(url)
    if proxy_bypass_environment(parts.netloc, known):
        return ""
    found = known.get(parts.scheme) or known.get("all") or ""
    return found if "://" in found or not found else f"http://{found}"


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """Return what checks certificates: by one file, by what the system trusts, or by what certifi brings.

    Raises:
        SourceRefusedError: the file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SourceRefusedError(
            f"the certificates in {ca_file} cannot be read ({error.strerror or error})", INTACT, CHECK_TRUST
        ) from error
    if not ca_file and not ssl.get_default_verify_paths().cafile and not context.get_ca_certs():
        import certifi  # noqa: PLC0415  # only where the system has no certificates of its own

        context.load_verify_locations(certifi.where())
    return context


def refused(what: str) -> SourceRefusedError:
    """Return the error of an address that is not asked."""
    return SourceRefusedError(what, INTACT, "check the address of the source")
