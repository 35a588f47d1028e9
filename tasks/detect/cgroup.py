"""What control groups allow this program: memory and processor time, in version 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.detect.root import Root

UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as the largest number of pages that fits."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The narrowest limits on the way from this program's group up to the root; None is no limit."""

    memory_bytes: int | None
    memory_left_bytes: int | None
    cores: float | None


def allowed(root: Root) -> Allowed:
    """Return the limits that hold for this program."""
    limits, left, cores = [], [], []
    for folder in _folders(root, "memory"):
        limit = _limit(root, folder)
        if limit is not None:
            limits.append(limit)
            left.append(limit - _held(root, folder))
    for folder in _folders(root, "cpu"):
        quota = _quota(root, folder)
        if quota is not None:
            cores.append(quota)
    return Allowed(min(limits, default=None), min(left, default=None), min(cores, default=None))


def _folders(root: Root, controller: str) -> list[str]:
    """List the group's folders, its own first.

    A container without a namespace of its own reads a path of the host's, but has its group mounted at
    the top: paths that are not there are harmless, and the top is always asked.
    """
    folders = []
    for line in root.text("proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base = "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = f"sys/fs/cgroup/{controller}"
        else:
            continue
        own = PurePosixPath(path.strip())
        folders += [f"{base}{str(one).rstrip('/')}" for one in (own, *own.parents)]
    return folders


def _limit(root: Root, folder: str) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = root.number(f"{folder}/{name}")
        if limit is not None and limit < UNLIMITED_BYTES:
            return limit
    return None


def _held(root: Root, folder: str) -> int:
    """Return what the group holds, without the file cache that the kernel gives back under pressure."""
    names = ("memory.current", "memory.usage_in_bytes")
    held = next((used for name in names if (used := root.number(f"{folder}/{name}")) is not None), 0)
    cache = 0
    for line in root.text(f"{folder}/memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key in {"inactive_file", "total_inactive_file"} and value.isdecimal():
            cache = max(cache, int(value))
    return max(0, held - cache)


def _quota(root: Root, folder: str) -> float | None:
    quota, _, period = root.value(f"{folder}/cpu.max").partition(" ")
    if not quota:
        quota, period = (root.value(f"{folder}/cpu.cfs_{part}_us") for part in ("quota", "period"))
    if quota.isdecimal() and period.isdecimal() and int(period):
        return int(quota) / int(period)
    return None
