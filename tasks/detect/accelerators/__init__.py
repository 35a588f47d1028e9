"""Accelerators: one module per vendor, each with `probe(root) -> tuple[Accelerator, ...] | Unknown`.

To add one, write its module beside `nvidia.py` and add it to `PROBES`.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.contracts import Accelerator, Unknown
from tasks.detect.accelerators import amd, apple, intel, nvidia
from tasks.detect.root import Root

Probe = Callable[[Root], tuple[Accelerator, ...] | Unknown]

PROBES: tuple[Probe, ...] = (nvidia.probe, amd.probe, intel.probe, apple.probe)


def accelerators(root: Root) -> tuple[Accelerator, ...] | Unknown:
    """Return all devices of all vendors; the first vendor that cannot tell makes the answer unknown."""
    found: list[Accelerator] = []
    for probe in PROBES:
        devices = probe(root)
        if isinstance(devices, Unknown):
            return devices
        found.extend(devices)
    return tuple(found)
