"""How the container engine hands a GPU to a container, from the engine's own answers."""

from __future__ import annotations

from tasks.contracts import EngineGpu
from tasks.detect.root import Root
from tasks.effects.containers import EngineInfo

CDI_FOLDERS = ("etc/cdi", "var/run/cdi")
CDI_KINDS = ("nvidia.com/", "amd.com/", "intel.com/")
HOOK = "usr/bin/nvidia-container-runtime-hook"


def gpu_style(info: EngineInfo, root: Root) -> EngineGpu:
    """Return the best style that this engine offers: CDI, then --gpus, then the nvidia runtime."""
    devices = [name for name in info.devices if name.startswith(CDI_KINDS)]
    if devices:
        return EngineGpu("cdi", f"the engine lists {', '.join(devices)}")
    specs = [f"/{folder}/{name}" for folder in CDI_FOLDERS for name in root.names(folder, "*.[jy][sa][om]*")]
    if specs and (info.cdi_folders or info.podman):
        return EngineGpu("cdi", f"the engine reads CDI, and {', '.join(specs)} is there")
    runtime = "nvidia" in info.runtimes
    if root.exists(HOOK) and not info.podman:
        return EngineGpu("gpus", f"/{HOOK} is there, which docker's --gpus calls")
    if runtime:
        return EngineGpu("runtime", "the engine has a runtime named nvidia")
    unread = f"; {', '.join(specs)} is there, but the engine does not read CDI" if specs else ""
    return EngineGpu(
        "none", f"the engine lists no GPU device and no nvidia runtime, and /{HOOK} is missing{unread}"
    )
