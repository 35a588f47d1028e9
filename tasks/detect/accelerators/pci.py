"""Display controllers and accelerators on the PCI bus, from sysfs."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.detect.root import Root

NVIDIA, AMD, INTEL = "0x10de", "0x1002", "0x8086"
DISPLAY, ACCELERATOR = "0x03", "0x12"
"""The first byte of a PCI class: display controllers, processing accelerators."""


@dataclass(frozen=True, slots=True)
class DrmCard:
    """A card that a kernel driver has taken: its folder below /sys, and its place on the bus."""

    folder: str
    bus_id: str
    driver: str


def displays(root: Root, vendor: str) -> tuple[str, ...]:
    """Return the bus ids of a vendor's display controllers, with or without a driver."""
    found = []
    for bus_id in root.names("sys/bus/pci/devices", note=False):
        folder = f"sys/bus/pci/devices/{bus_id}"
        if root.text(f"{folder}/vendor", note=False).strip() != vendor:
            continue
        if root.text(f"{folder}/class", note=False).startswith((DISPLAY, ACCELERATOR)):
            root.value(f"{folder}/vendor")
            root.value(f"{folder}/class")
            found.append(bus_id)
    return tuple(found)


def cards(root: Root, vendor: str) -> tuple[DrmCard, ...]:
    """Return a vendor's cards that have a driver, in the order of the bus."""
    found = []
    for name in root.names("sys/class/drm", "card[0-9]*", note=False):
        folder = f"sys/class/drm/{name}/device"
        if "-" in name or root.text(f"{folder}/vendor", note=False).strip() != vendor:
            continue
        root.value(f"{folder}/vendor")
        pairs = dict(line.partition("=")[::2] for line in root.text(f"{folder}/uevent").splitlines())
        found.append(
            DrmCard(folder, pairs.get("PCI_SLOT_NAME", name).lower(), pairs.get("DRIVER", "unknown"))
        )
    return tuple(sorted(found, key=lambda card: card.bus_id))
