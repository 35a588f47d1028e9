"""(runtime, devices, host) -> the container image that serves there, or one sentence why there is none. Pure.

What an image is built for stands in profiles/images.yaml and nowhere else. Images are narrowed down step by
step, and the first step that leaves none gives the reason, with what is needed and what is here:

    accelerator -> processor -> L4T -> compute capability -> driver

What is not known of a device passes, but where images differ by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.contracts import (
    Accelerator,
    Catalogue,
    HostFacts,
    Image,
    ImageFor,
    JetPack,
    RuntimeName,
    Unknown,
    Vendor,
)
from tasks.wording import listed

KINDS: dict[Vendor, ImageFor] = {"nvidia": "cuda", "amd": "rocm"}
"""By vendor; a container gets neither Apple's nor Intel's from the images here."""

TITLES: dict[RuntimeName, str] = {
    "ollama": "Ollama",
    "llama.cpp": "llama.cpp",
    "tei": "text-embeddings-inference",
    "vllm": "vLLM",
    "speaches": "faster-whisper",
}
WORDS: dict[ImageFor, str] = {"cpu": "a CPU", "cuda": "CUDA", "rocm": "ROCm", "jetson": "a Jetson"}
ARCHITECTURES = {"arm64": "aarch64", "amd64": "x86_64"}
"""Other names of the same."""

PODMAN = "podman "
"""How the detail of an engine's answer begins that is Podman's (see tasks/detect/look.py)."""


def choose(
    runtime: RuntimeName, devices: Sequence[Accelerator], *, facts: HostFacts, catalogue: Catalogue
) -> Image | str:
    """Return the first image that fits, with what this host's Jetson software asks for in its environment.

    Args:
        runtime: one that runs in a container.
        devices: where it is to run, all of one vendor; none is the CPU.
        facts: the host.
        catalogue: its images, best first.
    """
    kind = _kind(devices, facts)
    if kind is None:
        return f"no image here serves models on {devices[0].name}"
    jetpack = _jetpack(facts, catalogue) if kind == "jetson" else None
    if isinstance(jetpack, str):
        return jetpack
    left = [one for one in catalogue.images if (one.runtime, one.accelerator) == (runtime, kind)]
    if not left:
        what = devices[0].name if devices and kind != "jetson" else WORDS[kind]
        return f"{TITLES[runtime]} has no image for {what}"
    found = _narrowed(left, devices, architecture=_architecture(facts), jetpack=jetpack)
    if isinstance(found, str):
        return found
    return found.told(jetpack.environment) if jetpack else found


def _narrowed(
    images: Sequence[Image], devices: Sequence[Accelerator], *, architecture: str, jetpack: JetPack | None
) -> Image | str:
    """Return the first image that is for a host's processor, its L4T, and all of the devices."""
    left = [one for one in images if architecture in one.architectures]
    title, kind = TITLES[images[0].runtime], WORDS[images[0].accelerator]
    if not left:
        there = listed(list(dict.fromkeys(name for one in images for name in one.architectures)))
        return f"{title}'s image for {kind} is for {there}, and this host is {architecture}"
    if jetpack is not None:
        there = listed([str(one) for one in sorted({l4t for image in left for l4t in image.l4t})])
        left = [one for one in left if jetpack.l4t in one.l4t]
        if not left:
            return f"{title}'s image for a Jetson is for L4T {there}, and this board has L4T {jetpack.l4t}"
    for device in devices:
        wanted = left
        left = [one for one in wanted if _computes(one, device)]
        if not left:
            return _no_compute(title, wanted, device)
        wanted = left
        left = [one for one in wanted if _drives(one, device)]
        if not left:
            least = min((one.least_driver or "" for one in wanted), key=_version)
            return f"{title}'s image needs driver {least} and {device.name} has {device.driver}"
    return left[0]


def _kind(devices: Sequence[Accelerator], facts: HostFacts) -> ImageFor | None:
    if not devices:
        return "cpu"
    kind = KINDS.get(devices[0].vendor)
    return "jetson" if kind == "cuda" and facts.jetson is not None else kind


def _architecture(facts: HostFacts) -> str:
    return ARCHITECTURES.get(facts.system.architecture, facts.system.architecture)


def _jetpack(facts: HostFacts, catalogue: Catalogue) -> JetPack | str:
    """Return what is known of a Jetson's software, or why no container gets its GPU."""
    l4t = facts.jetson.l4t if facts.jetson else Unknown("this is not a Jetson")
    if isinstance(l4t, Unknown):
        return f"which L4T the board has is not known ({l4t.unknown}), so no image can be chosen for its GPU"
    major = l4t.partition(".")[0]
    found = next((one for one in catalogue.jetpacks if str(one.l4t) == major), None)
    if found is None:
        known = listed([str(one.l4t) for one in catalogue.jetpacks if not one.refused])
        return f"this version does not know L4T {major}, only {known}"
    return f"{found.refused}, and this board has L4T {l4t}" if found.refused else found


def _version(text: str) -> tuple[int, ...]:
    """Return "570.26" as numbers; what is none ends it."""
    numbers = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _computes(image: Image, device: Accelerator) -> bool:
    """Tell whether an image is built for a device. An unknown one has none of the images that list theirs."""
    said = device.compute_capability
    if isinstance(said, Unknown):
        return not image.compute
    if image.compute:
        return said in image.compute
    return image.least_compute is None or _version(said) >= _version(image.least_compute)


def _no_compute(title: str, images: Sequence[Image], device: Accelerator) -> str:
    said = device.compute_capability
    lists = listed(sorted({one for image in images for one in image.compute}, key=_version))
    if isinstance(said, Unknown):
        return f"{title} has images for compute capability {lists}, and which {device.name} has is not known"
    least = [one.least_compute for one in images if one.least_compute is not None]
    if least:
        return f"{title} needs compute capability {min(least, key=_version)} and {device.name} has {said}"
    return f"{title} has images for compute capability {lists}, and {device.name} has {said}"


def _drives(image: Image, device: Accelerator) -> bool:
    if image.least_driver is None or isinstance(device.driver, Unknown):
        return True
    return _version(device.driver) >= _version(image.least_driver)


# --- the engine ----------------------------------------------------------------------------------


def withheld(devices: Sequence[Accelerator], facts: HostFacts) -> str:
    """Return why the container engine hands out none of these devices, or an empty text.

    An AMD card needs only its device files. How a host that is not here hands out cards is not known, and
    passes.
    """
    for device in devices:
        if facts.container_engine.detail.startswith(PODMAN):
            return f"podman hands {device.name} to no container: it drops the request without a word"
        if device.vendor == "nvidia" and facts.engine_gpu.style == "none":
            return f"the container engine cannot hand out {device.name} ({facts.engine_gpu.why})"
    return ""


def mending(facts: HostFacts) -> Iterator[str]:
    """Yield what would let containers have the cards that are here."""
    if isinstance(facts.accelerators, Unknown) or not facts.container_engine.answers:
        return
    cards = [one for one in facts.accelerators if one.vendor in KINDS]
    why = withheld(cards, facts)
    if not why:
        return
    if facts.container_engine.detail.startswith(PODMAN):
        then = "Point DOCKER_HOST to a Docker engine to use it."
    else:
        then = (
            "Install nvidia-container-toolkit, run `nvidia-ctk runtime configure --runtime=docker` and"
            " restart the engine to use it (docs.nvidia.com/datacenter/cloud-native/container-toolkit)."
        )
    yield f"{why[0].upper()}{why[1:]}. {then}"
