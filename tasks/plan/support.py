"""Which runtime can use which memory: a table, one row a runtime. Pure.

Sources: Ollama's documents (compute capability 5.0 and up; ROCm, and Vulkan for other AMD GPUs; JetPack 5 and
up), the list of images of text-embeddings-inference 1.9 (Turing to Blackwell; none for Jetson), vLLM (7.0 and
up), and the CTranslate2 wheels for arm64, which are for the CPU alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.contracts import Accelerator, HostFacts, RuntimeName, Unknown
from tasks.plan.budget import Pool

OLDEST_CUDA, OLDEST_TURING, OLDEST_VOLTA = (5, 0), (7, 5), (7, 0)
ARM = {"aarch64", "arm64"}
OLDEST_L4T = 35


def _cuda(device: Accelerator) -> tuple[int, int] | None:
    """Return the compute capability; None where it is not known."""
    said = device.compute_capability
    if isinstance(said, Unknown):
        return None
    major, dot, minor = said.partition(".")
    return (int(major), int(minor)) if dot and major.isdecimal() and minor.isdecimal() else None


def _at_least(device: Accelerator, oldest: tuple[int, int], what: str) -> str:
    capability = _cuda(device)
    if capability is None or capability >= oldest:
        return ""
    has = f"{device.name} has {device.compute_capability}"
    return f"{what} needs compute capability {oldest[0]}.{oldest[1]} and {has}"


def _ggml(device: Accelerator, facts: HostFacts) -> str:
    if device.vendor == "intel":
        return f"no image here serves models on {device.name}"
    if _old_jetson(facts):
        return "its images have CUDA for JetPack 5 and later, and this board has an older one"
    return _at_least(device, OLDEST_CUDA, "CUDA in llama.cpp") if device.vendor == "nvidia" else ""


def _old_jetson(facts: HostFacts) -> bool:
    """Tell whether a Jetson's system software is from before L4T 35; what is not known passes."""
    l4t = facts.jetson.l4t if facts.jetson else ""
    major = l4t.partition(".")[0] if isinstance(l4t, str) else ""
    return major.isdecimal() and int(major) < OLDEST_L4T


def _tei(device: Accelerator, facts: HostFacts) -> str:
    if device.vendor != "nvidia":
        return f"text-embeddings-inference has no image for {device.name}"
    if facts.jetson is not None:
        return "text-embeddings-inference has no image for a Jetson"
    return _at_least(device, OLDEST_TURING, "text-embeddings-inference")


def _vllm(device: Accelerator, facts: HostFacts) -> str:
    if device.vendor != "nvidia":
        return f"vLLM is used on NVIDIA cards alone here, and this is {device.name}"
    if facts.jetson is not None:
        return "vLLM's own images are not for a Jetson"
    return _at_least(device, OLDEST_VOLTA, "vLLM")


def _speaches(device: Accelerator, facts: HostFacts) -> str:
    if device.vendor != "nvidia":
        return f"faster-whisper has no GPU build for {device.name}"
    if facts.system.architecture in ARM:
        return "faster-whisper's wheels for arm64 are for the CPU alone"
    return _at_least(device, OLDEST_CUDA, "faster-whisper")


@dataclass(frozen=True, slots=True)
class Support:
    """What a runtime can do: where it runs, and how it deals with several models or cards."""

    runtime: RuntimeName
    gpu: Callable[[Accelerator, HostFacts], str] | None
    cpu: bool = True
    architectures: tuple[str, ...] = ()
    swaps: bool = False
    splits_layers: bool = False
    splits_tensors: bool = False
    kv_types: bool = False


SUPPORT: tuple[Support, ...] = (
    Support("embedded", None, architectures=("x86_64",)),
    Support("ollama", _ggml, swaps=True, splits_layers=True, kv_types=True),
    Support("llama.cpp", _ggml, splits_layers=True, kv_types=True),
    Support("tei", _tei),
    Support("vllm", _vllm, cpu=False, splits_tensors=True),
    Support("speaches", _speaches),
)
"""Ollama alone swaps models by itself: TEI, vLLM and llama.cpp's server hold what they loaded."""

BY_NAME = {row.runtime: row for row in SUPPORT}


def why_not(runtime: RuntimeName, pool: Pool, facts: HostFacts, *, on_gpu: bool) -> str:
    """Return why a runtime cannot serve from a pool, or an empty text."""
    row, architecture = BY_NAME[runtime], facts.system.architecture
    if row.architectures and architecture not in row.architectures:
        return f"{runtime} is not built for {architecture}"
    if not on_gpu:
        return "" if row.cpu else f"{runtime} does not run on a CPU here"
    if pool.device is None or row.gpu is None:
        return f"{runtime} uses no accelerator"
    return row.gpu(pool.device, facts)
