"""Planned models become servers, each with its settings written out. Pure.

One Ollama server for the residents of a device, one for each on-demand group: a server swaps only its own
models and has one KV type. Other runtimes have a process a model, speaches one for all it transcribes with.
A runtime's own defaults differ from host to host (Ollama's context follows the card's size): none is left.
Servers that already run and are not ours are one for each address; nothing is set on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

from tasks.contracts import Image, PlannedModel, PlannedServer, RuntimeName
from tasks.plan.budget import Pools
from tasks.plan.memory import tei_batch_tokens
from tasks.plan.taken import device_bytes, memory_bytes, shares

Settings = tuple[tuple[str, str], ...]
ImageOf = Callable[[RuntimeName, Sequence[str]], Image | None]
"""Returns the image of a runtime on some devices of a plan."""

VLLM_BLOCK = 16
"""Tokens of a block of vLLM's KV cache: the last one may be begun and not full."""

FOREVER, A_WHILE = "-1", "5m"
RERANKER_OVERRIDES = (
    '{"architectures":["Qwen3ForSequenceClassification"],"classifier_from_token":["no","yes"],'
    '"is_original_qwen3_reranker":true}'
)
"""Without it vLLM serves Qwen3-Reranker as a chat model (vLLM's documents, scoring)."""


def server_name(one: PlannedModel) -> str:
    """Return the name of the server that a model belongs to."""
    device = one.device.replace("+", "-")
    if one.external:
        return f"{one.runtime}-external" if one.runtime != "external" else f"external-{one.role}"
    if one.runtime == "ollama":
        turns = "-turns" if one.residency == "on-demand" else ""
        kv = f"-{one.kv_type.replace('_', '')}" if one.kv_type != "f16" else ""
        return f"ollama-{device}{turns}{kv}"
    if one.runtime == "speaches":
        return f"speaches-{device}"
    return f"model-{one.model}"


def servers(models: Sequence[PlannedModel], pools: Pools, image_of: ImageOf) -> tuple[PlannedServer, ...]:
    """Return the servers of a plan, in the order of their first models.

    Args:
        models: what the plan places.
        pools: where it is placed.
        image_of: what each container is made of.
    """
    members: dict[str, list[PlannedModel]] = {}
    for one in models:
        members.setdefault(one.server, []).append(one)
    return tuple(_server(name, tuple(found), pools, image_of) for name, found in members.items())


def with_settings(one: PlannedModel) -> PlannedModel:
    """Return a model with the settings that are its own inside its server."""
    return replace(one, settings=_MODEL_SETTINGS[one.runtime](one))


def _server(name: str, members: tuple[PlannedModel, ...], pools: Pools, image_of: ImageOf) -> PlannedServer:
    first = members[0]
    if first.external:
        return PlannedServer(
            name=name,
            runtime=first.runtime,
            residency=first.residency,
            devices=tuple(dict.fromkeys(share.device for one in members for share in one.devices)),
            models=tuple(one.model for one in members),
            port=first.port,
            settings=(),
            external=first.external,
            device_bytes=device_bytes(members, pools),
            shares=shares(members),
        )
    devices = tuple(first.device.split("+"))
    return PlannedServer(
        name=name,
        runtime=first.runtime,
        residency=first.residency,
        devices=devices,
        models=tuple(one.model for one in members),
        port=first.port,
        settings=(*_visible(first, devices, pools), *_SERVER_SETTINGS[first.runtime](members, pools)),
        image=image_of(first.runtime, devices),
        memory_bytes=memory_bytes(members, pools),
        device_bytes=device_bytes(members, pools),
        shares=shares(members),
    )


def _visible(first: PlannedModel, devices: tuple[str, ...], pools: Pools) -> Settings:
    """Return which devices a server sees, for each vendor that is here: "-1" hides all.

    NVIDIA's are named by UUID where there is one, because numbers move. They stand in the order in which a
    cut model's parts are counted.
    """
    if first.runtime == "embedded":
        return ()
    chosen = [pool.device for name in devices for pool in pools.pools if pool.name == name and pool.device]
    vendors = {pool.device.vendor for pool in pools.pools if pool.device}
    nvidia = [
        one.uuid if isinstance(one.uuid, str) else str(one.index) for one in chosen if one.vendor == "nvidia"
    ]
    amd = [str(one.index) for one in chosen if one.vendor == "amd"]
    return (
        *((("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),) if "nvidia" in vendors else ()),
        *((("CUDA_VISIBLE_DEVICES", ",".join(nvidia) or "-1"),) if "nvidia" in vendors else ()),
        *((("ROCR_VISIBLE_DEVICES", ",".join(amd) or "-1"),) if "amd" in vendors else ()),
    )


# --- a row a runtime -----------------------------------------------------------------------------


def _ollama(members: tuple[PlannedModel, ...], _pools: Pools) -> Settings:
    first, turns = members[0], members[0].residency == "on-demand"
    decoders = [one for one in members if one.need and one.need.kv_bytes]
    context = max([one.context for one in decoders or members])
    return (
        ("OLLAMA_CONTEXT_LENGTH", str(context)),
        ("OLLAMA_FLASH_ATTENTION", "1"),
        ("OLLAMA_KEEP_ALIVE", A_WHILE if turns else FOREVER),
        ("OLLAMA_KV_CACHE_TYPE", first.kv_type),
        ("OLLAMA_MAX_LOADED_MODELS", "1" if turns else str(len(members))),
        ("OLLAMA_NO_CLOUD", "1"),
        ("OLLAMA_NUM_PARALLEL", str(max(one.parallel for one in members))),
        ("OLLAMA_SCHED_SPREAD", "1" if len(first.devices) > 1 else "0"),
    )


def _ollama_model(one: PlannedModel) -> Settings:
    if one.external:
        return (("num_ctx", str(one.context)),)
    gpu = "999" if one.device != "cpu" else "0"
    return (("num_ctx", str(one.context)), ("num_gpu", gpu))


def _llama_cpp(members: tuple[PlannedModel, ...], _pools: Pools) -> Settings:
    one = members[0]
    split = ",".join(str(share.layers) for share in one.devices)
    pooled = one.role in {"reranker", "embeddings"}
    return (
        # A text must fit one batch, and a batch is never longer than --batch-size.
        *((("--batch-size", str(one.context)),) if pooled else ()),
        ("--cache-type-k", one.kv_type),
        ("--cache-type-v", one.kv_type),
        ("--ctx-size", str(one.context * one.parallel)),
        ("--flash-attn", "on"),
        ("--n-gpu-layers", "999" if one.device != "cpu" else "0"),
        ("--parallel", str(one.parallel)),
        *((("--reranking", ""),) if one.role == "reranker" else ()),
        *((("--embeddings", ""),) if one.role == "embeddings" else ()),
        *((("--tensor-split", split),) if len(one.devices) > 1 else ()),
        *((("--ubatch-size", str(one.context)),) if pooled else ()),
    )


def _tei(members: tuple[PlannedModel, ...], _pools: Pools) -> Settings:
    one = members[0]
    return (
        ("--auto-truncate", "false"),
        ("--dtype", "float16" if one.device != "cpu" else "float32"),
        ("--max-batch-tokens", str(tei_batch_tokens(one.max_tokens))),
    )


def _vllm(members: tuple[PlannedModel, ...], pools: Pools) -> Settings:
    one = members[0]
    cards = len(one.devices)
    qwen = one.role == "reranker" and one.model.startswith("qwen3-reranker")
    kv = one.need.kv_bytes * (one.context + VLLM_BLOCK) // max(1, one.context) if one.need else 0
    return (
        # Without it vLLM wants 90% of each card to be free before it starts.
        ("--gpu-memory-utilization", f"{_utilisation(one, pools):.2f}"),
        *((("--hf-overrides", RERANKER_OVERRIDES),) if qwen else ()),
        ("--kv-cache-memory-bytes", str(kv // cards)),
        ("--max-model-len", str(one.context)),
        ("--max-num-seqs", str(one.parallel)),
        ("--tensor-parallel-size", str(cards)),
    )


def _utilisation(one: PlannedModel, pools: Pools) -> float:
    """Return the largest share of a card that a model takes, rounded up to a twentieth.

    Coarsely, because it follows what was measured: a server is not restarted for a hundredth.
    """
    totals = {pool.name: pool.total_bytes for pool in pools.pools}
    shares = [share.memory_bytes / totals[share.device] for share in one.devices if totals.get(share.device)]
    return min(1.0, ceil(20 * max(shares, default=0.0)) / 20)


def _speaches(members: tuple[PlannedModel, ...], _pools: Pools) -> Settings:
    first = members[0]
    return (
        (
            "WHISPER__COMPUTE_TYPE",
            "int8" if "int8" in first.quantisation or first.device == "cpu" else "float16",
        ),
        ("WHISPER__INFERENCE_DEVICE", "cpu" if first.device == "cpu" else "cuda"),
        ("STT_MODEL_TTL", FOREVER),
    )


def _nothing(_members: tuple[PlannedModel, ...], _pools: Pools) -> Settings:
    return ()


def _nothing_more(_one: PlannedModel) -> Settings:
    return ()


_SERVER_SETTINGS: dict[RuntimeName, Callable[[tuple[PlannedModel, ...], Pools], Settings]] = {
    "embedded": _nothing,
    "ollama": _ollama,
    "llama.cpp": _llama_cpp,
    "tei": _tei,
    "vllm": _vllm,
    "speaches": _speaches,
    "external": _nothing,
}
_MODEL_SETTINGS: dict[RuntimeName, Callable[[PlannedModel], Settings]] = {
    "embedded": _nothing_more,
    "ollama": _ollama_model,
    "llama.cpp": _nothing_more,
    "tei": _nothing_more,
    "vllm": _nothing_more,
    "speaches": _nothing_more,
    "external": _nothing_more,
}
