"""The board of a device-tree host; of a Jetson its chip, module, L4T and JetPack."""

from __future__ import annotations

import re

from tasks.contracts import Jetson, Unknown
from tasks.detect.root import Root

# L4T release -> JetPack (developer.nvidia.com/embedded/jetpack-archive), as several public tables repeat it.
# What is not here stays unknown.
JETPACKS = {
    "32.4.3": "4.4", "32.4.4": "4.4.1", "32.5.0": "4.5", "32.5.1": "4.5.1", "32.6.1": "4.6",
    "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "34.1.0": "5.0 DP", "34.1.1": "5.0.1 DP", "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1",
    "35.4.1": "5.1.2", "35.5.0": "5.1.3", "35.6.0": "5.1.4", "35.6.2": "5.1.5", "35.6.4": "5.1.6",
    "36.2.0": "6.0 DP", "36.3.0": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2", "38.2.0": "7.0", "38.2.1": "7.0", "38.2.2": "7.0", "38.4.0": "7.1", "39.2.0": "7.2",
}  # fmt: skip

COMPUTE = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}
"""Chip -> CUDA compute capability (developer.nvidia.com/cuda-gpus, the embedded table)."""

CHIP = re.compile(r"nvidia,(tegra\d{3})(?!\d)")
MODULE = re.compile(r"(p\d{4}-\d{4})(?=$|,)")
RELEASE = re.compile(r"R(\d+) \(release\), REVISION: ([\d.]+)")


def board(root: Root) -> str | Unknown:
    """Return the board of a device-tree host; a Tegra starts with "jetson"."""
    model = root.value("proc/device-tree/model")
    if not model:
        return Unknown("there is no device tree, so this is not a Jetson")
    return f"jetson ({model})" if "nvidia,tegra" in _compatible(root) else model


def jetson(root: Root) -> Jetson | None:
    """Return what is known of a Jetson; None on any other host."""
    compatible = _compatible(root)
    chip = CHIP.search(compatible)
    if chip is None:
        return None
    l4t = parse_l4t(root.text("etc/nv_tegra_release"))
    return Jetson(chip[1], _module(compatible), l4t, _jetpack(l4t))


def parse_l4t(release: str) -> str | Unknown:
    """Return "36.4.7" from the first line of nv_tegra_release; its date may have any form."""
    found = RELEASE.search(release)
    if found is None:
        return Unknown(
            "there is no /etc/nv_tegra_release" if not release else "nv_tegra_release names no release"
        )
    parts = [found[1], *found[2].split(".")]
    return ".".join([*parts, "0"][:3])


def _jetpack(l4t: str | Unknown) -> str | Unknown:
    if isinstance(l4t, Unknown):
        return l4t
    return JETPACKS.get(l4t) or Unknown(f"no JetPack is known for L4T {l4t}")


def _module(compatible: str) -> str | Unknown:
    """Return the module ("p3767-0005"); boards name themselves as carrier+module first, then the module."""
    for entry in compatible.split("\0"):
        found = MODULE.findall(entry.rpartition("+")[2].removeprefix("nvidia,"))
        if found:
            return str(found[-1])
    return Unknown("the device tree names no module")


def _compatible(root: Root) -> str:
    return root.text("proc/device-tree/compatible")
