"""`python -m tasks.route.wheel --config FILE --environment FILE --port PORT`."""

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
    # TensorZero's own server ends at a hang-up, which elsewhere asks for a new reading of the config.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m tasks.route.wheel")
    parser.add_argument("--config", type=Path, required=True, help="TensorZero config to serve")
    parser.add_argument(
        "--environment", type=Path, required=True, help='file of NAME="value" lines: the keys'
    )
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1 to serve it on")
    parser.add_argument("--finish-s", type=int, default=25, help="seconds for running requests after SIGTERM")
    given = parser.parse_args()
    from tasks.route.wheel.serve import serve  # noqa: PLC0415  # slow, and a hang-up may come meanwhile

    try:
        asyncio.run(
            serve(given.config.absolute(), given.environment.absolute(), given.port, finish_s=given.finish_s)
        )
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
