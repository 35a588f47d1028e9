"""Intel graphics, named from sysfs. What memory they have is not asked yet."""

from __future__ import annotations

from tasks.contracts import Accelerator, Unknown
from tasks.detect.accelerators import pci
from tasks.detect.root import Root

NOT_READ = Unknown("this version names Intel graphics and does not read their memory")
NO_CUDA = Unknown("Intel has no compute capability")


def probe(root: Root) -> tuple[Accelerator, ...] | Unknown:
    """Return the Intel graphics that the kernel drives."""
    return tuple(
        Accelerator(
            vendor="intel",
            name=f"Intel GPU 8086:{root.value(f'{card.folder}/device').removeprefix('0x')}",
            uuid=Unknown("Intel graphics have none"),
            memory_total_bytes=NOT_READ,
            memory_free_bytes=NOT_READ,
            compute_capability=NO_CUDA,
            driver=f"{card.driver} of the kernel",
            index=index,
            bus_id=card.bus_id,
        )
        for index, card in enumerate(pci.cards(root, pci.INTEL))
    )
