"""`python -m tasks.route.gateway --config <file> --port <port>`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from tasks.errors import ProvisionError


def main() -> int:
    """Run the gateway and return its exit code."""
    # A hang-up before the config is read asks for what happens anyway; by default it would end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m tasks.route.gateway")
    parser.add_argument("--config", type=Path, required=True, help="TensorZero config to serve")
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1 to serve it on")
    parser.add_argument("--finish-s", type=int, default=25, help="seconds for running requests after SIGTERM")
    arguments = parser.parse_args()
    from tasks.route.gateway.serve import serve  # noqa: PLC0415  # slow, and a hang-up may come meanwhile

    try:
        asyncio.run(serve(arguments.config.absolute(), arguments.port, finish_s=arguments.finish_s))
    except ProvisionError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: the native library waits for streams that its upstreams never end, for minutes.
    os._exit(code)
