"""Pulls beside curl, aria2 and the hub's own client, all from one server on loopback, taking turns.

python -m tests.benchmarks.pulls [--quick] [SECTION ..]

Prints tables with the aims beside the figures, asserts nothing. `--quick` is a smoke check: its sizes are
so small that its figures mean little.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence

from tests.benchmarks import pull_kept, pull_speed, pull_trouble
from tests.benchmarks.pull_measure import machine
from tests.benchmarks.pull_scale import FULL, QUICK, Scale

SECTIONS: dict[str, Callable[[Scale], str]] = {
    "memory": pull_speed.in_memory,
    "disk": pull_speed.on_disk,
    "rated": pull_speed.slow_connections,
    "many": pull_speed.many_files,
    "killed": pull_trouble.killed,
    "bundle": pull_trouble.bundle,
    "kept": pull_kept.kept,
    "verify": pull_kept.verified,
}


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pulls")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: a smoke check")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    options = parser.parse_args(arguments)
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    scale = QUICK if options.quick else FULL
    print(f"PULLS, medians of {scale.rounds}; Python {platform.python_version()}; {pull_speed.peers()}")
    for name in options.sections or SECTIONS:
        begun, before = time.monotonic(), machine()
        print(f"\n{SECTIONS[name](scale)}")
        print(f"({before} before, {machine()} after; {time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
