"""Which runtime can use which hardware: the table, read from outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import Accelerator, HostFacts, Jetson, RuntimeName, Unknown
from tasks.plan.budget import Pool
from tasks.plan.support import BY_NAME, why_not
from tests.lab.bundles import RUNTIMES, card_pool, main_pool
from tests.lab.hosts import device, make_host

X86 = make_host()
ARM = replace(X86, system=replace(X86.system, architecture="aarch64"))
ORIN = replace(ARM, jetson=Jetson("tegra234", "p3701-0005", "36.4.7", "6.2.1"))
PASCAL, TURING, AMPERE = (device(capability=one) for one in ("6.1", "7.5", "8.6"))
MAXWELL_1, VOLTA = device(capability="3.5"), device(capability="7.0")
SILENT = replace(AMPERE, compute_capability=Unknown("not told"))


def pool(one: Accelerator) -> Pool:
    """Return a device as a pool."""
    return replace(card_pool(0, 24576), device=one, title=one.name)


def usable(one: Accelerator, facts: HostFacts = X86) -> set[RuntimeName]:
    """Return the runtimes that can use a device."""
    return {name for name in RUNTIMES if not why_not(name, pool(one), facts, on_gpu=True)}


@pytest.mark.parametrize(
    ("one", "facts", "want"),
    [
        (AMPERE, X86, {"ollama", "llama.cpp", "tei", "vllm", "speaches"}),
        (TURING, X86, {"ollama", "llama.cpp", "tei", "vllm", "speaches"}),
        (VOLTA, X86, {"ollama", "llama.cpp", "vllm", "speaches"}),
        (PASCAL, X86, {"ollama", "llama.cpp", "speaches"}),
        (MAXWELL_1, X86, set()),
        (device(capability="10.0"), X86, {"ollama", "llama.cpp", "tei", "vllm", "speaches"}),
        (SILENT, X86, {"ollama", "llama.cpp", "tei", "vllm", "speaches"}),
        (device("amd"), X86, {"ollama", "llama.cpp"}),
        (device("apple"), ARM, {"ollama", "llama.cpp"}),
        (device("intel"), X86, set()),
        (AMPERE, ORIN, {"ollama", "llama.cpp"}),
        (AMPERE, ARM, {"ollama", "llama.cpp", "tei", "vllm"}),
    ],
    ids=[
        "ampere",
        "turing",
        "volta",
        "pascal",
        "kepler",
        "blackwell",
        "silent",
        "amd",
        "apple",
        "intel",
        "jetson",
        "arm",
    ],
)
def test_runtimes_of_a_device(one: Accelerator, facts: HostFacts, want: set[RuntimeName]) -> None:
    """Versions are compared as numbers: 10.0 is after 7.5."""
    assert want == usable(one, facts)


def test_main_memory_serves_all_but_vllm() -> None:
    """The embedded runtime is for x86_64 alone."""
    on_x86 = {name for name in RUNTIMES if not why_not(name, main_pool(9000), X86, on_gpu=False)}
    on_arm = {name for name in RUNTIMES if not why_not(name, main_pool(9000), ARM, on_gpu=False)}

    assert on_x86 == set(RUNTIMES) - {"vllm"}
    assert on_arm == on_x86 - {"embedded"}


@pytest.mark.parametrize(
    ("runtime", "one", "facts", "says"),
    [
        (
            "tei",
            PASCAL,
            X86,
            "text-embeddings-inference needs compute capability 7.5 and nvidia card 0 has 6.1",
        ),
        ("vllm", PASCAL, X86, "vLLM needs compute capability 7.0 and nvidia card 0 has 6.1"),
        (
            "ollama",
            MAXWELL_1,
            X86,
            "CUDA in llama.cpp needs compute capability 5.0 and nvidia card 0 has 3.5",
        ),
        ("ollama", device("intel"), X86, "no image here serves models on intel card 0"),
        ("tei", device("amd"), X86, "text-embeddings-inference has no image for amd card 0"),
        ("vllm", device("amd"), X86, "vLLM is used on NVIDIA cards alone here, and this is amd card 0"),
        ("speaches", device("apple"), ARM, "faster-whisper has no GPU build for apple card 0"),
        ("speaches", AMPERE, ORIN, "faster-whisper's wheels for arm64 are for the CPU alone"),
        ("tei", AMPERE, ORIN, "text-embeddings-inference has no image for a Jetson"),
        ("vllm", AMPERE, ORIN, "vLLM's own images are not for a Jetson"),
        ("embedded", AMPERE, X86, "embedded uses no accelerator"),
        ("embedded", AMPERE, ARM, "embedded is not built for aarch64"),
    ],
)
def test_a_refusal_says_what_is_needed_and_what_is_here(
    runtime: RuntimeName, one: Accelerator, facts: HostFacts, says: str
) -> None:
    """With both versions where two are compared."""
    assert says == why_not(runtime, pool(one), facts, on_gpu=True)


@pytest.mark.parametrize(
    ("l4t", "passes"),
    [
        ("32.7.4", False),
        ("34.1.1", False),
        ("35.1.0", True),
        ("35.6.1", True),
        ("36.4.7", True),
        ("100.1", True),
        ("", True),
        ("R-next", True),
        (Unknown("there is no /etc/nv_tegra_release"), True),
    ],
    ids=str,
)
def test_a_jetson_before_jetpack_5_is_refused(l4t: str | Unknown, passes: bool) -> None:  # noqa: FBT001  # a column
    """L4T 35 is the oldest that llama.cpp's images have CUDA for; what is not known passes."""
    jetson = Jetson("tegra194", "p2888-0004", l4t, Unknown("not told"))
    says = {name: why_not(name, pool(AMPERE), replace(ARM, jetson=jetson), on_gpu=True) for name in RUNTIMES}

    refusal = "its images have CUDA for JetPack 5 and later, and this board has an older one"
    assert (says["ollama"], says["llama.cpp"]) == (("", "") if passes else (refusal, refusal))
    assert all(says[name] for name in ("tei", "vllm", "speaches"))


def test_an_old_jetson_still_serves_from_main_memory() -> None:
    """Its CPU needs no CUDA."""
    old = replace(ARM, jetson=Jetson("tegra194", "p2888-0004", "32.7.4", "4.6.4"))

    assert why_not("ollama", main_pool(9000), old, on_gpu=False) == ""
    assert why_not("llama.cpp", main_pool(9000), old, on_gpu=False) == ""


def test_a_card_without_a_device_is_no_accelerator() -> None:
    """Main memory has none."""
    assert why_not("ollama", main_pool(9000), X86, on_gpu=True) == "ollama uses no accelerator"


def test_only_ollama_swaps_and_only_vllm_cuts_tensors() -> None:
    """What a runtime does with several models or cards."""
    assert [name for name in RUNTIMES if BY_NAME[name].swaps] == ["ollama"]
    assert [name for name in RUNTIMES if BY_NAME[name].splits_tensors] == ["vllm"]
    assert [name for name in RUNTIMES if BY_NAME[name].splits_layers] == ["ollama", "llama.cpp"]
    assert [name for name in RUNTIMES if BY_NAME[name].kv_types] == ["ollama", "llama.cpp"]
