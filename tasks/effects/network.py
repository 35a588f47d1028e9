"""Whether a web address answers. Proxy settings of the environment hold, as for every download."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request

from tasks.contracts import Reach


def reach(name: str, url: str, timeout_s: float) -> Reach:
    """Ask `url` for its headers; any HTTP answer counts as an answer."""
    if not url.startswith(("http://", "https://")):
        return Reach(name, url, answers=False, detail="the address is not http:// or https://")
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  # the scheme is checked above
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
            return Reach(name, url, answers=True, detail=f"HTTP {reply.status}")
    except urllib.error.HTTPError as error:
        error.close()
        return Reach(name, url, answers=True, detail=f"HTTP {error.code}")
    except (OSError, ValueError) as error:
        return Reach(name, url, answers=False, detail=_plain(error, timeout_s))


def _plain(error: Exception, timeout_s: float) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(cause, socket.gaierror):
        return "its name does not resolve"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(cause, ssl.SSLError):
        return f"TLS fails: {cause.reason}"
    return str(cause) or type(cause).__name__


def listener(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody already listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
