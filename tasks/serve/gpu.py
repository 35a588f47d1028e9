"""Devices of the plan ("gpu0") -> how a container gets them, from the engine's own answers. Pure.

cdi      names of the engine's own list: by UUID where it knows them so, else by number, else all
gpus     a device request with UUIDs
runtime  the runtime nvidia, which a Jetson has
none     the device files of an AMD card
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import Accelerator, GpuAccess, HostFacts, Unknown
from tasks.effects.containers import EngineInfo
from tasks.errors import ServeError

MAIN = "cpu"
CDI_KIND = "nvidia.com/gpu="
AMD_FILES = ("/dev/kfd", "/dev/dri")
INTACT = "what ran before still runs"


def named(facts: HostFacts) -> dict[str, Accelerator]:
    """Return the accelerators by their names in a plan: in their order, those that can be planned on."""
    if isinstance(facts.accelerators, Unknown):
        return {}
    found: list[Accelerator] = []
    for device in facts.accelerators:
        shared = device.unified and any(one.unified for one in found)
        if not isinstance(device.memory_total_bytes, Unknown) and not shared:
            found.append(device)
    return {f"gpu{place}": device for place, device in enumerate(found)}


def access(devices: Sequence[str], facts: HostFacts, info: EngineInfo) -> GpuAccess:
    """Return how a container gets the devices that a server was planned on.

    Raises:
        ServeError: one of them is not here any more, or the engine cannot hand it out.
    """
    wanted = [name for name in devices if name != MAIN]
    here = named(facts)
    gone = [name for name in wanted if name not in here]
    if gone:
        raise ServeError(
            f"the plan has {gone[0]}, which this host does not have (it has {', '.join(here) or 'none'})",
            INTACT,
            "run `pmoves detect`, then `pmoves provision` again",
        )
    cards = [here[name] for name in wanted]
    if not cards:
        return GpuAccess()
    if info.podman:
        raise ServeError(
            f"podman does not hand {cards[0].name} to a container: it drops the request without a word",
            INTACT,
            "point DOCKER_HOST to a Docker engine, or plan with `--set limits.accelerators=false`",
        )
    if cards[0].vendor == "amd":
        return GpuAccess("none", AMD_FILES)
    if cards[0].vendor != "nvidia":
        raise ServeError(
            f"{cards[0].name} cannot be handed to a container: only cards of NVIDIA and AMD can",
            INTACT,
            "plan with `--set limits.accelerators=false`",
        )
    style = facts.engine_gpu.style
    if style == "cdi":
        return GpuAccess("cdi", _cdi_names(cards, info))
    if style == "gpus":
        return GpuAccess("gpus", _uuids(cards))
    if style == "runtime":
        return GpuAccess("runtime", _uuids(cards) if facts.jetson is None else ("all",))
    raise ServeError(
        f"the container engine cannot hand out {cards[0].name} ({facts.engine_gpu.why})",
        INTACT,
        "install the NVIDIA Container Toolkit and restart the engine, then run `pmoves provision` again",
    )


def _uuids(cards: Sequence[Accelerator]) -> tuple[str, ...]:
    """Return UUIDs; where a driver tells none, all cards, of which the server's own variables then choose."""
    found = tuple(card.uuid for card in cards if isinstance(card.uuid, str))
    return found if len(found) == len(cards) else ("all",)


def _cdi_names(cards: Sequence[Accelerator], info: EngineInfo) -> tuple[str, ...]:
    by_uuid = [f"{CDI_KIND}{card.uuid}" for card in cards]
    by_number = [f"{CDI_KIND}{card.index}" for card in cards]
    for names in (by_uuid, by_number):
        if all(name in info.devices for name in names):
            return tuple(names)
    return (f"{CDI_KIND}all",)
