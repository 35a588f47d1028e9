"""Which runtime can use which hardware: the table, read from outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import Accelerator, HostFacts, Jetson, RuntimeName, RuntimeOffer, Unknown
from tasks.plan.budget import Pool
from tasks.plan.support import BY_NAME, why_not
from tests.lab.bundles import RUNTIMES, SHIPPED, card_pool, main_pool
from tests.lab.hosts import device, make_host

X86 = make_host()
ARM = replace(X86, system=replace(X86.system, architecture="aarch64"))
ORIN = replace(ARM, jetson=Jetson("tegra234", "p3701-0005", "36.4.7", "6.2.1"))
THOR = replace(ARM, jetson=Jetson("tegra264", "p3834-0008", "38.2.0", "7.0"))
ORINS = device(capability="8.7")
PASCAL, TURING, AMPERE = (device(capability=one) for one in ("6.1", "7.5", "8.6"))
MAXWELL_1, VOLTA = device(capability="3.5"), device(capability="7.0")
SILENT = replace(AMPERE, compute_capability=Unknown("not told"))


def pool(one: Accelerator) -> Pool:
    """Return a device as a pool."""
    return replace(card_pool(0, 24576), device=one, title=one.name)


def refusal(runtime: RuntimeName, one: Pool, facts: HostFacts = X86, *, on_gpu: bool = True) -> str:
    """Return why a runtime cannot serve from some memory, or an empty text."""
    offer = RuntimeOffer(runtime, available=True)
    return why_not(offer, [one], facts=facts, catalogue=SHIPPED, on_gpu=on_gpu)


def usable(one: Accelerator, facts: HostFacts = X86) -> set[RuntimeName]:
    """Return the runtimes that can use a device."""
    return {name for name in RUNTIMES if not refusal(name, pool(one), facts)}


@pytest.mark.parametrize(
    ("one", "facts", "want"),
    [
        (AMPERE, X86, {"ollama", "llama.cpp", "tei", "vllm", "speaches"}),
        (TURING, X86, {"ollama", "llama.cpp", "tei", "vllm", "speaches"}),
        (VOLTA, X86, {"ollama", "llama.cpp", "speaches"}),
        (PASCAL, X86, {"ollama", "llama.cpp", "speaches"}),
        (MAXWELL_1, X86, set()),
        (device(capability="10.0"), X86, {"ollama", "llama.cpp", "tei", "vllm", "speaches"}),
        (SILENT, X86, {"ollama", "llama.cpp", "vllm", "speaches"}),
        (device("amd"), X86, {"ollama", "llama.cpp"}),
        (device("apple"), ARM, set()),
        (device("intel"), X86, set()),
        (ORINS, ORIN, {"ollama"}),
        (device(capability="11.0"), THOR, {"ollama", "llama.cpp"}),
        (AMPERE, ARM, {"ollama", "llama.cpp", "vllm"}),
        (device(capability="12.1"), ARM, {"ollama", "llama.cpp", "tei", "vllm"}),
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
        "orin",
        "thor",
        "arm",
        "gb10",
    ],
)
def test_runtimes_of_a_device(one: Accelerator, facts: HostFacts, want: set[RuntimeName]) -> None:
    """Versions are compared as numbers: 10.0 is after 7.5."""
    assert want == usable(one, facts)


def test_main_memory_serves_all_but_vllm() -> None:
    """The embedded runtime is for x86_64 alone."""
    on_x86 = {name for name in RUNTIMES if not refusal(name, main_pool(9000), on_gpu=False)}
    on_arm = {name for name in RUNTIMES if not refusal(name, main_pool(9000), ARM, on_gpu=False)}

    assert on_x86 == set(RUNTIMES) - {"vllm"}
    assert on_arm == on_x86 - {"embedded"}


@pytest.mark.parametrize(
    ("runtime", "one", "facts", "says"),
    [
        ("embedded", AMPERE, X86, "embedded uses no accelerator"),
        ("embedded", AMPERE, ARM, "embedded is not built for aarch64"),
        ("vllm", PASCAL, X86, "vLLM needs compute capability 7.5 and nvidia card 0 has 6.1"),
    ],
)
def test_a_refusal_says_what_is_needed_and_what_is_here(
    runtime: RuntimeName, one: Accelerator, facts: HostFacts, says: str
) -> None:
    """With both versions where two are compared."""
    assert says == refusal(runtime, pool(one), facts)


def test_an_old_jetson_still_serves_from_main_memory() -> None:
    """Its CPU needs no CUDA."""
    old = replace(ARM, jetson=Jetson("tegra194", "p2888-0004", "32.7.4", "4.6.4"))

    assert refusal("ollama", main_pool(9000), old, on_gpu=False) == ""
    assert refusal("llama.cpp", main_pool(9000), old, on_gpu=False) == ""


def test_a_card_without_a_device_is_no_accelerator() -> None:
    """Main memory has none."""
    assert refusal("ollama", main_pool(9000)) == "ollama uses no accelerator"


def test_a_server_that_already_runs_needs_no_image() -> None:
    """What it can use is what its owner set up."""
    theirs = RuntimeOffer("ollama", available=True, external="http://127.0.0.1:11434")

    for one in (device("apple"), device("intel"), MAXWELL_1):
        assert why_not(theirs, [pool(one)], facts=X86, catalogue=SHIPPED, on_gpu=True) == ""


def test_only_ollama_swaps_and_only_vllm_cuts_tensors() -> None:
    """What a runtime does with several models or cards."""
    assert [name for name in RUNTIMES if BY_NAME[name].swaps] == ["ollama"]
    assert [name for name in RUNTIMES if BY_NAME[name].splits_tensors] == ["vllm"]
    assert [name for name in RUNTIMES if BY_NAME[name].splits_layers] == ["ollama", "llama.cpp"]
    assert [name for name in RUNTIMES if BY_NAME[name].kv_types] == ["ollama", "llama.cpp"]
