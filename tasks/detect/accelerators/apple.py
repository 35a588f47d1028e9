"""Apple silicon, named from the device tree (Linux) or by macOS' own version file."""

from __future__ import annotations

from tasks.contracts import Accelerator, Unknown
from tasks.detect.host import memory
from tasks.detect.root import Root
from tasks.detect.unified import share

MACOS = "System/Library/CoreServices/SystemVersion.plist"


def probe(root: Root) -> tuple[Accelerator, ...] | Unknown:
    """Return the graphics part of an Apple chip, whose memory is main memory."""
    compatible = root.text("proc/device-tree/compatible")
    if "apple,arm-platform" not in compatible and not root.exists(MACOS):
        return ()
    shared = share(memory(root))
    name = root.value("proc/device-tree/model") or "Apple silicon"
    none = Unknown("Apple silicon has none")
    return (
        Accelerator(
            vendor="apple",
            name=name,
            uuid=none,
            memory_total_bytes=shared.total_bytes,
            memory_free_bytes=shared.free_bytes,
            compute_capability=none,
            driver=Unknown("it is a part of the system"),
            bus_id=none,
            memory_reserved_bytes=shared.kept_bytes,
            unified=True,
        ),
    )
