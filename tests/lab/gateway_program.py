"""What an image of the lab runs as `gateway`: the real wheel, with the manners of TensorZero's own program.

    gateway --config-file GLOB [--log-format pretty|json] [--bind-address IP:PORT]

Taken from gateway/src/main.rs of the release: which flags and variables there are, what it prints when it
cannot start, and that it waits for running requests without a bound. Its `/status` names the config by a hash
of the normalised TOML, as the real one does.
"""

from __future__ import annotations

import argparse
import asyncio
import glob
import hashlib
import json
import os
import signal
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.effects.forwarding.server import Server, listen
from tasks.effects.forwarding.upstream import Upstream
from tasks.errors import PortTakenError
from tasks.route.wheel import native
from tasks.route.wheel.loaded import Loaded
from tasks.route.wheel.serve import Forwarder

BOTH = (
    "You must only specify one of `--bind-address` (CLI), `TENSORZERO_GATEWAY_BIND_ADDRESS` (environment "
    "variable), or `gateway.bind_address` (configuration)."
)
SERVICES = ("gateway", "clickhouse", "postgres", "valkey", "valkey_cache")


class Log:
    """Prints a line as JSON, or in colours for people."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json

    def __call__(self, level: str, message: str) -> None:
        """Print a message."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        line = f"\x1b[2m{at}\x1b[0m {level} \x1b[2mgateway\x1b[0m: {message}\n"
        if self._json:
            told = {"timestamp": at, "level": level, "fields": {"message": message}, "target": "gateway"}
            line = json.dumps(told) + "\n"
        sys.stdout.write(line)
        sys.stdout.flush()


def status_hash(config: dict[str, Any]) -> str:
    """Return a hash of what a config says, however it is written."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def application(loaded: Loaded) -> Starlette:
    """Return the routes that a rollout uses."""

    async def status(_: Request) -> Response:
        told = {"status": "ok", "version": native.version(), "config_hash": loaded.config_hash}
        return JSONResponse(told)

    async def health(_: Request) -> Response:
        return JSONResponse(dict.fromkeys(SERVICES, "ok"))

    return Starlette(
        routes=[
            Route("/status", status),
            Route("/health", health),
            Route("/openai/v1/{path:path}", Forwarder(loaded)),
        ]
    )


def load(pattern: str, log: Log) -> tuple[dict[str, Any], native.Native]:
    """Load the one file that a pattern names."""
    files = sorted(glob.glob(pattern))  # noqa: PTH207  # it is the pattern's own language
    try:
        (path,) = [Path(one) for one in files]
        os.chdir(path.parent)
        gateway = native.load(path)
    except Exception as error:  # whatever it is, it is printed
        log("ERROR", str(error).removeprefix("Internal TensorZero Error: "))
        found = "\n".join(files)
        log(
            "ERROR",
            f"Failed to load config. Config file glob `{pattern}` resolved to the following files:\n{found}",
        )
        raise SystemExit(1) from error
    return tomllib.loads(path.read_text()), gateway


async def serve(given: argparse.Namespace, log: Log) -> None:
    """Serve until SIGTERM, and then until the last request has ended."""
    log("INFO", f"Starting TensorZero Gateway {native.version()} (commit: lab)")
    config, gateway = load(given.config_file, log)
    if given.bind_address and "bind_address" in config.get("gateway", {}):
        log("ERROR", BOTH)
        raise SystemExit(1)
    address = given.bind_address or config.get("gateway", {}).get("bind_address", "0.0.0.0:3000")
    try:
        listener = listen(int(address.rpartition(":")[2]), "gateway")
    except PortTakenError as error:
        log("ERROR", f"Failed to bind to socket address {address}: {error.what}")
        raise SystemExit(1) from error
    upstream = Upstream(urlsplit(gateway.base_url).port or 0, "TensorZero", "the gateway")
    server = Server(application(Loaded(status_hash(config), "", gateway, upstream)))
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, server.stop)
    log("INFO", f"TensorZero Gateway is listening on {address}")
    await server.serve([listener])
    log("INFO", "Server shutdown complete")


def main() -> int:
    """Be the gateway."""
    parser = argparse.ArgumentParser(prog="gateway")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--log-format", choices=("pretty", "json"), default="pretty")
    parser.add_argument("--bind-address", default=os.environ.get("TENSORZERO_GATEWAY_BIND_ADDRESS"))
    given = parser.parse_args()
    os.putenv("RUST_LOG", "")  # the wheel would print beside what is printed here
    asyncio.run(serve(given, Log(as_json=given.log_format == "json")))
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    os._exit(code)
