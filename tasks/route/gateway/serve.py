"""The life of the gateway process: take the port, load, serve, obey signals, end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tasks.effects.forwarding.server import Server, listen
from tasks.errors import RouteError
from tasks.route.gateway import native
from tasks.route.gateway.forward import Forwarder
from tasks.route.gateway.generations import Switch


def application(switch: Switch, config: Path) -> Starlette:
    """Return the routes of the gateway."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok") if switch.current else PlainTextResponse("nothing is loaded", 503)

    async def status(_: Request) -> Response:
        return JSONResponse(describe(switch, config))

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/status", status),
            Route("/openai/v1/{path:path}", Forwarder(switch)),
        ]
    )


def describe(switch: Switch, config: Path) -> dict[str, object]:
    """Return what `/status` says. `pid` lets a reader tell this process from another on the same port."""
    current = switch.current
    return {
        "status": "ok" if current else "nothing is loaded",
        "version": native.version(),
        "pid": os.getpid(),
        "config": str(config),
        "config_hash": current.config_hash if current else "",
        "generation": current.number if current else 0,
        "loaded_at": current.loaded_at if current else "",
        "in_flight": switch.in_flight,
        "retiring": switch.retiring,
        "last_reload": asdict(switch.last_reload) if switch.last_reload else None,
    }


async def serve(config: Path, port: int, *, finish_s: int) -> None:
    """Serve until SIGTERM or SIGINT; requests that still run `finish_s` later are cut off.

    Raises:
        PortTakenError: the port is in use.
        RouteError: the config does not load.
    """
    listener = listen(port, "the gateway")
    os.chdir(config.parent)
    switch = Switch(config)
    wanted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    first = await switch.reload()
    if not first.ok:
        listener.close()
        raise RouteError(
            f"TensorZero rejects the config: {first.error}", "nothing was started", f"correct {config}"
        )
    server = Server(application(switch, config), finish_s=finish_s)
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stop)
    reloading = asyncio.create_task(_reload_when(wanted, switch))
    await server.serve([listener])
    reloading.cancel()
    await switch.close()


async def _reload_when(wanted: asyncio.Event, switch: Switch) -> None:
    while True:
        await wanted.wait()
        # Cleared before the file is read: a signal that comes later asks for another reading.
        wanted.clear()
        done = await switch.reload()
        outcome = f"in use: {done.config_hash}" if done.ok else f"rejected, the old one stays: {done.error}"
        sys.stderr.write(f"{done.at} config {outcome}\n")
        sys.stderr.flush()
