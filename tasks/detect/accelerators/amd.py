"""AMD devices, from the amdgpu driver's sysfs files and the KFD topology. No tool of ROCm's is needed."""

from __future__ import annotations

from tasks.contracts import Accelerator, Unknown
from tasks.detect.accelerators import pci
from tasks.detect.host import memory
from tasks.detect.root import Root
from tasks.detect.unified import share

# Targets that are a part of a processor (llvm.org/docs/AMDGPUUsage.html, "APU" in the table of processors).
INTEGRATED = {
    "gfx902", "gfx909", "gfx90c", "gfx1033", "gfx1035", "gfx1036", "gfx1103",
    "gfx1150", "gfx1151", "gfx1152", "gfx1153",
}  # fmt: skip
INTEGRATED_IDS = {"0x1586": "gfx1151", "0x1638": "gfx90c"}
"""Strix Halo and Cezanne, where the kernel has no KFD."""

NODES = "sys/class/kfd/kfd/topology/nodes"
PAGE_BYTES = 4096


def probe(root: Root) -> tuple[Accelerator, ...] | Unknown:
    """Return the AMD devices; none when there is no card that the kernel drives."""
    targets = _targets(root)
    return tuple(_device(root, card, index, targets) for index, card in enumerate(pci.cards(root, pci.AMD)))


def _device(root: Root, card: pci.DrmCard, index: int, targets: dict[str, str]) -> Accelerator:
    device_id = root.value(f"{card.folder}/device")
    target = targets.get(card.bus_id) or INTEGRATED_IDS.get(device_id, "")
    total, used = _pool(root, card, "vram")
    gtt, _ = _pool(root, card, "gtt")
    unified = target in INTEGRATED and gtt is not None and gtt > (total or 0)
    shared = share(memory(root))
    missing = Unknown(f"{card.driver} has no mem_info_vram_total")
    own_free = missing if total is None or used is None else max(0, total - used)
    rocm = root.value("opt/rocm/.info/version")
    return Accelerator(
        vendor="amd",
        name=_name(root, card, device_id, target),
        uuid=Unknown("AMD's serial number is not asked"),
        memory_total_bytes=_least(_reachable(root, gtt), shared.total_bytes) if unified else total or missing,
        memory_free_bytes=_least(_reachable(root, gtt), shared.free_bytes) if unified else own_free,
        compute_capability=target or Unknown("there is no KFD node for it, so its gfx target is not known"),
        driver=_driver(root, card),
        index=index,
        bus_id=card.bus_id,
        runtime=f"ROCm {rocm}" if rocm else Unknown("there is no ROCm in /opt/rocm"),
        memory_reserved_bytes=shared.kept_bytes if unified else 0,
        memory_used_bytes=missing if used is None else used,
        unified=unified,
    )


def _pool(root: Root, card: pci.DrmCard, pool: str) -> tuple[int | None, int | None]:
    path = f"{card.folder}/mem_info_{pool}"
    return root.number(f"{path}_total"), root.number(f"{path}_used")


def _reachable(root: Root, gtt: int | None) -> int:
    """Return how much main memory the device may map: the kernel's page limit holds over GTT's size."""
    pages = root.number("sys/module/ttm/parameters/pages_limit")
    limit = gtt or 0
    return min(limit, pages * PAGE_BYTES) if pages else limit


def _least(limit: int, value: int | Unknown) -> int | Unknown:
    return value if isinstance(value, Unknown) else min(limit, value)


def _targets(root: Root) -> dict[str, str]:
    """Return bus id -> "gfx1151", from the KFD nodes that can compute."""
    found = {}
    for node in root.names(NODES, note=False):
        text = root.text(f"{NODES}/{node}/properties")
        words = (line.partition(" ")[::2] for line in text.splitlines())
        pairs = {key: int(value) for key, value in words if value.strip().isdecimal()}
        version, place = pairs.get("gfx_target_version", 0), pairs.get("location_id", 0)
        if version:
            domain = pairs.get("domain", 0)
            bus_id = f"{domain:04x}:{place >> 8:02x}:{place >> 3 & 31:02x}.{place & 7}"
            found[bus_id] = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    return found


def _name(root: Root, card: pci.DrmCard, device_id: str, target: str) -> str:
    """Return the board's name, else the driver library's name for the chip, else its numbers."""
    product = root.value(f"{card.folder}/product_name")
    if product:
        return product
    revision = root.value(f"{card.folder}/revision").removeprefix("0x").upper().zfill(2)
    known = root.line("usr/share/libdrm/amdgpu.ids", f"{device_id.removeprefix('0x').upper()},\t{revision},")
    if known:
        return known.rpartition("\t")[2].strip()
    return f"AMD GPU 1002:{device_id.removeprefix('0x')}" + (f" ({target})" if target else "")


def _driver(root: Root, card: pci.DrmCard) -> str:
    version = root.value(f"sys/module/{card.driver}/version")
    return f"{card.driver} {version}" if version else f"{card.driver} of the kernel"
