"""What the disk of an export can hold, and what its refusals mean."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import NoRoomError, RefusedError, StateFolderError
from tasks.pull.claim import FULL, free_bytes
from tasks.wording import gib

MOUNTS = Path("/proc/self/mountinfo")
FAT = frozenset({"vfat", "msdos"})
NO_COLONS = FAT | {"exfat", "ntfs", "ntfs3"}
FAT_LARGEST_BYTES = (1 << 32) - 1
SLACK_BYTES = 1 << 20
"""For folders, manifests and the index."""


def filesystem(mountinfo: str, device: int) -> str:
    """Return the type of the file system with this device number (`st_dev`), or "" where none is listed.

    Args:
        mountinfo: What /proc/self/mountinfo says: "36 35 8:17 / /media/usb rw - vfat /dev/sdb1 rw".
        device: As `os.stat` gives it.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return (after.split() or [""])[0]
    return ""


def filesystem_of(folder: Path) -> str:
    """Return the type of the file system that holds `folder`, or "" where that cannot be known."""
    try:
        return filesystem(MOUNTS.read_text(errors="replace"), folder.stat().st_dev)
    except OSError:
        return ""


def require_shape(target: Path, kind: str, sizes_bytes: dict[str, int], manifests: Sequence[str]) -> None:
    """Refuse what a kind of file system cannot hold, whatever room it has.

    Args:
        target: The folder of the export.
        kind: As `filesystem_of` returns it.
        sizes_bytes: What is to be written, by how a person knows it.
        manifests: The paths of manifests below the export.

    Raises:
        RefusedError: names the first file or manifest.
    """
    large = next((name for name, size in sizes_bytes.items() if size > FAT_LARGEST_BYTES), "")
    if kind in FAT and large:
        raise too_large(target, large, sizes_bytes[large])
    odd = next((name for name in manifests if ":" in name), "")
    if kind in NO_COLONS and odd:
        raise RefusedError(
            f"the disk of {target} is {kind}, which takes no colon in a name, and {odd} has one",
            "nothing was written",
            "export to a disk with another file system, or leave that model out",
        )


def too_large(target: Path, name: str, size_bytes: int) -> RefusedError:
    """Return the error of a file that a FAT disk cannot hold."""
    return RefusedError(
        f"{name} has {gib(size_bytes)}, and the disk of {target} holds no file over 4.0 GiB",
        "what was copied whole before stays there",
        "format the disk as exFAT or ext4, or take another one",
    )


def require_room(target: Path, sizes_bytes: Sequence[int]) -> None:
    """Refuse an export that does not fit, before byte one.

    Raises:
        NoRoomError: with what is needed and what is free.
    """
    if not sizes_bytes:
        return
    cluster = max(1, os.statvfs(target).f_frsize)
    needed = sum(-(-size // cluster) * cluster for size in sizes_bytes) + SLACK_BYTES
    if free_bytes(target) < needed:
        raise _no_room(target, needed, "nothing was written")


def _no_room(target: Path, needed_bytes: int, intact: str) -> NoRoomError:
    free = gib(free_bytes(target))
    return NoRoomError(
        f"{gib(needed_bytes)} are to be written to {target}, which has {free} free",
        intact,
        "make room there, or take a larger disk",
    )


@contextmanager
def writing(target: Path, needed_bytes: int) -> Iterator[None]:
    """Turn what the file system of a target says into an error that a person understands.

    Raises:
        NoRoomError: it filled up meanwhile.
        StateFolderError: it cannot be written, or was pulled out.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise _no_room(target, needed_bytes, "what was copied whole stays there") from error
        where = error.filename if error.errno in {errno.EACCES, errno.EPERM, errno.ENOTDIR} else target
        raise StateFolderError(
            f"{where} cannot be written ({error.strerror or error})",
            "what was copied whole stays there",
            "see that the disk is mounted and that this user may write there, then run it again",
        ) from error
