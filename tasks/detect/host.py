"""What the kernel says of this host: system, processor and memory."""

from __future__ import annotations

import os
import platform
import re

from tasks.contracts import Cpu, Layer, Memory, System, Unknown
from tasks.detect import cgroup
from tasks.detect.root import Root

FLAGS = ("avx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "f16c", "fma", "asimd", "sve")
"""The flags that change which build of a runtime works, or how fast it is."""

ARM_VENDORS = {"0x41": "ARM", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple", "0xc0": "Ampere"}
"""CPU implementer codes, from Arm's MIDR_EL1 description."""

HYPERVISORS = re.compile(
    r"qemu|kvm|vmware|virtualbox|xen|amazon ec2|google compute|virtual machine|bhyve", re.IGNORECASE
)
CONTAINERS = re.compile(r"/(docker|kubepods|lxc|libpod|containerd|garden)\b")


def system(root: Root, hostname: str) -> System:
    """Return the operating system, from os-release and the kernel's own names."""
    return System(
        hostname=hostname,
        os=_os_name(root),
        kernel=root.value("proc/sys/kernel/osrelease") or platform.release(),
        architecture=root.value("proc/sys/kernel/arch") or platform.machine(),
        python=platform.python_version(),
        layers=layers(root),
    )


def _os_name(root: Root) -> str | Unknown:
    for name in ("etc/os-release", "usr/lib/os-release"):
        for line in root.text(name).splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return value.strip().strip('"')
    return Unknown("no os-release names it")


def layers(root: Root) -> tuple[Layer, ...]:
    """Return what separates this system from the metal, outermost first."""
    found: list[Layer] = []
    kernel = root.value("proc/sys/kernel/osrelease").lower()
    if "microsoft" in kernel or "wsl" in kernel or root.exists("usr/lib/wsl/lib"):
        found.append("wsl2")
    elif _virtual(root):
        found.append("vm")
    marks = (root.exists(".dockerenv"), root.exists("run/.containerenv"))
    if any(marks) or CONTAINERS.search(root.text("proc/1/cgroup")):
        found.append("container")
    return tuple(found)


def _virtual(root: Root) -> bool:
    for line in root.text("proc/cpuinfo").splitlines():
        if line.startswith("flags"):
            if "hypervisor" in line.split():
                return True
            break
    board = " ".join(root.value(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return bool(HYPERVISORS.search(board)) or root.exists("proc/device-tree/hypervisor")


def cpu(root: Root) -> Cpu:
    """Return the processor, from /proc/cpuinfo, its nodes and its control group."""
    nodes = len(root.names("sys/devices/system/node", "node[0-9]*"))
    counted = (os.cpu_count() or 1) if root.here else 1
    return parse_cpu(
        root.text("proc/cpuinfo"), counted, numa_nodes=nodes or 1, quota_cores=cgroup.allowed(root).cores
    )


def parse_cpu(cpuinfo: str, counted: int, *, numa_nodes: int = 1, quota_cores: float | None = None) -> Cpu:
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
        numa_nodes=numa_nodes,
        quota_cores=quota_cores,
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


def memory(root: Root) -> Memory:
    """Return main memory, from /proc/meminfo and the control group."""
    limits = cgroup.allowed(root)
    return parse_memory(
        root.text("proc/meminfo"), limit_bytes=limits.memory_bytes, left_bytes=limits.memory_left_bytes
    )


def parse_memory(meminfo: str, *, limit_bytes: int | None = None, left_bytes: int | None = None) -> Memory:
    """Parse `meminfo` text, whose kB are 1024 bytes; a control group's limit holds where it is smaller."""
    values = {}
    for line in meminfo.splitlines():
        key, _, rest = line.partition(":")
        digits = rest.split()
        if digits and digits[0].isdecimal():
            values[key] = int(digits[0]) * 1024
    total, available = values.get("MemTotal"), values.get("MemAvailable")
    if total is not None and limit_bytes is not None and limit_bytes >= total:
        limit_bytes = None
    return Memory(
        total_bytes=_smaller(total, limit_bytes) or Unknown("meminfo has no line MemTotal"),
        available_bytes=Unknown("meminfo has no line MemAvailable")
        if available is None
        else _smaller(available, left_bytes) or 0,
        swap_total_bytes=values.get("SwapTotal", 0),
        swap_free_bytes=values.get("SwapFree", 0),
        limit_bytes=limit_bytes,
    )


def _smaller(value: int | None, limit: int | None) -> int | None:
    return value if value is None or limit is None else max(0, min(value, limit))
