"""Which image serves a runtime on which hardware, and the sentence where none does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from flows.planning import answering
from tasks.contracts import (
    Accelerator,
    EngineGpu,
    HostFacts,
    Image,
    Jetson,
    Plan,
    Reach,
    RuntimeName,
    StoreView,
    Unknown,
)
from tasks.detect.replay import read_case, replay
from tasks.errors import ProvisionError
from tasks.plan.choose import make_plan
from tasks.plan.images import choose, mending, withheld
from tasks.plan.offers import offers
from tasks.plan.request import AUTO, Request
from tests.lab.bundles import SHIPPED
from tests.lab.hosts import device, make_host

HOSTS = sorted((Path(__file__).parent.parent / "cases" / "hosts").glob("*.json"))
X86 = make_host()
ARM = replace(X86, system=replace(X86.system, architecture="aarch64"))
TEI = "ghcr.io/huggingface/text-embeddings-inference"
LLAMA = "ghcr.io/ggml-org/llama.cpp"
X86_COMPUTE = "compute capability 7.5, 8.0, 8.6, 8.9, 9.0, 10.0 and 12.0"
OLD_JETPACK = "JetPack 4 has CUDA 10.2, and no image here is built for anything older than JetPack 5"
NO_RELEASE = "there is no /etc/nv_tegra_release"
SPEACHES = "ghcr.io/speaches-ai/speaches"


def jetson(l4t: str | Unknown) -> HostFacts:
    """Return a Jetson with that system software."""
    return replace(ARM, jetson=Jetson("tegra234", "p3701-0005", l4t, Unknown("not told")))


def card(capability: str = "8.6", driver: str | Unknown = "580.142") -> Accelerator:
    """Return an NVIDIA card."""
    return replace(device(capability=capability), driver=driver)


def chosen(runtime: RuntimeName, *devices: Accelerator, facts: HostFacts = X86) -> Image | str:
    """Choose among the shipped images."""
    return choose(runtime, devices, facts=facts, catalogue=SHIPPED)


def reference(runtime: RuntimeName, *devices: Accelerator, facts: HostFacts = X86) -> str:
    """Return the reference of the image, or the sentence why there is none."""
    found = chosen(runtime, *devices, facts=facts)
    return found if isinstance(found, str) else found.reference


@pytest.mark.parametrize(
    ("runtime", "devices", "facts", "want"),
    [
        ("ollama", (), X86, "ollama/ollama:0.33.3"),
        ("ollama", (card(),), X86, "ollama/ollama:0.33.3"),
        ("ollama", (card("6.1"),), X86, "ollama/ollama:0.33.3"),
        ("ollama", (card("7.0", "550.54"),), X86, "ollama/ollama:0.33.3"),
        ("ollama", (device("amd"),), X86, "ollama/ollama:0.33.3-rocm"),
        ("llama.cpp", (), ARM, f"{LLAMA}:server-b11206"),
        ("llama.cpp", (card(),), X86, f"{LLAMA}:server-cuda-b11206"),
        ("llama.cpp", (card("8.6"), card("8.9")), X86, f"{LLAMA}:server-cuda-b11206"),
        ("llama.cpp", (card("12.1"),), ARM, f"{LLAMA}:server-cuda13-b11206"),
        ("llama.cpp", (device("amd"),), X86, f"{LLAMA}:server-rocm-b11277"),
        ("tei", (), X86, f"{TEI}:cpu-1.9.3"),
        ("tei", (), ARM, f"{TEI}:cpu-arm64-1.9.3"),
        ("tei", (card("7.5"),), X86, f"{TEI}:turing-1.9.3"),
        ("tei", (card("8.0", "535.104"),), X86, f"{TEI}:1.9.3"),
        ("tei", (card("8.6"),), X86, f"{TEI}:86-1.9.3"),
        ("tei", (card("8.9"),), X86, f"{TEI}:89-1.9.3"),
        ("tei", (card("9.0"),), X86, f"{TEI}:hopper-1.9.3"),
        ("tei", (card("10.0"),), X86, f"{TEI}:100-1.9.3"),
        ("tei", (card("12.0"),), X86, f"{TEI}:120-1.9.3"),
        ("tei", (card("12.1"),), ARM, f"{TEI}:121-1.9.3"),
        ("vllm", (card(),), X86, "vllm/vllm-openai:v0.27.1"),
        ("vllm", (card("9.0", "560.35"),), X86, "vllm/vllm-openai:v0.27.1-cu129"),
        ("vllm", (card("8.9", "575.64"),), X86, "vllm/vllm-openai:v0.27.1-cu129"),
        ("vllm", (card("12.1"),), ARM, "vllm/vllm-openai:v0.27.1"),
        ("speaches", (), ARM, f"{SPEACHES}:0.9.0-rc.3-cpu"),
        ("speaches", (card(),), X86, f"{SPEACHES}:0.9.0-rc.3-cuda"),
        ("speaches", (card("8.9", "565.57"),), X86, f"{SPEACHES}:0.9.0-rc.3-cuda-12.6.3"),
        ("speaches", (card("9.0", "565.57"),), X86, f"{SPEACHES}:0.9.0-rc.3-cuda"),
    ],
)
def test_the_first_image_that_fits(
    runtime: RuntimeName, devices: tuple[Accelerator, ...], facts: HostFacts, want: str
) -> None:
    """By accelerator, processor, compute capability and driver."""
    assert reference(runtime, *devices, facts=facts) == want


@pytest.mark.parametrize(
    ("runtime", "devices", "facts", "says"),
    [
        ("ollama", (device("intel"),), X86, "no image here serves models on intel card 0"),
        ("ollama", (device("apple"),), ARM, "no image here serves models on apple card 0"),
        ("tei", (device("amd"),), X86, "text-embeddings-inference has no image for amd card 0"),
        ("vllm", (), X86, "vLLM has no image for a CPU"),
        ("vllm", (device("amd"),), X86, "vLLM has no image for amd card 0"),
        ("vllm", (card("8.7"),), jetson("36.4.7"), "vLLM has no image for a Jetson"),
        (
            "llama.cpp",
            (device("amd"),),
            ARM,
            "llama.cpp's image for ROCm is for x86_64, and this host is aarch64",
        ),
        (
            "speaches",
            (card(),),
            ARM,
            "faster-whisper's image for CUDA is for x86_64, and this host is aarch64",
        ),
        (
            "ollama",
            (card("3.5"),),
            X86,
            "Ollama needs compute capability 5.0 and nvidia card 0 has 3.5",
        ),
        (
            "tei",
            (card("7.0"),),
            X86,
            f"text-embeddings-inference has images for {X86_COMPUTE}, and nvidia card 0 has 7.0",
        ),
        (
            "ollama",
            (card("8.6", "535.104"),),
            X86,
            "Ollama's image needs driver 550 and nvidia card 0 has 535.104",
        ),
        (
            "ollama",
            (card("6.1", "560.35"),),
            X86,
            "Ollama's image needs driver 570 and nvidia card 0 has 560.35",
        ),
        (
            "vllm",
            (card("8.9", "560.35"),),
            X86,
            "vLLM's image needs driver 575 and nvidia card 0 has 560.35",
        ),
        (
            "llama.cpp",
            (card(), card("8.9", "560.35")),
            X86,
            "llama.cpp's image needs driver 570 and nvidia card 0 has 560.35",
        ),
        (
            "llama.cpp",
            (card("8.7"),),
            jetson("36.4.7"),
            "llama.cpp's image for a Jetson is for L4T 38 and 39, and this board has L4T 36",
        ),
        (
            "llama.cpp",
            (card("8.7"),),
            jetson("39.2.0"),
            "llama.cpp has images for compute capability 11.0, and nvidia card 0 has 8.7",
        ),
        (
            "ollama",
            (card("5.3"),),
            jetson("32.7.2"),
            f"{OLD_JETPACK}, and this board has L4T 32.7.2",
        ),
        (
            "ollama",
            (card("8.7"),),
            jetson("41.1.0"),
            "this version does not know L4T 41, only 35, 36, 38 and 39",
        ),
        (
            "ollama",
            (card("8.7"),),
            jetson(Unknown(NO_RELEASE)),
            f"which L4T the board has is not known ({NO_RELEASE}), so no image can be chosen for its GPU",
        ),
    ],
)
def test_the_sentence_where_none_fits(
    runtime: RuntimeName, devices: tuple[Accelerator, ...], facts: HostFacts, says: str
) -> None:
    """What is needed stands beside what is here."""
    assert reference(runtime, *devices, facts=facts) == says


def test_what_is_not_known_passes_but_where_images_differ_by_it() -> None:
    """One image that is for many cards is taken; among images for one kind each, none can be."""
    silent = replace(device(), compute_capability=Unknown("not told"), driver=Unknown("not told"))

    assert reference("ollama", silent) == "ollama/ollama:0.33.3"
    assert reference("llama.cpp", silent) == f"{LLAMA}:server-cuda-b11206"
    assert reference("tei", silent).endswith("12.0, and which nvidia card 0 has is not known")


@pytest.mark.parametrize(
    ("l4t", "environment"),
    [
        ("35.4.1", {"JETSON_JETPACK": "5"}),
        ("36.4.7", {"JETSON_JETPACK": "6"}),
        ("38.2.0", {}),
        ("39.2.0", {}),
    ],
)
def test_a_jetson_image_is_told_its_jetpack(l4t: str, environment: dict[str, str]) -> None:
    """JetPack 7 needs to be told nothing; on the CPU, no image is told either."""
    found = chosen("ollama", card("8.7"), facts=jetson(l4t))
    on_cpu = chosen("ollama", facts=jetson(l4t))

    assert isinstance(found, Image)
    assert found.environment == environment
    assert isinstance(on_cpu, Image)
    assert (on_cpu.accelerator, on_cpu.environment) == ("cpu", {})


def test_other_names_of_a_processor_are_the_same() -> None:
    """MacOS says arm64, and Docker amd64."""
    for name, want in (("arm64", "cpu-arm64-1.9.3"), ("amd64", "cpu-1.9.3")):
        facts = replace(X86, system=replace(X86.system, architecture=name))
        assert reference("tei", facts=facts) == f"{TEI}:{want}"


# --- the engine ----------------------------------------------------------------------------------


def engine(detail: str = "version 28", style: str = "cdi", *, answers: bool = True) -> HostFacts:
    """Return a host with an NVIDIA card and an engine."""
    facts = make_host(cards=(card(),))
    reach = Reach("container engine", "unix:///docker.sock", answers=answers, detail=detail)
    gpu = EngineGpu(style, "the hook is missing")  # type: ignore[arg-type]  # a style
    return replace(facts, container_engine=reach, engine_gpu=gpu)


@pytest.mark.parametrize(
    ("facts", "one", "says"),
    [
        (engine(), card(), ""),
        (engine(style="gpus"), card(), ""),
        (engine(style="unknown"), card(), ""),
        (
            engine(style="none"),
            card(),
            "the container engine cannot hand out nvidia card 0 (the hook is missing)",
        ),
        (engine(style="none"), device("amd"), ""),
        (
            engine("podman version 5"),
            card(),
            "podman hands nvidia card 0 to no container: it drops the request without a word",
        ),
        (
            engine("podman version 5"),
            device("amd"),
            "podman hands amd card 0 to no container: it drops the request without a word",
        ),
    ],
)
def test_what_an_engine_hands_out(facts: HostFacts, one: Accelerator, says: str) -> None:
    """An AMD card needs only its files; Podman takes a request and drops it."""
    assert withheld([one], facts) == says


def test_what_would_mend_it() -> None:
    """Once for all cards, and only where an engine answers."""
    (toolkit,) = mending(engine(style="none"))
    (docker,) = mending(engine("podman version 5"))

    assert toolkit.startswith("The container engine cannot hand out nvidia card 0 (the hook is missing). ")
    assert "nvidia-container-toolkit" in toolkit
    assert docker.endswith("Point DOCKER_HOST to a Docker engine to use it.")
    assert list(mending(engine())) == []
    assert list(mending(engine(style="none", answers=False))) == []
    assert list(mending(replace(engine(style="none"), accelerators=Unknown("not told")))) == []


def test_cards_that_no_container_gets_are_not_planned_on() -> None:
    """The plan says why and what mends it, and a role that moved to the CPU for it has changed."""
    made = plan_of(engine(style="none"), "rtx-3090-ti")
    assert made is not None
    moved = [one for one in made.decisions if one.residency == "cpu"]

    assert {one.device for one in made.models} == {"cpu"}
    assert moved
    assert {one.verdict for one in moved} == {"changed"}
    assert all("cannot hand out nvidia card 0" in one.why for one in made.decisions if one.model is None)
    assert any("nvidia-container-toolkit" in line for line in made.advice)


# --- every plan ----------------------------------------------------------------------------------


def plan_of(facts: HostFacts, profile: str) -> Plan | None:
    """Plan a host with what it offers, or return None where it is refused."""
    there = answering(facts)
    request = Request(profile, accept_risk=profile != AUTO)
    try:
        return make_plan(there, SHIPPED, offers=offers(there), store=StoreView("/store", {}), request=request)
    except ProvisionError:
        return None


def fits(image: Image, devices: list[Accelerator], facts: HostFacts) -> bool:
    """Say whether an image is for all devices, by rules that share nothing with the chooser."""
    if facts.system.architecture.replace("arm64", "aarch64") not in image.architectures:
        return False
    if not devices:
        return image.accelerator == "cpu"
    vendors = {one.vendor for one in devices}
    nvidia = "jetson" if facts.jetson else "cuda"
    if vendors != {"nvidia" if image.accelerator in {"cuda", "jetson"} else "amd"}:
        return False
    if "nvidia" in vendors and image.accelerator != nvidia:
        return False
    return all(_built(image, one) for one in devices if one.vendor == "nvidia")


def _built(image: Image, one: Accelerator) -> bool:
    has = one.compute_capability
    if isinstance(has, Unknown):
        return not image.compute
    return has in image.compute if image.compute else float(has) >= float(image.least_compute or 0)


@pytest.mark.parametrize("case", HOSTS, ids=lambda path: path.stem)
def test_every_placed_model_has_an_image_that_fits(case: Path) -> None:
    """Of every captured host, with its own profile and with a large and a small one."""
    facts = replay(read_case(case), host=case.stem)
    seen = facts.accelerators if isinstance(facts.accelerators, tuple) else ()
    cards = [one for one in seen if not isinstance(one.memory_total_bytes, Unknown)]
    named = {f"gpu{at}": one for at, one in enumerate(cards)}
    for profile in (AUTO, "dual-gpu", "cpu-only"):
        made = plan_of(facts, profile)
        for one in made.servers if made else ():
            theirs = one.runtime == "embedded" or one.external
            assert (one.image is None) == bool(theirs), (profile, one.name)
            if one.image is not None:
                assert one.image.runtime == one.runtime
                assert fits(one.image, [named[name] for name in one.devices if name != "cpu"], facts), one


def test_a_planned_image_is_that_of_the_catalogue() -> None:
    """What a Jetson adds aside."""
    made = plan_of(make_host(cards=(card(),)), "rtx-3090-ti")
    assert made is not None

    for one in made.servers:
        assert one.image is None or one.image in SHIPPED.images
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made
