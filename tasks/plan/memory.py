"""What one server of a model takes of memory. Pure.

    weights     the bytes as stored: the registry's manifest, the repository's listing
    projector   the vision part of them
    KV cache    layers x KV heads x head dim x 2 (keys and values) x bytes of the type x tokens x parallel
    compute     scratch buffers of the runtime
    overhead    what a process takes before it holds a model: CUDA context, libraries

Weights and KV cache are arithmetic on sourced figures. Compute and overhead are estimates, named as such
in `Need.basis`; a footprint that was measured on this host, or is measured in the catalogue, replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.contracts import Attention, KvType, Measured, Model, Need, RuntimeName, Variant
from tasks.wording import MIB

KV_BLOCK_BYTES: dict[KvType, int] = {"f16": 64, "q8_0": 34, "q4_0": 18}
"""Bytes of a block of 32 values, in llama.cpp's ggml."""

F16_BYTES = 2
BATCH_TOKENS = 512
"""Of llama.cpp, whose windowed layers hold the batch that is being read, too."""

PROCESS_BYTES: dict[RuntimeName, int] = {
    "embedded": 160 * MIB,
    "ollama": 457 * MIB,
    "llama.cpp": 457 * MIB,
    "tei": 640 * MIB,
    "vllm": 1536 * MIB,
    "speaches": 457 * MIB,
}
"""A process on a device. 457 MiB is what Ollama's own source sets aside for CUDA and ROCm alike; the
figures of TEI and vLLM (activations and CUDA graphs among them) are estimates."""

CPU_PROCESS_BYTES = 160 * MIB
SPEACHES_CPU_PROCESS_BYTES = 810 * MIB
"""The same in main memory. That of speaches makes faster-whisper small come to the 1,477 MB that its authors
measured with int8 on a CPU; the other is an estimate."""

DECODER_COMPUTE_BYTES = 320 * MIB
LOGIT_BYTES_PER_WORD = 512 * 4
COMPUTE_BYTES_PER_TOKEN = 2048
"""llama.cpp's compute buffer with flash attention and batches of 512: 307 MiB was logged for a 14B model at
4,096 tokens, 808 MiB at 262,144, and this line lies above both. The scores of a batch of 512 in 32 bits are a
part of it, and more than that for a vocabulary above 160,000. An estimate for other models."""

POOLED_COMPUTE_BYTES_PER_TOKEN = 128 << 10
"""A reranker or embedding model with a decoder's build takes a whole text in one batch, so the buffer grows
with the longest text that is allowed. An estimate: activations of a 4B model in 32 bits."""

ENCODER_COMPUTE_BYTES = 64 * MIB
"""BERT-like encoders; 17 MiB was logged for one of 12 layers at 512 tokens. An estimate."""

TEI_BATCH_TOKENS, TEI_BYTES_PER_TOKEN = 8192, 16 << 10
"""text-embeddings-inference warms up with a whole batch: about 16 KiB a token for 1,024 dimensions in 16
bits, an estimate. It refuses a batch that is shorter than the longest text."""

WHISPER_COMPUTE_PERCENT = 30
"""Of the weights: faster-whisper large-v2 in fp16 takes 4.5 GB for 3.09 GB of weights, by its authors."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is served: what its memory depends on besides its weights."""

    context: int = 0
    kv_type: KvType = "f16"
    parallel: int = 1
    on_gpu: bool = True


def kv_bytes_per_token(attention: Attention) -> int:
    """Return the f16 bytes of one token in all layers, no window or recurrent layer taken into account."""
    if attention.bytes_per_token is not None:
        return attention.bytes_per_token
    return 2 * attention.layers * attention.kv_heads * attention.head_dim * F16_BYTES


def kv_bytes(attention: Attention | None, setting: Setting) -> int:
    """Return the bytes of the KV cache; 0 for a model that keeps none.

    A windowed layer keeps at most its window and a batch; a recurrent one keeps no token.
    """
    if attention is None:
        return 0
    full = attention.layers - attention.windowed_layers - attention.recurrent_layers
    window = min(setting.context, (attention.window_tokens or 0) + BATCH_TOKENS)
    tokens = full * setting.context + attention.windowed_layers * window
    f16 = kv_bytes_per_token(attention) * tokens * setting.parallel
    return f16 * KV_BLOCK_BYTES[setting.kv_type] // (KV_BLOCK_BYTES["f16"] * attention.layers)


def compute_slope(model: Model) -> int:
    """Return the bytes of scratch buffer that each token of context adds."""
    if model.attention is None:
        return 0
    return POOLED_COMPUTE_BYTES_PER_TOKEN if is_pooled(model) else COMPUTE_BYTES_PER_TOKEN


def tei_batch_tokens(max_tokens: int | None) -> int:
    """Return how many tokens a batch of text-embeddings-inference may have."""
    return max(TEI_BATCH_TOKENS, max_tokens or 0)


def is_pooled(model: Model) -> bool:
    """Tell whether a model gives a vector or a score, not a text."""
    return bool(model.roles) and set(model.roles) <= {"embeddings", "reranker"}


def read_bytes(model: Model, weights_bytes: int) -> int:
    """Return how much of the weights one token reads: all, or the active share of a mixture of experts."""
    if model.active_parameters and model.parameters:
        return weights_bytes * model.active_parameters // model.parameters
    return weights_bytes


def compute_bytes(model: Model, variant: Variant, *, runtime: RuntimeName, setting: Setting) -> int:
    """Return the estimate for scratch buffers."""
    if model.attention is not None:
        scores = (model.vocabulary or 0) * LOGIT_BYTES_PER_WORD
        base = ENCODER_COMPUTE_BYTES if is_pooled(model) else max(DECODER_COMPUTE_BYTES, scores)
        return base + compute_slope(model) * setting.context * setting.parallel
    if runtime == "speaches":
        return variant.size_bytes(runtime) * WHISPER_COMPUTE_PERCENT // 100
    if runtime == "tei":
        return ENCODER_COMPUTE_BYTES + TEI_BYTES_PER_TOKEN * tei_batch_tokens(model.max_tokens)
    return ENCODER_COMPUTE_BYTES


def process_bytes(runtime: RuntimeName, *, on_gpu: bool) -> int:
    """Return what a runtime's process takes before it holds a model."""
    if on_gpu:
        return PROCESS_BYTES[runtime]
    return SPEACHES_CPU_PROCESS_BYTES if runtime == "speaches" else CPU_PROCESS_BYTES


def need(
    model: Model,
    variant: Variant,
    *,
    runtime: RuntimeName,
    setting: Setting,
    measured: Measured | None = None,
    set_bytes: int | None = None,
) -> Need:
    """Return what one server of `variant` takes of memory with `setting`.

    Args:
        model: an entry of the catalogue.
        variant: one of its variants, which `runtime` can serve.
        runtime: the kind of server.
        setting: context in tokens, KV type, parallel requests.
        measured: a footprint of the same variant and runtime from an earlier run on the host.
        set_bytes: what a person says that it takes; the parts are then what is known of them.
    """
    size = variant.size_bytes(runtime)
    estimate = Need(
        weights_bytes=size - variant.projector_bytes,
        projector_bytes=variant.projector_bytes,
        kv_bytes=kv_bytes(model.attention, setting),
        compute_bytes=compute_bytes(model, variant, runtime=runtime, setting=setting),
        overhead_bytes=process_bytes(runtime, on_gpu=setting.on_gpu),
        basis=_basis(model, variant, runtime),
    )
    if set_bytes is not None:
        made = _rest(estimate, set_bytes, "memory_bytes, as it was set", layers=_layer_bytes(model, estimate))
        return replace(made, measured=False)
    if measured is not None:
        return _as_measured(estimate, model, measured=measured, setting=setting)
    if variant.memory is not None and model.attention is None and not setting.on_gpu:
        return _rest(estimate, variant.memory.value_bytes, variant.memory.basis)
    return replace(estimate, layer_bytes=_layer_bytes(model, estimate))


def _as_measured(estimate: Need, model: Model, *, measured: Measured, setting: Setting) -> Need:
    """Take a measured footprint; another context only changes the KV cache and the compute buffer."""
    then = Setting(measured.context, measured.kv_type, measured.parallel, setting.on_gpu)
    more = estimate.kv_bytes - kv_bytes(model.attention, then)
    tokens = setting.context * setting.parallel - measured.context * measured.parallel
    more += compute_slope(model) * tokens
    if more < 0:
        # More may be counted for a token than is kept, so less context gives back no more than it can.
        bound = model.attention is not None and model.attention.upper_bound
        known = estimate.weights_bytes + estimate.projector_bytes + estimate.overhead_bytes
        more = 0 if bound else max(more, min(0, known - measured.memory_bytes))
    exact = more == 0
    basis = "measured here" if exact else "measured here with another context"
    return _rest(estimate, measured.memory_bytes + more, basis, layers=_layer_bytes(model, estimate))


def _rest(estimate: Need, total_bytes: int, basis: str, *, layers: int = 0) -> Need:
    """Give the known parts their bytes and the process what is left of a measured total."""
    left = total_bytes
    parts = {}
    for name in ("weights_bytes", "projector_bytes", "kv_bytes", "compute_bytes"):
        parts[name] = min(left, int(getattr(estimate, name)))
        left -= parts[name]
    return Need(**parts, overhead_bytes=left, layer_bytes=layers, measured=True, basis=basis)


def _layer_bytes(model: Model, estimate: Need) -> int:
    """Return the largest piece that cannot be cut: a layer with its part of the KV cache."""
    if model.attention is None:
        return 0
    return -(-(estimate.weights_bytes + estimate.kv_bytes) // model.attention.layers)


def _basis(model: Model, variant: Variant, runtime: RuntimeName) -> str:
    origin = variant.origin(runtime)
    size = getattr(origin, "size_basis", None)
    weights = f"weights: {size}" if size else "weights: exact bytes"
    bound = model.attention is not None and model.attention.upper_bound
    kv = "; KV cache: an upper bound" if bound else ""
    return f"{weights}{kv}; compute and process: estimated"
