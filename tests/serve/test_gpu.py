"""How a container gets the devices of the plan, from what the engine says of itself."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tasks.contracts import Accelerator, EngineGpu, GpuAccess, GpuStyle, HostFacts, Jetson, Limits, Unknown
from tasks.effects.containers.info import EngineInfo
from tasks.errors import ServeError
from tasks.plan.budget import pools
from tasks.plan.request import Request
from tasks.serve.gpu import access, named
from tests.lab.hosts import device, main_memory, make_host, shared_device

INFO = EngineInfo("28.0.0")
TWO = (device(index=0), device(index=1))
NAMELESS = replace(device(), uuid=Unknown("the driver is too old"))


def host(*cards: Accelerator, style: GpuStyle = "gpus", jetson: bool = False) -> HostFacts:
    """Return a host whose engine hands out GPUs in some style."""
    made = make_host(cards=cards)
    chip = Jetson("tegra234", "p3767-0005", "36.4", "6.2") if jetson else None
    return replace(made, engine_gpu=EngineGpu(style, "the toolkit is not installed"), jetson=chip)


@pytest.mark.parametrize(
    ("known", "names"),
    [
        (
            ("nvidia.com/gpu=GPU-nvidia-1", "nvidia.com/gpu=1", "nvidia.com/gpu=all"),
            "nvidia.com/gpu=GPU-nvidia-1",
        ),
        (("nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"), "nvidia.com/gpu=1"),
        (("nvidia.com/gpu=all",), "nvidia.com/gpu=all"),
        ((), "nvidia.com/gpu=all"),
    ],
    ids=["by uuid", "by number", "all", "a list that is not told"],
)
def test_cdi(known: tuple[str, ...], names: str) -> None:
    """The most exact name that the engine knows."""
    made = access(["gpu1"], host(*TWO, style="cdi"), replace(INFO, devices=known))

    assert GpuAccess("cdi", (names,)) == made


def test_cdi_names_are_of_one_kind() -> None:
    """Where one card of two is not known by UUID, both go by number."""
    known = ("nvidia.com/gpu=GPU-nvidia-0", "nvidia.com/gpu=0", "nvidia.com/gpu=1")

    made = access(["gpu0", "gpu1"], host(*TWO, style="cdi"), replace(INFO, devices=known))

    assert ("nvidia.com/gpu=0", "nvidia.com/gpu=1") == made.devices


def test_device_requests_name_uuids() -> None:
    """Numbers move when a card is added."""
    assert GpuAccess("gpus", ("GPU-nvidia-1", "GPU-nvidia-0")) == access(["gpu1", "gpu0"], host(*TWO), INFO)


def test_a_driver_without_uuids_hands_out_all() -> None:
    """The server's own variables choose then."""
    assert GpuAccess("gpus", ("all",)) == access(["gpu0"], host(NAMELESS), INFO)


@pytest.mark.parametrize(("jetson", "names"), [(True, "all"), (False, "GPU-nvidia-0")])
def test_the_runtime(names: str, *, jetson: bool) -> None:
    """A Jetson has one GPU, and its runtime knows no UUID."""
    facts = host(device(), style="runtime", jetson=jetson)

    assert GpuAccess("runtime", (names,)) == access(["gpu0"], facts, INFO)


def test_cards_of_amd_are_files() -> None:
    """Whatever the engine says of NVIDIA's."""
    facts = host(device("amd"), style="none")

    assert GpuAccess("none", ("/dev/kfd", "/dev/dri")) == access(["gpu0"], facts, INFO)


@pytest.mark.parametrize("style", ["cdi", "gpus", "runtime", "none", "unknown"])
def test_a_server_in_main_memory_gets_nothing(style: GpuStyle) -> None:
    """Not even where there are cards."""
    assert GpuAccess() == access(["cpu"], host(*TWO, style=style), INFO)


@pytest.mark.parametrize("style", ["none", "unknown"])
def test_an_engine_that_cannot_says_why(style: GpuStyle) -> None:
    """With what to install."""
    with pytest.raises(
        ServeError, match=r"cannot hand out nvidia card 0 \(the toolkit is not installed\)"
    ) as raised:
        access(["gpu0"], host(device(), style=style), INFO)

    assert "NVIDIA Container Toolkit" in raised.value.then


@pytest.mark.parametrize("vendor", ["nvidia", "amd"])
def test_podman_is_refused(vendor: str) -> None:
    """It would start a container without the card, which then computes on the CPU."""
    with pytest.raises(ServeError, match="podman does not hand"):
        access(["gpu0"], host(device(vendor), style="cdi"), replace(INFO, podman=True))  # type: ignore[arg-type]


def test_podman_serves_in_main_memory() -> None:
    """There it loses nothing."""
    assert GpuAccess() == access(["cpu"], host(device()), replace(INFO, podman=True))


def test_a_card_of_another_maker_is_refused() -> None:
    """It is not asked for under NVIDIA's name."""
    with pytest.raises(ServeError, match="intel card 0 cannot be handed to a container"):
        access(["gpu0"], host(device("intel"), style="cdi"), INFO)


@pytest.mark.parametrize(
    ("cards", "has"), [(TWO, "gpu0, gpu1"), ((), "none"), (Unknown("no driver"), "none")]
)
def test_a_card_that_is_gone_is_named(cards: tuple[Accelerator, ...] | Unknown, has: str) -> None:
    """And what there is instead."""
    facts = replace(host(), accelerators=cards)

    with pytest.raises(
        ServeError, match=rf"the plan has gpu2, which this host does not have \(it has {has}\)"
    ):
        access(["gpu2"], facts, INFO)


KINDS = (
    device(),
    replace(device(index=1), memory_total_bytes=Unknown("it is asleep")),
    shared_device("nvidia", main_memory(8192)),
    shared_device("amd", main_memory(8192)),
)


@pytest.mark.parametrize("count", range(5))
def test_names_are_those_of_the_planner(count: int) -> None:
    """Every host of up to four devices: a plan's "gpu1" is the same device here."""
    for cards in itertools.product(KINDS, repeat=count):
        facts = make_host(cards=cards)
        planned = pools(facts, Limits(), Request("auto")).pools

        assert {one.name: one.device for one in planned if one.device} == named(facts)


def test_names_are_those_of_the_planner_on_many_cards() -> None:
    """Those that are not planned on keep their numbers."""
    facts = make_host(cards=tuple(device(index=place, mib=8192 + 1024 * (place % 3)) for place in range(20)))
    planned = {one.name: one.device for one in pools(facts, Limits(), Request("auto")).pools if one.device}

    assert planned.items() <= named(facts).items()
