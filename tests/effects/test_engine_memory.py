"""The engine in memory behaves as the real one does, where a stage could tell the difference."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.contracts import ContainerSpec, GpuAccess
from tasks.effects.containers.docker import Docker
from tasks.effects.containers.engine import (
    ContainerGoneError,
    Engine,
    EngineGoneError,
    ImageMissingError,
    NameTakenError,
    NoGpuError,
    NotOursError,
    PortBusyError,
    spec_hash,
)
from tasks.effects.containers.memory import Behaviour, MemoryEngine
from tasks.errors import StoppedError
from tests.lab.engine_fixtures import nothing

SPEC = ContainerSpec("pmoves-llm", "llm", "", ("serve",), (), 8080, devices=("gpu0",))


@pytest.fixture
def engine() -> MemoryEngine:
    """Return an engine."""
    return MemoryEngine("me")


@pytest.fixture
def spec(engine: MemoryEngine) -> ContainerSpec:
    """Return a spec whose image is here."""
    return replace(SPEC, image=engine.offer("r/llama:1", here=True))


def test_both_are_engines(engine: MemoryEngine) -> None:
    """Mypy checks it here; the real one asks nothing before it must."""
    both: tuple[Engine, ...] = (engine, Docker("unix:///nowhere.sock", "me"))

    assert ["memory://", "unix:///nowhere.sock"] == [one.address for one in both]


def test_an_image_is_pulled(engine: MemoryEngine) -> None:
    """With progress, by its digest."""
    image = engine.offer("r/llama:1", size_bytes=10)
    told: list[tuple[int, int]] = []
    before = engine.has_image(image)

    engine.pull(image, on_bytes=lambda done, total: told.append((done, total)))

    assert (False, True) == (before, engine.has_image(image))
    assert [(5, 10), (10, 10)] == told
    assert image == f"r/llama@{engine.digest_of('r/llama:1')}"
    for unknown in ("r/llama:2", "r/other:1"):
        with pytest.raises(ImageMissingError):
            engine.digest_of(unknown)
    with pytest.raises(ImageMissingError):
        engine.pull(f"{image}0", on_bytes=nothing)


def test_a_pull_is_stopped(engine: MemoryEngine) -> None:
    """And the image is not here."""
    image, stop = engine.offer("r/llama:1"), threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        engine.pull(image, on_bytes=nothing, stop=stop)

    assert not engine.has_image(image)


def test_a_container_lives(engine: MemoryEngine, spec: ContainerSpec) -> None:
    """A listing tells less than an inspection."""
    made = engine.create(spec, host_port=18080)
    engine.start(made.id)
    seen = engine.inspect(made.id)
    assert seen is not None
    assert (True, 18080, spec_hash(spec), ("gpu0",)) == (
        seen.running,
        seen.published,
        seen.spec_hash,
        seen.devices,
    )
    assert (seen.pid,) == engine.pids(made.id)
    assert seen.started_at > 0
    assert (replace(seen, pid=0, started_at=0.0),) == engine.containers()

    engine.rename(made.id, "other")
    engine.stop(made.id, timeout_s=1)

    assert "exited" == engine.find("other").state  # type: ignore[union-attr]
    assert () == engine.pids(made.id)
    engine.remove(made.id)
    engine.remove(made.id)
    assert () == engine.containers()
    with pytest.raises(ContainerGoneError):
        engine.start(made.id)


def test_hooks_let_something_listen(engine: MemoryEngine, spec: ContainerSpec) -> None:
    """They hear of each start and each end, once."""
    heard: list[str] = []
    engine.on_start = lambda spec, port: heard.append(f"+{spec.server}:{port}")
    engine.on_stop = lambda spec, port: heard.append(f"-{spec.server}:{port}")
    made = engine.create(spec, host_port=1)

    for _ in range(2):
        engine.start(made.id)
    engine.stop(made.id, timeout_s=1)
    engine.remove(made.id)

    assert ["+llm:1", "-llm:1"] == heard


def test_a_server_that_falls(engine: MemoryEngine, spec: ContainerSpec) -> None:
    """As its behaviour says; then it is better."""
    engine.behave("llm", Behaviour(exit_code=137, oom_killed=True, restarts=3, log="a\nb\n"))
    made = engine.create(spec, host_port=1)
    engine.start(made.id)
    seen = engine.inspect(made.id)
    assert seen is not None
    assert ("restarting", 137, True, 3) == (seen.state, seen.exit_code, seen.oom_killed, seen.restarts)
    assert "b\n" == engine.logs(made.id, lines=1)

    engine.behave("llm", Behaviour())
    engine.stop(made.id, timeout_s=1)
    engine.start(made.id)
    assert engine.inspect(made.id).running  # type: ignore[union-attr]
    engine.end("pmoves-llm", exit_code=9)
    assert 9 == engine.inspect(made.id).exit_code  # type: ignore[union-attr]


def test_names_and_ports_are_taken(engine: MemoryEngine, spec: ContainerSpec) -> None:
    """By strangers, by ours, and by processes."""
    stranger = engine.stranger("theirs", port=5)
    with pytest.raises(NameTakenError, match="somebody else's"):
        engine.create(replace(spec, name="theirs"), host_port=1)
    first = engine.create(spec, host_port=5)
    with pytest.raises(NameTakenError, match="this host's own"):
        engine.create(spec, host_port=1)
    with pytest.raises(PortBusyError):
        engine.start(first.id)
    second = engine.create(replace(spec, name="b"), host_port=6)
    engine.busy_ports.add(6)
    with pytest.raises(PortBusyError):
        engine.start(second.id)

    third = engine.create(replace(spec, name="c", host_network=True), host_port=6)
    engine.start(third.id)  # its own program finds the port taken
    engine.remove(third.id)

    changes: tuple[Callable[[], None], ...] = (
        lambda: engine.stop(stranger.id, timeout_s=1),
        lambda: engine.remove(stranger.id),
        lambda: engine.rename(stranger.id, "c"),
        lambda: engine.start(stranger.id),
    )
    for change in changes:
        with pytest.raises(NotOursError):
            change()
    assert stranger == engine.find("theirs")
    assert ["pmoves-llm", "b"] == [one.name for one in engine.containers()]


def test_what_cannot_be_made(engine: MemoryEngine, spec: ContainerSpec) -> None:
    """Leaves nothing."""
    with pytest.raises(ImageMissingError):
        engine.create(replace(spec, image="r@sha256:0"), host_port=1)
    with pytest.raises(NoGpuError):
        engine.create(replace(spec, gpu=GpuAccess("cdi", ("x",))), host_port=1)

    assert () == engine.containers()


def test_faults_come_in_order_and_once(engine: MemoryEngine, spec: ContainerSpec) -> None:
    """Before the call does anything."""
    engine.fail("create", EngineGoneError("one"), EngineGoneError("two"))

    for text in ("one", "two"):
        with pytest.raises(EngineGoneError, match=text):
            engine.create(spec, host_port=1)

    assert () == engine.containers()
    engine.create(spec, host_port=1)
    assert ["create", "create", "containers", "create"] == [method for method, _about in engine.calls]
