"""`make soak`: pull under trouble until the time is up or something does not hold.

python -m tests.soak [--minutes 10] [--seed N] [--round K]

Ends with 1, the seed and the folder of the round when something does not hold.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from random import Random

from tests.soak.rounds import Round, Tally


def run(*, seed: int, seconds: float, only: int | None = None, most: int | None = None) -> Tally:
    """Play rounds until the time is up, `most` at most, or one alone; the first always ends.

    Raises:
        Exception: something does not hold; a note has the seed, the round and its folder, which stays.
    """
    tally, end = Tally(), time.monotonic() + seconds
    for number in count(1) if only is None else [only]:
        folder = Path(tempfile.mkdtemp(prefix="pmoves-soak-"))
        try:
            Round(folder, Random(f"{seed}/{number}"), tally).play()  # noqa: S311  # it must come again
        except Exception as error:
            error.add_note(f"seed {seed}, round {number}, see {folder}")
            raise
        shutil.rmtree(folder)
        if time.monotonic() >= end or number == most:
            break
    return tally


def report(tally: Tally) -> str:
    """Say what was done."""
    ends = ", ".join(f"{number} {end}" for end, number in tally.ends.most_common())
    faults = ", ".join(f"{number} {kind}" for kind, number in tally.faults.most_common())
    held, sent = f"{tally.held_bytes / 1e9:.2f} GB", f"{tally.sent_bytes / 1e9:.2f} GB"
    return (
        f"{tally.rounds} rounds, {held} checked after all, {sent} sent under trouble, "
        f"{tally.files_seen} files watched appear\n"
        f"pulls: {ends}; the slowest stop took {tally.stop_s:.1f} s\n"
        f"trouble: {faults}\n"
    )


def main() -> int:
    """Play, and say what was done."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--round", type=int, help="play this one alone")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}\n")
    sys.stdout.flush()
    try:
        tally = run(seed=options.seed, seconds=60 * options.minutes, only=options.round)
    except Exception as error:  # noqa: BLE001  # whatever it is, the seed is told with it
        notes = "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
        sys.stderr.write(f"{type(error).__name__}: {error}\n{notes}")
        return 1
    sys.stdout.write(report(tally))
    return 0


if __name__ == "__main__":
    sys.exit(main())
