"""What a runtime can do, and whether it can use some memory of a host: a table, one row a runtime. Pure.

What its container images are built for is not here: see images.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.contracts import Catalogue, HostFacts, Image, RuntimeName, RuntimeOffer
from tasks.plan.budget import Pool
from tasks.plan.images import choose, withheld


@dataclass(frozen=True, slots=True)
class Support:
    """What a runtime can do: where it runs, and how it deals with several models or cards.

    `container` runtimes have images; one without them is a process of this program, on the CPU of the
    `architectures` that it is built for.
    """

    runtime: RuntimeName
    container: bool = True
    architectures: tuple[str, ...] = ()
    swaps: bool = False
    splits_layers: bool = False
    splits_tensors: bool = False
    kv_types: bool = False


SUPPORT: tuple[Support, ...] = (
    Support("embedded", container=False, architectures=("x86_64",)),
    Support("ollama", swaps=True, splits_layers=True, kv_types=True),
    Support("llama.cpp", splits_layers=True, kv_types=True),
    Support("tei"),
    Support("vllm", splits_tensors=True),
    Support("speaches"),
)
"""Ollama alone swaps models by itself: TEI, vLLM and llama.cpp's server hold what they loaded."""

BY_NAME = {row.runtime: row for row in SUPPORT}
CONTAINERS = tuple(row.runtime for row in SUPPORT if row.container)


def image_for(
    runtime: RuntimeName, pools: Sequence[Pool], *, facts: HostFacts, catalogue: Catalogue, on_gpu: bool
) -> Image | str:
    """Return the image of a runtime in some memory of a host, or why there is none that could be used."""
    devices = [one.device for one in pools if one.device is not None] if on_gpu else []
    if on_gpu and len(devices) < len(pools):
        return f"{runtime} uses no accelerator"
    return withheld(devices, facts) or choose(runtime, devices, facts=facts, catalogue=catalogue)


def why_not(
    offer: RuntimeOffer, pools: Sequence[Pool], *, facts: HostFacts, catalogue: Catalogue, on_gpu: bool
) -> str:
    """Return why a runtime cannot serve from some memory of a host, or an empty text.

    A server that already runs has no image: what it can use is taken to be what its owner set up.
    """
    row = BY_NAME[offer.name]
    if not row.container:
        architecture = facts.system.architecture
        if architecture not in row.architectures:
            return f"{row.runtime} is not built for {architecture}"
        return f"{row.runtime} uses no accelerator" if on_gpu else ""
    if offer.external:
        return ""
    found = image_for(row.runtime, pools, facts=facts, catalogue=catalogue, on_gpu=on_gpu)
    return found if isinstance(found, str) else ""
