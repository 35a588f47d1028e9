"""The process: takes one address, serves until SIGTERM or Ctrl-C, then ends what is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tasks.errors import PortTakenError, UsageError
from tasks.pull.seed.app import build

FINISH_S = 5
HIGHEST_PORT = 65535
KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection, so that they close it and never write into one that closes."""
MOST_CONNECTIONS = 256
"""Each takes two files of this process and up to 3 MiB; more are answered 503."""
STALLED_S = 300
"""A client that takes nothing for so long, or is no longer there, is cut off by the kernel."""


class Server(uvicorn.Server):
    """Uvicorn without its own signal handling, which would end this process with the signal's code."""

    stop: threading.Event | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Look at the stop event, ten times a second."""
        return (self.stop is not None and self.stop.is_set()) or await super().on_tick(counter)


def serve(
    cache: Path,
    host: str,
    port: int,
    *,
    token: str,
    ollama_models: Path | None = None,
    log: Callable[[str], None] | None = None,
) -> None:
    """Give what is verified in `cache` to whoever says `token`, until SIGTERM or Ctrl-C.

    Args:
        cache: The weight store.
        host: An address of this host, in numbers. "0.0.0.0" and "::" are all of them; say so knowingly.
        port: 0 takes any free one.
        token: See `build`.
        ollama_models: See `build`.
        log: Given a line when the server is up, and one for each request that has ended; must not block.

    Raises:
        UsageError: the token or the address cannot be used.
        PortTakenError: somebody else has the port, or this user may not have it.
    """
    say = log or (lambda _line: None)
    app = build(cache, token=token, ollama_models=ollama_models, on_answer=lambda one: say(str(one)))
    with listen(host, port) as listener:
        run(app, listener, on_ready=lambda: say(f"serving {cache} at {base_url(listener)}"))
        say("stopped")


def run(
    app: ASGIApp,
    listener: socket.socket,
    *,
    stop: threading.Event | None = None,
    on_ready: Callable[[], None] | None = None,
    finish_s: int = FINISH_S,
) -> None:
    """Serve until a signal (in the main thread) or `stop`; what still runs `finish_s` s later is cut off.

    `on_ready` is called once signals are heard; connections wait from then on, and are taken soon after.
    """
    asyncio.run(_serve(app, listener, stop, on_ready or (lambda: None), finish_s))


def listen(host: str, port: int) -> socket.socket:
    """Take an address. See `serve` for what it raises."""
    if not 0 <= port <= HIGHEST_PORT:  # getaddrinfo would take it modulo 65536
        raise _unusable(f"{port} is not a port")
    try:
        info = socket.getaddrinfo(host or "-", port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        family, _, _, _, address = info[0]
    except (OSError, UnicodeError):
        raise _unusable(f"{host!r} is not an address that the seed can take") from None
    # The protocol is named, because asyncio turns Nagle's algorithm off only where it is: 2 ms, not 44.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_S * 1000)
    try:
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _unusable(f"{host} is not an address of this host") from None
        raise PortTakenError(
            f"the seed cannot listen on {host}:{port} ({error.strerror})",
            "nothing was served",
            "end the program that holds the port, or choose another port",
        ) from error
    return listener


def base_url(listener: socket.socket) -> str:
    """Return the address of a listener as clients write it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unusable(what: str) -> UsageError:
    return UsageError(what, "nothing was served", "give an address of this host in numbers, and a free port")


async def _serve(
    app: ASGIApp,
    listener: socket.socket,
    stop: threading.Event | None,
    on_ready: Callable[[], None],
    finish_s: int,
) -> None:
    # What uvicorn says of a cut stream is a traceback; the log of answers says it in words.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    server = Server(_settings(app, finish_s))
    server.stop = stop
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, setattr, server, "should_exit", True)  # noqa: FBT003  # not ours
    on_ready()
    await server.serve([listener])


def _settings(app: ASGIApp, finish_s: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=False,
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        log_config=None,
        # Behind no proxy: whoever says X-Forwarded-For would choose the address that the log shows.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=finish_s,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
    )
