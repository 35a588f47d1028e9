"""What a server takes of cards, and of main memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import Need, PlannedModel, Residency, RuntimeName, Share
from tasks.plan.budget import Pools
from tasks.plan.taken import HOST_BYTES, device_bytes, memory_bytes, shares, taken
from tests.lab.bundles import card_pool, main_pool

CARDS = Pools((card_pool(0, 24000), card_pool(1, 24000), main_pool(64000)))
SHARED = Pools((replace(card_pool(0, 24000), main=True),))
WEIGHTS = 600


def model(
    runtime: RuntimeName, *shares: Share, residency: Residency = "resident", weights: int = WEIGHTS
) -> PlannedModel:
    """Return a model that lies on some devices."""
    return PlannedModel(
        role="llm",
        model="some",
        runtime=runtime,
        residency=residency,
        device="+".join(one.device for one in shares),
        port=0,
        memory_bytes=sum(one.memory_bytes for one in shares),
        memory_measured=False,
        download_bytes=0,
        devices=shares,
        need=Need(weights),
    )


def test_residents_add_up_and_those_that_take_turns_do_not() -> None:
    """On each device by itself."""
    turns = [
        model("ollama", Share("gpu0", 500), Share("gpu1", 100), residency="on-demand"),
        model("ollama", Share("gpu0", 300), Share("gpu1", 400), residency="on-demand"),
    ]
    stays = [model("ollama", Share("gpu0", 70)), model("ollama", Share("gpu0", 30))]

    assert taken(stays) == {"gpu0": 100}
    assert taken(turns) == {"gpu0": 500, "gpu1": 400}
    assert taken([*turns, *stays]) == {"gpu0": 600, "gpu1": 400}
    assert device_bytes(turns, CARDS) == 900


def test_on_the_cpu_it_is_what_the_models_take() -> None:
    """And nothing of a card."""
    models = [model("ollama", Share("cpu", 500)), model("ollama", Share("cpu", 300))]

    assert (memory_bytes(models, CARDS), device_bytes(models, CARDS)) == (800, 0)


@pytest.mark.parametrize(
    ("runtime", "through"), [("ollama", 0), ("llama.cpp", 0), ("vllm", 0), ("tei", 600), ("speaches", 600)]
)
def test_on_a_card_it_is_the_process_and_what_passes_through(runtime: RuntimeName, through: int) -> None:
    """Some read their weights into main memory first: the largest, not all of them."""
    models = [model(runtime, Share("gpu0", 900)), model(runtime, Share("gpu0", 100), weights=50)]

    assert memory_bytes(models, CARDS) == HOST_BYTES[runtime] + through
    assert device_bytes(models, CARDS) == 1000


def test_each_card_has_a_process() -> None:
    """As tensor parallelism starts them."""
    one = model("vllm", Share("gpu0", 900), Share("gpu1", 900))

    assert memory_bytes([one], CARDS) == 2 * HOST_BYTES["vllm"]


def test_a_device_that_shares_main_memory_counts_as_both() -> None:
    """The container may take what the models do, and its process besides."""
    one = model("ollama", Share("gpu0", 900))

    assert memory_bytes([one], SHARED) == 900 + HOST_BYTES["ollama"]
    assert device_bytes([one], SHARED) == 900


def test_every_runtime_has_its_figure() -> None:
    """Those that are not containers of ours are given nothing."""
    assert {name for name, size in HOST_BYTES.items() if not size} == {"embedded", "external"}


def test_a_server_says_what_it_takes_of_each_device() -> None:
    """What the serve stage holds against what is free."""
    members = [model("ollama", Share("gpu0", 500), Share("gpu1", 100)), model("ollama", Share("gpu1", 50))]

    assert (Share("gpu0", 500), Share("gpu1", 150)) == shares(members)
