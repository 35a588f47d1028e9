"""The disk behind a folder: its mount, its file system, and the class of its speed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import Disk, DiskSpeed
from tasks.detect.root import Root

NETWORK = {"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "fuse.sshfs", "glusterfs", "lustre"}
VIRTUAL_MODELS = ("virtual", "qemu", "vbox", "vmware", "amazon elastic", "persistentdisk")
VIRTUAL_NAMES = ("vd", "xvd", "loop", "nbd", "rbd")
DEEPEST = 4
"""A volume on an encrypted device on a raid of disks: how far down to look for the disk itself."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: where, of which type, from what."""

    point: str = "/"
    filesystem: str = "unknown"
    source: str = ""


def disk(root: Root, purpose: str, path: Path) -> Disk:
    """Return the file system that holds `path`, or its nearest parent that exists."""
    there = next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))
    usage = shutil.disk_usage(there)
    mount = parse_mount(root.text("proc/self/mountinfo"), there.resolve() if root.here else path)
    return Disk(
        purpose, str(path), mount.point, mount.filesystem, usage.total, usage.free, speed(root, mount)
    )


def parse_mount(mountinfo: str, path: Path) -> Mount:
    """Return the mount that holds `path`."""
    best = Mount()
    for line in mountinfo.splitlines():
        fields = line.split()
        if "-" not in fields or len(fields) < fields.index("-") + 3:
            continue
        point = fields[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(best.point):
            after = fields.index("-") + 1
            best = Mount(point, fields[after], fields[after + 1])
    return best


def speed(root: Root, mount: Mount) -> DiskSpeed:
    """Return the class of speed, from the kernel's own description of the device."""
    if mount.filesystem in NETWORK:
        return "network"
    if mount.filesystem in {"tmpfs", "ramfs"}:
        return "memory"
    if not mount.source.startswith("/dev/"):
        return "unknown"
    return _block_speed(root, _block(root, mount.source.removeprefix("/dev/")), DEEPEST)


def _block(root: Root, name: str) -> str:
    """Return the block device that a partition or a mapped volume belongs to."""
    devices = root.names("sys/block", note=False)
    if name.startswith("mapper/"):
        mapped = name.removeprefix("mapper/")
        dm = [one for one in devices if one.startswith("dm-")]
        return next((one for one in dm if root.value(f"sys/block/{one}/dm/name") == mapped), "")
    return max((one for one in devices if name.startswith(one)), key=len, default="")


def _block_speed(root: Root, name: str, depth: int) -> DiskSpeed:
    if not name or not depth:
        return "unknown"
    folder = f"sys/block/{name}"
    below = root.names(f"{folder}/slaves")
    if below:
        found = {_block_speed(root, _block(root, one), depth - 1) for one in below}
        return found.pop() if len(found) == 1 else "unknown"
    rotational = root.value(f"{folder}/queue/rotational")
    model = f"{root.value(f'{folder}/device/vendor')} {root.value(f'{folder}/device/model')}".lower()
    # A virtual disk's "rotational" is whatever its host set; it says nothing of the disk below.
    if name.startswith(VIRTUAL_NAMES) or any(part in model for part in VIRTUAL_MODELS):
        return "virtual"
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith("mmcblk"):
        return "sd"
    return {"1": "rotational", "0": "ssd"}.get(rotational, "unknown")  # type: ignore[return-value]
