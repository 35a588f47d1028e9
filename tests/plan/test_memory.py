"""What a server takes of memory: arithmetic that is checked against published figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import catalogue
from tasks.contracts import Attention, KvType, Measured
from tasks.plan.memory import Setting, kv_bytes, kv_bytes_per_token, need

SHELF = catalogue.load(catalogue.DEFAULT)
GIB = 1 << 30


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
