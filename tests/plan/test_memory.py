"""What a server takes of memory: arithmetic that is checked against published figures."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import catalogue
from tasks.contracts import Attention, KvType, Measured, Need, RuntimeName
from tasks.plan.memory import Setting, kv_bytes, kv_bytes_per_token, need, process_bytes
from tests.lab.bundles import decoder, encoder

SHELF = catalogue.load(catalogue.DEFAULT)
MIB, GIB = 1 << 20, 1 << 30
CHAT = decoder("chat", roles=("llm", "vision"), sizes_mib=(4000,))
TOKEN_BYTES = 4 * 4 * 64 * 2 * 2 + 2048
"""What a token of CHAT takes: 4 layers x 4 heads x 64 x 2 x 2 bytes, and its part of the compute buffer."""

PROCESS_MIB = process_bytes("ollama", on_gpu=True) // MIB


def cache(model: str, context: int, kv_type: KvType = "f16", parallel: int = 1) -> int:
    """Return the bytes of a shipped model's KV cache."""
    return kv_bytes(SHELF.models[model].attention, Setting(context, kv_type, parallel))


def test_qwen_32b_keeps_262144_bytes_a_token() -> None:
    """64 layers x 8 KV heads x 128 x 2 (keys and values) x 2 bytes; 8.00 GiB at 32,768 tokens."""
    attention = SHELF.models["qwen2.5-32b-instruct"].attention

    assert attention is not None
    assert kv_bytes_per_token(attention) == 262_144
    assert cache("qwen2.5-32b-instruct", 32_768) == 8 * GIB
    assert cache("qwen2.5-32b-instruct", 32_768, "q8_0") == int(4.25 * GIB)
    assert cache("qwen2.5-32b-instruct", 16_384, "q8_0") == int(2.125 * GIB)
    assert cache("qwen2.5-32b-instruct", 8192) == 2 * GIB


@pytest.mark.parametrize(
    ("model", "context", "gigabytes"),
    [
        ("llama-3.3-70b-instruct", 131_072, 42.9),
        ("llama-3.3-70b-instruct", 8192, 2.68),
        ("qwen2.5-7b-instruct", 8192, 0.47),
        ("qwen3-reranker-4b", 8192, 1.21),
        ("mistral-large-2", 32_768, 11.81),
    ],
)
def test_published_cache_sizes(model: str, context: int, gigabytes: float) -> None:
    """The figures of the models' own dimensions, in units of 10^9 bytes."""
    assert cache(model, context) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_latent_attention_is_not_heads_times_dimension() -> None:
    """MLA keeps (512 + 64) x 2 bytes a layer, whatever the number of heads is."""
    attention = SHELF.models["glm-4.7-flash"].attention

    assert attention is not None
    assert kv_bytes_per_token(attention) == attention.layers * (512 + 64) * 2


def test_files_that_were_made_before_latent_attention_keep_every_head() -> None:
    """The library's DeepSeek R1 of early 2025: 61 layers x 128 heads x (192 + 128) x 2 bytes."""
    attention = SHELF.models["deepseek-r1-671b"].attention

    assert attention is not None
    assert attention.upper_bound
    assert kv_bytes_per_token(attention) == 61 * 128 * (192 + 128) * 2


def test_a_window_bounds_what_its_layers_keep() -> None:
    """Beyond the window and a batch of 512 only the other layers grow."""
    attention = Attention(layers=6, kv_heads=1, head_dim=1, window_tokens=1024, windowed_layers=5)

    assert kv_bytes(attention, Setting(512)) == 6 * 512 * 4
    assert kv_bytes(attention, Setting(4096)) == (1 * 4096 + 5 * (1024 + 512)) * 4


def test_recurrent_layers_keep_no_token() -> None:
    """A hybrid model's cache is that of its attention layers alone."""
    attention = Attention(layers=4, kv_heads=1, head_dim=1, recurrent_layers=3)

    assert kv_bytes(attention, Setting(1000)) == 1 * 1000 * 4


def test_parallel_requests_multiply_the_cache() -> None:
    """Each of them has its own context."""
    assert cache("qwen2.5-7b-instruct", 4096, parallel=4) == 4 * cache("qwen2.5-7b-instruct", 4096)


def test_weights_are_the_bytes_of_the_registry() -> None:
    """The parts of a need add up to its total, and the weights are exact."""
    model = SHELF.models["qwen2.5-32b-instruct"]
    variant = model.variant("q4_k_m")
    assert variant is not None

    made = need(model, variant, runtime="ollama", setting=Setting(8192))

    assert made.weights_bytes == 19_851_349_181
    assert made.kv_bytes == 2 * GIB
    assert made.total_bytes == (
        made.weights_bytes + made.kv_bytes + made.compute_bytes + made.overhead_bytes + made.projector_bytes
    )
    assert "estimated" in made.basis


def test_a_measured_footprint_replaces_the_estimate() -> None:
    """With the same context exactly; with another, only the cache and its buffer differ."""
    model = SHELF.models["qwen2.5-32b-instruct"]
    variant = model.variant("q4_k_m")
    assert variant is not None
    seen = Measured("qwen2.5-32b-instruct", "q4_k_m", "ollama", True, 21 * GIB, context=4096)  # noqa: FBT003

    same = need(model, variant, runtime="ollama", setting=Setting(4096), measured=seen)
    longer = need(model, variant, runtime="ollama", setting=Setting(8192), measured=seen)

    assert same.total_bytes == 21 * GIB
    assert same.measured
    assert longer.total_bytes == 21 * GIB + 1 * GIB + 4096 * 2048


def served_again(memory_mib: int, context: int, *, upper_bound: bool = False) -> Need:
    """Return the need of 3400 MiB of weights and a projector of 600 that were measured at 32,768 tokens."""
    assert CHAT.attention is not None
    attention = msgspec.structs.replace(CHAT.attention, upper_bound=upper_bound)
    model = msgspec.structs.replace(CHAT, attention=attention)
    variant = msgspec.structs.replace(CHAT.variants[0], projector_bytes=600 * MIB)
    seen = Measured("chat", "v0", "ollama", True, memory_mib * MIB, context=32_768)  # noqa: FBT003  # on a GPU
    return need(model, variant, runtime="ollama", setting=Setting(context), measured=seen)


def test_less_context_gives_back_its_cache_and_its_buffer() -> None:
    """Where so much was measured that all of it can have been in there."""
    made = served_again(5000, 1024)

    assert made.total_bytes == 5000 * MIB - (32_768 - 1024) * TOKEN_BYTES
    assert made.measured


@pytest.mark.parametrize("above_mib", [0, 1, 100])
def test_less_context_never_gives_back_weights_projector_or_process(above_mib: int) -> None:
    """31,744 tokens would be 186 MiB, and no more can go than was measured above these three."""
    made = served_again(4000 + PROCESS_MIB + above_mib, 1024)

    assert made.total_bytes == (4000 + PROCESS_MIB) * MIB
    assert (made.weights_bytes, made.projector_bytes) == (3400 * MIB, 600 * MIB)


@pytest.mark.parametrize("memory_mib", [3000, 4000, 4000 + PROCESS_MIB - 1])
def test_a_footprint_below_its_known_parts_stays_as_it_was_measured(memory_mib: int) -> None:
    """A page that was never touched is not in it; less context does not make it more."""
    assert served_again(memory_mib, 1024).total_bytes == memory_mib * MIB


@pytest.mark.parametrize("memory_mib", [4000 + PROCESS_MIB + 10, 5000])
def test_a_cache_that_is_only_bounded_is_not_taken_off_what_was_measured(memory_mib: int) -> None:
    """Fewer tokens give back nothing, for they may have taken less; more of them take what they may."""
    fewer = served_again(memory_mib, 1024, upper_bound=True)
    more = served_again(memory_mib, 65_536, upper_bound=True)

    assert fewer.total_bytes == memory_mib * MIB
    assert more.total_bytes == memory_mib * MIB + 32_768 * TOKEN_BYTES


@pytest.mark.parametrize(
    ("words", "mib"), [(None, 320), (32_000, 320), (160_000, 320), (200_704, 392), (262_144, 512)]
)
def test_the_scores_of_a_large_vocabulary_need_a_larger_buffer(words: int | None, mib: int) -> None:
    """512 tokens x the vocabulary x 4 bytes, once that is more than other models' whole buffer."""
    model = msgspec.structs.replace(CHAT, vocabulary=words)
    made = need(model, model.variants[0], runtime="ollama", setting=Setting(1024))

    assert made.compute_bytes == mib * MIB + 1024 * 2048
    assert made.total_bytes == (4000 + PROCESS_MIB + mib) * MIB + 1024 * TOKEN_BYTES


@pytest.mark.parametrize(
    ("runtime", "longest", "mib"),
    [
        ("tei", None, 64 + 128),
        ("tei", 512, 64 + 128),
        ("tei", 8192, 64 + 128),
        ("tei", 32_768, 64 + 512),
        ("embedded", 32_768, 64),
        ("ollama", 512, 64),
    ],
)
def test_tei_warms_up_with_a_whole_batch(runtime: RuntimeName, longest: int | None, mib: int) -> None:
    """16 KiB for each of 8,192 tokens, or of the longest text; other runtimes of encoders do not."""
    model = msgspec.structs.replace(encoder("vectors", role="embeddings", size_mib=600), max_tokens=longest)
    made = need(model, model.variants[0], runtime=runtime, setting=Setting(on_gpu=False))

    assert made.compute_bytes == mib * MIB


def test_the_embedded_server_takes_what_was_measured() -> None:
    """Its whole process was measured, so nothing is estimated."""
    model = SHELF.models["all-minilm-l6-v2"]
    variant = next(one for one in model.variants if "embedded" in one.runtimes)

    made = need(model, variant, runtime="embedded", setting=Setting(256, on_gpu=False))

    assert made.measured
    assert made.total_bytes == 252_000_000


@given(
    context=st.integers(1, 1 << 20),
    more=st.integers(0, 1 << 20),
    name=st.sampled_from(sorted(name for name, model in SHELF.models.items() if model.attention)),
)
def test_a_longer_context_never_takes_less(context: int, more: int, name: str) -> None:
    """And a coarser KV type never takes more."""
    attention = SHELF.models[name].attention

    assert kv_bytes(attention, Setting(context)) <= kv_bytes(attention, Setting(context + more))
    assert kv_bytes(attention, Setting(context, "q8_0")) <= kv_bytes(attention, Setting(context, "f16"))
    assert kv_bytes(attention, Setting(context, "q4_0")) <= kv_bytes(attention, Setting(context, "q8_0"))
