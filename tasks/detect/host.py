"""What the kernel and the file system say of this host, read below a root that can be moved."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from tasks.contracts import Cpu, Disk, Memory, System, Unknown

FLAGS = ("avx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "f16c", "fma", "asimd", "sve")
"""The flags that change which build of a runtime works, or how fast it is."""

ARM_VENDORS = {"0x41": "ARM", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple", "0xc0": "Ampere"}
"""CPU implementer codes, from Arm's MIDR_EL1 description."""


def system(root: Path, hostname: str) -> System:
    """Return the operating system, from os-release and uname."""
    return System(
        hostname=hostname,
        os=_os_name(root),
        kernel=platform.release(),
        architecture=platform.machine(),
        python=platform.python_version(),
    )


def _os_name(root: Path) -> str | Unknown:
    for path in (root / "etc/os-release", root / "usr/lib/os-release"):
        for line in _read(path).splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return value.strip().strip('"')
    return Unknown("no os-release names it")


def cpu(root: Path) -> Cpu:
    """Return the processor, from /proc/cpuinfo."""
    return parse_cpu(_read(root / "proc/cpuinfo"), os.cpu_count() or 1)


def parse_cpu(cpuinfo: str, counted: int) -> Cpu:
    """Parse x86 or Arm `cpuinfo` text; `counted` is used when it lists no processor."""
    rows = [line.partition(":") for line in cpuinfo.splitlines() if ":" in line]
    values = [(key.strip(), value.strip()) for key, _, value in rows]
    first = dict(reversed(values))
    cores = _cores(values)
    flags = set((first.get("flags") or first.get("Features") or "").split())
    implementer = first.get("CPU implementer", "")
    return Cpu(
        vendor=first.get("vendor_id") or ARM_VENDORS.get(implementer) or Unknown("cpuinfo names no vendor"),
        model=first.get("model name") or Unknown("cpuinfo names no model"),
        logical_cores=sum(key == "processor" for key, _ in values) or counted,
        physical_cores=cores or Unknown("cpuinfo lists no core ids"),
        flags=tuple(flag for flag in FLAGS if flag in flags),
    )


def _cores(values: list[tuple[str, str]]) -> int:
    """Count distinct pairs of package and core."""
    pairs, package = set(), "0"
    for key, value in values:
        if key == "physical id":
            package = value
        elif key == "core id":
            pairs.add((package, value))
    return len(pairs)


def memory(root: Path) -> Memory:
    """Return main memory, from /proc/meminfo."""
    return parse_memory(_read(root / "proc/meminfo"))


def parse_memory(meminfo: str) -> Memory:
    """Parse `meminfo` text; its kB are 1024 bytes."""
    values = {}
    for line in meminfo.splitlines():
        key, _, rest = line.partition(":")
        digits = rest.split()
        if digits and digits[0].isdecimal():
            values[key] = int(digits[0]) * 1024
    missing = "meminfo has no line {}"
    return Memory(
        total_bytes=values.get("MemTotal") or Unknown(missing.format("MemTotal")),
        available_bytes=values.get("MemAvailable") or Unknown(missing.format("MemAvailable")),
    )


def disk(root: Path, purpose: str, path: Path) -> Disk:
    """Return the file system that holds `path`, or its nearest parent that exists."""
    there = next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))
    usage = shutil.disk_usage(there)
    mount, filesystem = parse_mount(_read(root / "proc/self/mountinfo"), there.resolve())
    return Disk(purpose, str(path), mount, filesystem, usage.total, usage.free)


def parse_mount(mountinfo: str, path: Path) -> tuple[str, str]:
    """Return mount point and type of the file system that holds `path`."""
    best = ("/", "unknown")
    for line in mountinfo.splitlines():
        fields = line.split()
        if "-" not in fields:
            continue
        mount = fields[4].replace("\\040", " ")
        if path.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, fields[fields.index("-") + 1])
    return best


def board(root: Path) -> str | Unknown:
    """Return the board of a device-tree host; a Tegra starts with "jetson"."""
    model = _read(root / "proc/device-tree/model").strip("\0\n ")
    if not model:
        return Unknown("there is no device tree, so this is not a Jetson")
    compatible = _read(root / "proc/device-tree/compatible")
    return f"jetson ({model})" if "nvidia,tegra" in compatible else model


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
