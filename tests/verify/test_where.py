"""A model that does not lie where it is planned is refused or recorded; what cannot be seen is a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.contracts import Accelerator, DeviceProcess, Held, OllamaTag, Unknown
from tasks.effects.http import Reply
from tasks.verify.where.look import named
from tests.lab.answering import Model, reply

GIB = 1 << 30
CARD = Accelerator("nvidia", "RTX", "GPU-0", 24 * GIB, 20 * GIB, "8.6", "580", index=0)
UNREAD = replace(CARD, name="Orin", memory_total_bytes=Unknown("[N/A]"))
SHARED = replace(CARD, name="Thor", unified=True)
OLLAMA = {
    "role": "llm",
    "model": "m",
    "runtime": "ollama",
    "device": "gpu0",
    "context": 8192,
    "ollama": OllamaTag(tag="m", size_bytes=5 * GIB),
    "weights": None,
    "light": True,
    "memory_bytes": 5 * GIB,
}
RERANKER = {"role": "reranker", "model": "m", "runtime": "vllm", "device": "gpu0", "light": True}
LLAMA = {**RERANKER, "runtime": "llama.cpp"}


def holds(card: Accelerator, *processes: tuple[int, int | Unknown]) -> Accelerator:
    """Return a card with these processes on it."""
    return replace(card, processes=tuple(DeviceProcess(*one) for one in processes))


def loaded(size: int, vram: int, context: int = 8192) -> Model:
    """Return an Ollama that has loaded its model so."""
    model = Model()
    model.loaded = {"size": size * GIB, "size_vram": vram * GIB, "context_length": context}
    return model


@pytest.mark.parametrize("name", ["m", "m:latest"])
def test_ollama_with_all_of_it_on_the_gpu(checked: Callable[..., object], name: str) -> None:
    """Its own figures say so."""
    model = loaded(5, 5)
    model.names = ["m:latest", "m"]
    made = checked(model, **{**OLLAMA, "model": name})

    assert 5 * GIB == made.memory_bytes
    assert (Held("gpu0", 5 * GIB, "Ollama's /api/ps"),) == made.held
    assert "" == made.degraded


@pytest.mark.parametrize(
    ("model", "device", "wrong"),
    [
        (loaded(5, 3), "gpu0", "has 2.0 GiB in main memory (3.0 GiB of 5.0 GiB are on GPUs)"),
        (loaded(5, 0), "gpu0", "is not on a GPU (0 bytes of 5.0 GiB are on GPUs)"),
        (loaded(5, 0), "gpu0+gpu1", "is not on a GPU"),
        (loaded(5, 5), "cpu", "has 5.0 GiB on a GPU and is planned in main memory"),
    ],
)
def test_ollama_elsewhere(
    checked: Callable[..., object], refused: Callable[..., str], model: Model, device: str, wrong: str
) -> None:
    """It is refused, or recorded where the profile says so."""
    assert wrong in refused(model, **{**OLLAMA, "device": device})

    degraded = checked(model, **{**OLLAMA, "device": device}, misplaced="degrade")

    assert wrong in degraded.degraded
    assert 5 * GIB == degraded.memory_bytes


def test_ollama_with_a_small_context_is_refused(refused: Callable[..., str]) -> None:
    """That is no matter of the place, so it does not serve as degraded either."""
    sentence = refused(loaded(5, 5, context=4096), **OLLAMA, misplaced="degrade")

    assert "how many tokens does the server take? expected 8,192 or more, got 4,096" in sentence


@pytest.mark.parametrize(
    ("answer", "finding"),
    [
        (Reply(404, b"404 page not found", 0.0), "where it lies is not known: HTTP 404"),
        (reply({"models": [{"name": "m", "size": "5"}]}), "where it lies is not known: sizes that are"),
        (reply({"models": [{"name": "m", "size": -5}]}), "where it lies is not known: sizes that are"),
        (reply({"models": [{"name": "m"}]}), "has no size for it"),
    ],
)
def test_ollama_that_does_not_say_is_a_finding(
    checked: Callable[..., object], answer: Reply, finding: str
) -> None:
    """Its footprint is then unknown, and not zero."""
    model = Model()
    model.extra["/api/ps"] = lambda _request: answer
    made = checked(model, **OLLAMA)

    assert isinstance(made.memory_bytes, Unknown)
    assert any(finding in one for one in made.findings)


def test_ollama_that_lists_another_model_is_refused(refused: Callable[..., str]) -> None:
    """It has just answered, so it must be loaded."""
    model = Model()
    model.extra["/api/ps"] = lambda _request: reply(
        {"models": [{"name": "m:13b", "size": 5, "size_vram": 5}]}
    )

    assert "does not list m right after it answered" in refused(model, **OLLAMA)


@pytest.mark.parametrize(
    ("cards", "wrong", "memory"),
    [
        ([holds(CARD, (7, 3 * GIB))], "", 3 * GIB),
        ([holds(CARD, (7, 3 * GIB), (8, GIB), (99, 9 * GIB))], "", 4 * GIB),
        ([holds(CARD, (7, 3 * GIB)), holds(CARD, (7, 300 << 20))], "", 3 * GIB),
        ([holds(CARD, (99, 9 * GIB))], "is not on a GPU: none of its processes is on gpu0 (RTX)", None),
        ([CARD, holds(CARD, (7, 3 * GIB))], "holds 3.0 GiB of gpu1 and is planned on gpu0", None),
        ([holds(CARD, (7, 3 * GIB)), holds(CARD, (8, 2 * GIB))], "holds 2.0 GiB of gpu1", 3 * GIB),
        ([UNREAD, holds(CARD, (7, 3 * GIB))], "", 3 * GIB),
        ([], "gpu0 is not there any more", None),
    ],
)
def test_processes_on_cards(
    checked: Callable[..., object],
    refused: Callable[..., str],
    cards: list[Accelerator],
    wrong: str,
    memory: int | None,
) -> None:
    """What the driver says of the server's processes is added up, and must be on the planned card."""
    look = {"devices": lambda: tuple(cards), "pids": lambda: (7, 8), "memory": lambda _pid: GIB}
    if wrong:
        assert wrong in refused(Model(), **RERANKER, **look)
    made = checked(Model(), **RERANKER, **look, misplaced="degrade")

    assert wrong in made.degraded
    assert bool(wrong) == bool(made.degraded)
    assert (memory or made.memory_bytes) == made.memory_bytes
    assert isinstance(made.memory_bytes, int) == (memory is not None)


@pytest.mark.parametrize(
    ("devices", "pids", "finding"),
    [
        ((CARD,), (7,), "the driver lists no process on gpu0 (RTX)"),
        ((holds(SHARED, (99, GIB)),), (7,), "the driver lists no process on gpu0 (Thor)"),
        ((holds(CARD, (7, Unknown("[N/A]"))),), (7,), "how much it holds: [N/A]"),
        (Unknown("NVML cannot be loaded"), (7,), "where it lies is not known: NVML cannot be loaded"),
        ((CARD,), (), "the processes of its server are not known"),
    ],
)
def test_what_cannot_be_seen_is_a_finding(
    checked: Callable[..., object], devices: object, pids: tuple[int, ...], finding: str
) -> None:
    """Jetsons, WSL and containers without a view of the host do not tell."""
    made = checked(Model(), **RERANKER, devices=lambda: devices, pids=lambda: pids, memory=lambda _pid: GIB)

    assert any(finding in one for one in made.findings)
    assert isinstance(made.memory_bytes, Unknown)
    assert "" == made.degraded


def test_a_model_over_two_cards_is_on_both(
    checked: Callable[..., object], refused: Callable[..., str]
) -> None:
    """Each share must be there."""
    plan = {**RERANKER, "device": "gpu0+gpu1"}
    both = (holds(CARD, (7, 3 * GIB)), holds(CARD, (7, 2 * GIB)))
    one = (holds(CARD, (7, 5 * GIB)), holds(CARD, (99, GIB)))

    assert 5 * GIB == checked(Model(), **plan, devices=lambda: both, pids=lambda: (7,)).memory_bytes
    assert "none of its processes is on gpu1" in refused(
        Model(), **plan, devices=lambda: one, pids=lambda: (7,)
    )


def test_a_model_on_the_cpu_holds_no_card(
    checked: Callable[..., object], refused: Callable[..., str]
) -> None:
    """Its footprint is the resident memory of all its processes."""
    plan = {**RERANKER, "device": "cpu"}
    bare, taken = (holds(CARD, (7, 400 << 20)),), (holds(CARD, (7, 4 * GIB)),)
    look = {"pids": lambda: (7, 8), "memory": lambda pid: pid * 1000}
    made = checked(Model(), **plan, **look, devices=lambda: bare)

    assert 15_000 == made.memory_bytes
    assert (Held("cpu", 15_000, "the resident memory of its processes"),) == made.held
    assert 15_000 == checked(Model(), **plan, **look, devices=lambda: Unknown("no driver")).memory_bytes
    assert "holds 4.0 GiB of gpu0 and is planned in main memory" in refused(
        Model(), **plan, **look, devices=lambda: taken
    )


@pytest.mark.parametrize(
    ("log", "device", "wrong"),
    [
        ("load_tensors: offloaded 33/33 layers to GPU\n", "gpu0", ""),
        (
            "load_tensors: offloaded 0/33 layers to GPU\nload_tensors: offloaded 33/33 layers to GPU",
            "gpu0",
            "",
        ),
        ("load_tensors: offloaded 20/33 layers to GPU", "gpu0", "has 20 of 33 layers on GPUs"),
        ("load_tensors: offloaded 33/33 layers to GPU\noffloaded 0/33 layers to GPU", "gpu0", "has 0 of 33"),
        ("warning: no usable GPU found, --gpu-layers option will be ignored", "gpu0", "it found none"),
        (
            "load_tensors: offloaded 10/33 layers to GPU",
            "cpu",
            "has 10 of 33 layers on GPUs and is planned in",
        ),
        ("load_tensors: offloaded 0/33 layers to GPU", "cpu", ""),
        ("", "cpu", ""),
    ],
)
def test_layers_of_llama_cpp(
    checked: Callable[..., object], refused: Callable[..., str], log: str, device: str, wrong: str
) -> None:
    """The last load in the log counts; what processes hold is looked at besides."""
    card = holds(CARD, (7, 3 * GIB)) if device == "gpu0" else CARD
    look = {"devices": lambda: (card,), "pids": lambda: (7,), "memory": lambda _pid: GIB, "log": lambda: log}
    plan = {**LLAMA, "device": device}
    if wrong:
        assert wrong in refused(Model(), **plan, **look)
    else:
        assert (3 * GIB if device == "gpu0" else GIB) == checked(Model(), **plan, **look).memory_bytes


def test_a_log_that_says_nothing_is_a_finding(checked: Callable[..., object]) -> None:
    """A log may have been rotated away."""
    card = holds(CARD, (7, 3 * GIB))
    made = checked(Model(), **LLAMA, devices=lambda: (card,), pids=lambda: (7,))

    assert "its log does not say how many layers lie on GPUs" in made.findings


def test_a_fallback_that_the_driver_shows_is_noticed_without_a_log(refused: Callable[..., str]) -> None:
    """Either row may find it."""
    card = holds(CARD, (99, 3 * GIB))

    assert "none of its processes is on gpu0" in refused(
        Model(), **LLAMA, devices=lambda: (card,), pids=lambda: (7,)
    )


def test_plans_count_only_the_devices_that_they_use() -> None:
    """The names are those of the planner: what it leaves out has none."""
    second = replace(SHARED, name="second")

    assert {"gpu0": CARD, "gpu1": SHARED} == named((UNREAD, CARD, SHARED, second))
