"""Servers: one row a runtime, every setting written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tasks.contracts import (
    Attention,
    HostFacts,
    Image,
    KvType,
    Model,
    Need,
    Plan,
    PlannedModel,
    Residency,
    Role,
    RuntimeName,
    Share,
    UnpinnedRepo,
    Variant,
    Wish,
)
from tasks.plan.budget import Pools
from tasks.plan.request import Request, parse_overrides
from tasks.plan.servers import server_name, servers, with_settings
from tests.lab.bundles import card_pool, decoder, encoder, main_pool, planned_on, shelf_of
from tests.lab.hosts import device, make_host

CARDS = Pools((card_pool(0, 24000), card_pool(1, 24000), main_pool(64000)))
NO_CARDS = Pools((main_pool(64000),))
ORDER = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
FIRST = (ORDER, ("CUDA_VISIBLE_DEVICES", "GPU-0"))


def planned(
    runtime: RuntimeName,
    *,
    model: str = "some",
    role: Role = "llm",
    residency: Residency = "resident",
    shares: tuple[Share, ...] = (Share("gpu0", 900),),
    context: int = 8192,
    kv_type: KvType = "q8_0",
    parallel: int = 1,
    quantisation: str = "q4_k_m",
    port: int = 7990,
) -> PlannedModel:
    """Return one planned model with its server and its own settings."""
    one = PlannedModel(
        role=role,
        model=model,
        runtime=runtime,
        residency=residency,
        device="+".join(share.device for share in shares),
        port=port,
        memory_bytes=900,
        memory_measured=False,
        download_bytes=0,
        quantisation=quantisation,
        context=context,
        kv_type=kv_type,
        parallel=parallel,
        devices=shares,
        need=Need(600, kv_bytes=300),
    )
    return with_settings(replace(one, server=server_name(one)))


def settings(*models: PlannedModel, pools: Pools = CARDS) -> tuple[tuple[str, str], ...]:
    """Return the settings of the one server of some models."""
    (server,) = servers(models, pools, no_image)
    return server.settings


def no_image(_runtime: RuntimeName, _devices: Sequence[str]) -> Image | None:
    """Return no image: settings do not depend on it."""
    return None


def test_ollama_with_a_resident_model() -> None:
    """It is held for ever, with its own context and KV type, on its card alone."""
    one = planned("ollama")

    assert settings(one) == (
        *FIRST,
        ("OLLAMA_CONTEXT_LENGTH", "8192"),
        ("OLLAMA_FLASH_ATTENTION", "1"),
        ("OLLAMA_KEEP_ALIVE", "-1"),
        ("OLLAMA_KV_CACHE_TYPE", "q8_0"),
        ("OLLAMA_MAX_LOADED_MODELS", "1"),
        ("OLLAMA_NO_CLOUD", "1"),
        ("OLLAMA_NUM_PARALLEL", "1"),
        ("OLLAMA_SCHED_SPREAD", "0"),
    )
    assert one.settings == (("num_ctx", "8192"), ("num_gpu", "999"))


def test_ollama_with_two_resident_models() -> None:
    """Both stay loaded; the server takes the longest context and the most requests."""
    found = dict(settings(planned("ollama"), planned("ollama", model="more", context=16384, parallel=4)))

    assert found["OLLAMA_MAX_LOADED_MODELS"] == "2"
    assert found["OLLAMA_CONTEXT_LENGTH"] == "16384"
    assert found["OLLAMA_NUM_PARALLEL"] == "4"


def test_ollama_with_models_that_take_turns() -> None:
    """One at a time, and it is let go after a while."""
    one = planned("ollama", residency="on-demand")
    other = planned("ollama", residency="on-demand", model="more")
    found = dict(settings(one, other))

    assert found["OLLAMA_MAX_LOADED_MODELS"] == "1"
    assert found["OLLAMA_KEEP_ALIVE"] == "5m"
    assert one.server == "ollama-gpu0-turns-q80"


def test_ollama_over_two_cards() -> None:
    """It sees both and spreads."""
    found = dict(settings(planned("ollama", shares=(Share("gpu0", 400, 2), Share("gpu1", 500, 2)))))

    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
    assert found["OLLAMA_SCHED_SPREAD"] == "1"


def test_ollama_on_the_cpu_sees_no_card() -> None:
    """Nor is a layer sent there; a host without cards needs no such word."""
    one = planned("ollama", residency="cpu", shares=(Share("cpu", 900),))

    assert dict(settings(one))["CUDA_VISIBLE_DEVICES"] == "-1"
    assert dict(one.settings)["num_gpu"] == "0"
    assert "CUDA_VISIBLE_DEVICES" not in dict(settings(one, pools=NO_CARDS))


def test_llama_cpp() -> None:
    """The context is that of all requests together."""
    assert settings(planned("llama.cpp", parallel=2)) == (
        *FIRST,
        ("--cache-type-k", "q8_0"),
        ("--cache-type-v", "q8_0"),
        ("--ctx-size", "16384"),
        ("--flash-attn", "on"),
        ("--n-gpu-layers", "999"),
        ("--parallel", "2"),
    )


@pytest.mark.parametrize(("role", "flag"), [("reranker", "--reranking"), ("embeddings", "--embeddings")])
def test_llama_cpp_that_pools(role: Role, flag: str) -> None:
    """A whole text goes through in one batch."""
    found = dict(settings(planned("llama.cpp", role=role, context=4096)))

    assert found[flag] == ""
    assert found["--ubatch-size"] == found["--batch-size"] == "4096"


def test_llama_cpp_on_the_cpu() -> None:
    """No layer is sent to a card."""
    found = dict(settings(planned("llama.cpp", residency="cpu", shares=(Share("cpu", 900),))))

    assert found["--n-gpu-layers"] == "0"
    assert found["CUDA_VISIBLE_DEVICES"] == "-1"


def test_tei() -> None:
    """Half precision on a card, full on the CPU; nothing is cut off in silence."""
    on_card = settings(planned("tei", role="embeddings"))
    on_cpu = settings(planned("tei", role="embeddings", residency="cpu", shares=(Share("cpu", 900),)))

    assert on_card == (
        *FIRST,
        ("--auto-truncate", "false"),
        ("--dtype", "float16"),
        ("--max-batch-tokens", "8192"),
    )
    assert dict(on_cpu)["--dtype"] == "float32"
    longer = replace(planned("tei", role="embeddings"), max_tokens=32768)
    assert dict(settings(longer))["--max-batch-tokens"] == "32768"


def test_vllm() -> None:
    """Each card gets its part of the cache with a block that may be begun, and is asked for no more."""
    shares = (Share("gpu0", 11_990 << 20), Share("gpu1", 450))
    one = planned("vllm", shares=shares, parallel=3)
    one = replace(one, need=Need(600, kv_bytes=300_000))

    assert settings(one) == (
        ORDER,
        ("CUDA_VISIBLE_DEVICES", "GPU-0,GPU-1"),
        ("--gpu-memory-utilization", "0.50"),
        ("--kv-cache-memory-bytes", "150292"),
        ("--max-model-len", "8192"),
        ("--max-num-seqs", "3"),
        ("--tensor-parallel-size", "2"),
    )


def test_vllm_serves_a_qwen_reranker_as_one() -> None:
    """Without the override it would be a chat model."""
    found = dict(settings(planned("vllm", role="reranker", model="qwen3-reranker-4b")))

    assert "Qwen3ForSequenceClassification" in found["--hf-overrides"]
    assert "--hf-overrides" not in dict(settings(planned("vllm", role="reranker", model="bge")))


def test_speaches() -> None:
    """Its numbers are those of the device and of the weights."""
    on_card = planned("speaches", role="whisper", quantisation="fp16")
    on_cpu = planned("speaches", role="whisper", residency="cpu", shares=(Share("cpu", 900),))

    assert settings(on_card) == (
        *FIRST,
        ("WHISPER__COMPUTE_TYPE", "float16"),
        ("WHISPER__INFERENCE_DEVICE", "cuda"),
        ("STT_MODEL_TTL", "-1"),
    )
    assert dict(settings(on_cpu))["WHISPER__COMPUTE_TYPE"] == "int8"
    assert dict(settings(on_cpu))["WHISPER__INFERENCE_DEVICE"] == "cpu"
    assert dict(settings(replace(on_card, quantisation="int8_float16")))["WHISPER__COMPUTE_TYPE"] == "int8"


def test_embedded_has_no_settings() -> None:
    """It reads neither a device nor a variable."""
    assert settings(planned("embedded", residency="cpu", shares=(Share("cpu", 900),))) == ()


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (planned("ollama", kv_type="f16"), "ollama-gpu0"),
        (planned("ollama", kv_type="q8_0"), "ollama-gpu0-q80"),
        (planned("ollama", kv_type="q4_0", residency="on-demand"), "ollama-gpu0-turns-q40"),
        (planned("ollama", kv_type="f16", shares=(Share("gpu0", 1), Share("gpu1", 1))), "ollama-gpu0-gpu1"),
        (planned("speaches"), "speaches-gpu0"),
        (planned("tei", model="bge-m3"), "model-bge-m3"),
        (planned("llama.cpp", model="bge-m3"), "model-bge-m3"),
        (planned("embedded", model="mini"), "model-mini"),
    ],
)
def test_names_of_servers(one: PlannedModel, name: str) -> None:
    """A server is named by what tells it from others of its runtime."""
    assert name == one.server


def test_different_kv_types_are_different_servers() -> None:
    """And so are residents and those that take turns, and two cards."""
    models = (
        planned("ollama", kv_type="f16"),
        planned("ollama", kv_type="q8_0", model="b"),
        planned("ollama", kv_type="q8_0", model="c", residency="on-demand"),
        planned("ollama", kv_type="q8_0", model="d", shares=(Share("gpu1", 900),)),
        planned("ollama", kv_type="q8_0", model="e"),
    )

    assert [one.models for one in servers(models, CARDS, no_image)] == [("some",), ("b", "e"), ("c",), ("d",)]


# --- in a plan -----------------------------------------------------------------------------------

BUNDLE = (
    Wish(role="llm", models=("chat",), context=8192, min_context=2048, may=()),
    Wish(role="code", models=("coder",), context=8192, min_context=2048, may=()),
    Wish(role="embeddings", models=("vectors",), may=()),
    Wish(role="whisper", models=("ears",), may=()),
)
SHELF = shelf_of(
    (
        decoder("chat", roles=("llm",), sizes_mib=(4000,)),
        decoder("coder", roles=("code",), sizes_mib=(3000,)),
        encoder("vectors", role="embeddings", size_mib=600),
        encoder("ears", role="whisper", size_mib=900, runtime="speaches"),
    ),
    BUNDLE,
)


def plan_of(facts: HostFacts, *overrides: str, first_port: int = 7990) -> Plan:
    """Plan the bundle."""
    request = Request("lab", first_port=first_port, overrides=parse_overrides(overrides, SHELF))
    return planned_on(facts, SHELF, request)


def test_ports_are_unique_and_in_the_order_of_roles() -> None:
    """Two models of one server have its one port."""
    plan = plan_of(make_host(cards=(device(),)), first_port=9000)

    assert [(one.name, one.port) for one in plan.servers] == [
        ("ollama-gpu0", 9000),
        ("model-vectors", 9001),
        ("speaches-gpu0", 9002),
    ]
    assert [one.port for one in plan.models] == [9000, 9000, 9001, 9002]


def test_a_role_that_goes_moves_no_port_before_it() -> None:
    """Ports are counted in the order of roles."""
    ports = {
        one.role: one.port for one in plan_of(make_host(cards=(device(),)), "whisper.residency=none").models
    }

    assert ports == {"llm": 7990, "code": 7990, "embeddings": 7991}


def test_every_planned_model_is_in_the_server_that_it_names() -> None:
    """And every server has members."""
    plan = plan_of(make_host(cards=(device(index=0, mib=6000), device(index=1, mib=8000))))
    members = {one.name: one.models for one in plan.servers}

    assert all(one.model in members[one.server] for one in plan.models)
    assert sum(len(one) for one in members.values()) == len(plan.models)


def test_devices_are_named_by_their_uuid() -> None:
    """Numbers move when a card is taken out."""
    plan = plan_of(make_host(cards=(device(index=0, mib=2000), device(index=1))), "llm.device=gpu1")
    server = next(one for one in plan.servers if "chat" in one.models)

    assert dict(server.settings)["CUDA_VISIBLE_DEVICES"] == "GPU-nvidia-1"


def test_an_amd_card_is_named_to_rocm() -> None:
    """By its number among AMD's devices."""
    plan = plan_of(make_host(cards=(device("amd"),)), "embeddings.residency=none", "whisper.residency=none")

    assert plan.servers[0].settings[0] == ("ROCR_VISIBLE_DEVICES", "0")


def test_an_amd_card_beside_an_nvidia_card_is_named_to_rocm() -> None:
    """And the server that runs there does not see the NVIDIA card."""
    facts = make_host(cards=(device("nvidia"), device("amd")))
    plan = plan_of(facts, "llm.device=gpu1", "code.device=gpu0")
    on_amd = dict(next(one for one in plan.servers if one.devices == ("gpu1",)).settings)
    on_nvidia = dict(next(one for one in plan.servers if "coder" in one.models).settings)

    assert on_amd["ROCR_VISIBLE_DEVICES"] == "0"
    assert on_amd["CUDA_VISIBLE_DEVICES"] == "-1"
    assert on_nvidia["CUDA_VISIBLE_DEVICES"] == "GPU-nvidia-0"
    assert on_nvidia.get("ROCR_VISIBLE_DEVICES", "-1") == "-1"


def split_reranker() -> Model:
    """Return a model that llama.cpp cuts over cards."""
    return Model(
        name="judge",
        title="judge",
        roles=("llm",),
        licence="MIT",
        sources=("made up",),
        attention=Attention(layers=40, kv_heads=8, head_dim=128, heads=32),
        context=8192,
        variants=(
            Variant(
                name="q8_0",
                runtimes=("llama.cpp",),
                repo=UnpinnedRepo(repo="made/judge", size_bytes=16000 << 20, unpinned="made up"),
            ),
        ),
    )


@pytest.mark.parametrize("sizes", [(16000, 8000), (8000, 16000)])
def test_a_split_is_written_in_the_order_in_which_the_cards_are_seen(sizes: tuple[int, int]) -> None:
    """The n-th number belongs to the n-th visible card: the larger card holds more layers."""
    cards = tuple(device(mib=size, index=at) for at, size in enumerate(sizes))
    shelf = shelf_of((split_reranker(),), (Wish(role="llm", models=("judge",), may=()),))

    found = dict(planned_on(make_host(cards=cards, memory_gib=1), shelf).servers[0].settings)

    seen = found["CUDA_VISIBLE_DEVICES"].split(",")
    layers = dict(zip(seen, map(int, found["--tensor-split"].split(",")), strict=True))
    large = f"GPU-nvidia-{sizes.index(max(sizes))}"
    assert layers[large] == max(layers.values())
    assert len(set(layers.values())) == 2
