"""The life of the process: take the port and the keys, load, serve, end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tasks.effects.forwarding.forward import forward
from tasks.effects.forwarding.server import Server, listen
from tasks.route.wheel import native
from tasks.route.wheel.environment import take
from tasks.route.wheel.loaded import Loaded, load

DATABASE = "TENSORZERO_CLICKHOUSE_URL"
"""The one variable of the environment file that the wheel wants as an argument."""


class Forwarder:
    """The ASGI application behind `/openai/v1/`."""

    def __init__(self, loaded: Loaded) -> None:
        self._upstream = loaded.upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from TensorZero."""
        await forward(self._upstream, scope, receive, send)


def application(loaded: Loaded, config: Path) -> Starlette:
    """Return the routes of the gateway."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def status(_: Request) -> Response:
        return JSONResponse(describe(loaded, config))

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/status", status),
            Route("/openai/v1/{path:path}", Forwarder(loaded)),
        ]
    )


def describe(loaded: Loaded, config: Path) -> dict[str, object]:
    """Return what `/status` says. `pid` lets a reader tell this process from another on the same port."""
    return {
        "status": "ok",
        "version": native.version(),
        "pid": os.getpid(),
        "config": str(config),
        "config_hash": loaded.config_hash,
        "port": loaded.upstream.port,
        "loaded_at": loaded.loaded_at,
        "in_flight": loaded.upstream.in_flight,
    }


async def serve(config: Path, environment: Path, port: int, *, finish_s: int) -> None:
    """Serve until SIGTERM or SIGINT; requests that still run `finish_s` later, streams too, are cut off.

    Raises:
        PortTakenError: the port is in use.
        RouteError: the config does not load, or the environment cannot be read.
    """
    listener = listen(port, "the gateway")
    try:
        database = take(environment).get(DATABASE)
        os.chdir(config.parent)  # paths in a config are relative to its own folder
        loaded = await load(config, lambda path: native.load(path, database))
    except BaseException:
        listener.close()
        raise
    server = Server(application(loaded, config), finish_s=finish_s)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stop)
    sys.stderr.write(f"{loaded.loaded_at} config {loaded.config_hash[:8]} is served on port {port}\n")
    sys.stderr.flush()
    await server.serve([listener])
    await loaded.close()
