"""How large the benchmark of pulls is: in full, or as a smoke check."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.pull_measure import GIB, MIB

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes in bytes, rates in bytes a second. `slow_rounds` are for clients of one slow connection."""

    rounds: int
    disk_rounds: int
    one_bytes: int
    rated_bytes: int
    rate: int
    many: int
    killed_bytes: int
    bundle: tuple[int, ...]
    link: int
    kept: tuple[tuple[int, int], ...]
    verify_bytes: int
    slow_rounds: int = 1


FULL = Scale(
    rounds=3,
    disk_rounds=3,
    one_bytes=2 * GIB,
    rated_bytes=GIB,
    rate=25 * MB,
    many=500,
    killed_bytes=512 * MIB,
    bundle=(400 * MB, 200 * MB, 100 * MB, 60 * MB, 30 * MB, 10 * MB),
    link=100 * MB,
    kept=((25, 2_000 * MB), (1_000, 50 * MB)),
    verify_bytes=4 * GIB,
)
QUICK = Scale(
    rounds=1,
    disk_rounds=1,
    one_bytes=64 * MIB,
    rated_bytes=32 * MIB,
    rate=25 * MB,
    many=40,
    killed_bytes=32 * MIB,
    bundle=(20 * MB, 10 * MB, MB),
    link=100 * MB,
    kept=((25, 2_000 * MB),),
    verify_bytes=64 * MIB,
)
