"""`python -m tasks.effects.front --folder <folder>`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from tasks.errors import ProvisionError


def main() -> int:
    """Run the front and return its exit code."""
    # A hang-up before the table is read asks for what happens anyway; by default it would end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="python -m tasks.effects.front")
    parser.add_argument("--folder", type=Path, required=True, help="where table.json lies")
    parser.add_argument("--finish-s", type=int, default=25, help="seconds for running requests after SIGTERM")
    arguments = parser.parse_args()
    from tasks.effects.front.app import serve  # noqa: PLC0415  # slow, and a hang-up may come meanwhile

    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        asyncio.run(serve(folder, finish_s=arguments.finish_s))
    except ProvisionError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
