"""Images from a real registry onto a real engine: what arrives, and what is said when it does not."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from tasks.effects.containers import EngineError
from tasks.effects.containers.docker import Docker
from tasks.effects.containers.docker_pull import local_tag
from tasks.effects.containers.engine import (
    EngineGoneError,
    ImageDamagedError,
    ImageMissingError,
    RegistryAwayError,
)
from tasks.errors import StoppedError
from tests.lab.engine import EngineLab
from tests.lab.engine_fixtures import eventually, nothing
from tests.lab.engine_registry import RegistryLab, SlowDoor, random_layer
from tests.lab.environment import free_port

pytestmark = pytest.mark.real

SEEDS = itertools.count(1)
MB = 1_000_000


def fresh(registry: RegistryLab, *sizes_bytes: int, name: str = "", tag: str = "1") -> str:
    """Push an image of layers that no engine has seen."""
    layers = [random_layer(size, next(SEEDS)) for size in sizes_bytes or (MB,)]
    return registry.push(name or f"lab/fresh-{next(SEEDS)}", layers, tag=tag, command=("none",))


def through(door: SlowDoor, image: str) -> str:
    """Return an image's name by way of another port."""
    return f"127.0.0.1:{door.port}/{image.partition('/')[2]}"


def test_a_pull_tells_of_all_its_bytes(containers: Docker, registry_lab: RegistryLab) -> None:
    """Of all layers together, never fewer than before, and in the end all there are."""
    image = fresh(registry_lab, 2 * MB, 3 * MB)
    told: list[tuple[int, int]] = []
    assert not containers.has_image(image)

    containers.pull(image, on_bytes=lambda done, total: told.append((done, total)))

    assert containers.has_image(image)
    done = [one for one, _total in told]
    assert done == sorted(done)
    assert told[-1][0] == told[-1][1]
    assert 5 * MB <= told[-1][1] < 5.1 * MB


def test_a_second_pull_transfers_nothing(containers: Docker, registry_lab: RegistryLab) -> None:
    """The engine has it."""
    image = fresh(registry_lab)
    containers.pull(image, on_bytes=nothing)
    told: list[tuple[int, int]] = []

    containers.pull(image, on_bytes=lambda done, total: told.append((done, total)))

    assert all(one == (0, 0) for one in told)


def test_a_prune_leaves_it(engine_lab: EngineLab, containers: Docker, registry_lab: RegistryLab) -> None:
    """Engines prune what has a digest and no tag, so it gets one."""
    image = fresh(registry_lab)
    containers.pull(image, on_bytes=nothing)
    repository, tag = local_tag(image)

    engine_lab.client().prune_images({"dangling": True})  # type: ignore[no-untyped-call]

    assert containers.has_image(image)
    answer = engine_lab.client().inspect_image(image)  # type: ignore[no-untyped-call]
    assert [f"{repository}:{tag}"] == answer["RepoTags"]


def test_a_digest_is_the_registrys(containers: Docker, registry_lab: RegistryLab) -> None:
    """A tag that moves has another, and nothing is pulled to know it."""
    first = fresh(registry_lab, name="lab/moves")
    seen = containers.digest_of(f"{registry_lab.repository('lab/moves')}:1")
    second = fresh(registry_lab, name="lab/moves")

    assert first.partition("@")[2] == seen
    assert second.partition("@")[2] == containers.digest_of(f"{registry_lab.repository('lab/moves')}:1")
    assert not containers.has_image(second)


def test_what_a_registry_does_not_have_is_missing(containers: Docker, registry_lab: RegistryLab) -> None:
    """A tag, a digest, a repository, and a layer that it lost."""
    image = fresh(registry_lab)
    name = image.partition("@")[0]
    registry_lab.drop(registry_lab.layers(image)[0])
    asked: tuple[Callable[[], object], ...] = (
        lambda: containers.digest_of(f"{name}:nope"),
        lambda: containers.pull(f"{name}@sha256:{'0' * 64}", on_bytes=nothing),
        lambda: containers.pull(f"{name}-not@sha256:{'0' * 64}", on_bytes=nothing),
        lambda: containers.pull(image, on_bytes=nothing),
    )

    for one in asked:
        with pytest.raises(
            ImageMissingError, match=r"^the registry does not have the image, or a part of it$"
        ):
            one()

    assert not containers.has_image(image)


def test_a_registry_that_is_not_there_is_away(containers: Docker) -> None:
    """Another try may help, and the engine is not to blame."""
    nobody = f"127.0.0.1:{free_port()}/x"

    with pytest.raises(RegistryAwayError, match=r"the registry does not answer as it should"):
        containers.digest_of(f"{nobody}:1")
    with pytest.raises(RegistryAwayError, match=r"the registry does not answer as it should"):
        containers.pull(f"{nobody}@sha256:{'0' * 64}", on_bytes=nothing)
    with pytest.raises(RegistryAwayError, match=r"the registry's name cannot be looked up"):
        containers.digest_of("nowhere.invalid/x:1")


def test_a_name_that_is_none(containers: Docker) -> None:
    """Is refused by the engine."""
    with pytest.raises(EngineError, match=r"it is no image's name"):
        containers.pull(f"UPPER/case@sha256:{'0' * 64}", on_bytes=nothing)


def test_damage_is_an_error_though_an_older_image_has_the_name(
    containers: Docker, registry_lab: RegistryLab
) -> None:
    """The older one stays, and does not pass for the new one; once the layer is right, it comes."""
    older = fresh(registry_lab, name="lab/damaged", tag="latest")
    containers.pull(older, on_bytes=nothing)
    image = fresh(registry_lab, MB, MB, name="lab/damaged", tag="latest")
    layer = registry_lab.layers(image)[1]
    registry_lab.corrupt(layer)

    with pytest.raises(ImageDamagedError, match=r"^the image's bytes are not those of its digest$"):
        containers.pull(image, on_bytes=nothing)

    assert (True, False) == (containers.has_image(older), containers.has_image(image))
    registry_lab.corrupt(layer)
    containers.pull(image, on_bytes=nothing)
    assert containers.has_image(image)


def test_a_registry_that_stalls_ends_the_pull(
    containers: Docker, registry_lab: RegistryLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine waits for ever; this does not, leaves nobody waiting, and the next try goes on."""
    monkeypatch.setattr("tasks.effects.containers.docker.SPARE_S", 600.0)
    image = fresh(registry_lab, 4 * MB)
    with SlowDoor(registry_lab.port) as door:
        door.stall_after(2 * MB)
        with pytest.raises(EngineGoneError, match=r"^the pull did not move for 1 s$"):
            containers.pull(through(door, image), on_bytes=nothing, quiet_s=1.0)
        eventually(lambda: not any(one.name == "image pull" for one in threading.enumerate()))

        door.heal()
        containers.pull(through(door, image), on_bytes=nothing)
        assert containers.has_image(through(door, image))


def test_a_registry_that_never_begins_ends_the_pull(containers: Docker, registry_lab: RegistryLab) -> None:
    """Before the engine has said a word."""
    image = fresh(registry_lab)
    with SlowDoor(registry_lab.port) as door:
        door.stall_after(0)
        with pytest.raises(EngineGoneError):
            containers.pull(through(door, image), on_bytes=nothing, quiet_s=1.0)


def test_slow_is_not_stalled(containers: Docker, registry_lab: RegistryLab) -> None:
    """As long as anything moves."""
    image = fresh(registry_lab, 3 * MB)
    with SlowDoor(registry_lab.port, bytes_per_s=1.5 * MB) as door:
        containers.pull(through(door, image), on_bytes=nothing, quiet_s=1.5)

        assert containers.has_image(through(door, image))


@pytest.mark.parametrize("before_a_word", [True, False], ids=["at the beginning", "in the middle"])
def test_a_pull_stops_when_it_is_told(
    containers: Docker, registry_lab: RegistryLab, *, before_a_word: bool
) -> None:
    """At once, and the engine ends it, too."""
    image = fresh(registry_lab, 6 * MB)
    stop = threading.Event()
    with SlowDoor(registry_lab.port, bytes_per_s=2 * MB) as door:
        if before_a_word:
            door.stall_after(0)
            threading.Timer(0.3, stop.set).start()

        def heard(done: int, _total: int) -> None:
            if done > MB:
                stop.set()

        with pytest.raises(StoppedError):
            containers.pull(through(door, image), on_bytes=heard, stop=stop)

        time.sleep(0.5)
        before = door.sent_bytes
        time.sleep(0.5)
        assert before == door.sent_bytes < 5 * MB
        assert not containers.has_image(through(door, image))
    eventually(lambda: not any(one.name == "image pull" for one in threading.enumerate()))


def test_two_pulls_of_one_image_transfer_it_once(
    engine_lab: EngineLab, containers: Docker, registry_lab: RegistryLab
) -> None:
    """And both are told that it is there."""
    image = fresh(registry_lab, 3 * MB)
    other = Docker(engine_lab.address, "other")
    with SlowDoor(registry_lab.port, bytes_per_s=4 * MB) as door:
        wanted = through(door, image)
        thread = threading.Thread(target=lambda: other.pull(wanted, on_bytes=nothing))
        thread.start()
        containers.pull(wanted, on_bytes=nothing)
        thread.join()

        assert other.has_image(wanted)
        assert 3 * MB < door.sent_bytes < 4 * MB
    other.close()


def test_a_pull_to_a_full_disk_says_so(engine_lab: EngineLab, registry_lab: RegistryLab) -> None:
    """A second engine, whose data is on a small one; it runs beside the first."""
    image = fresh(registry_lab, 30 * MB)
    with EngineLab(data_bytes=20 * MB) as small:
        docker = Docker(small.address, "small")
        assert small.address != engine_lab.address

        with pytest.raises(EngineError, match=r"^the disk of the container engine is full$"):
            docker.pull(image, on_bytes=nothing)

        assert not docker.has_image(image)
        docker.close()


def test_an_engine_that_dies_in_a_pull(
    engine_lab: EngineLab, containers: Docker, registry_lab: RegistryLab
) -> None:
    """Is gone; once it is back, the same object pulls the image."""
    image = fresh(registry_lab, 4 * MB)
    with SlowDoor(registry_lab.port, bytes_per_s=2 * MB) as door:

        def heard(done: int, _total: int) -> None:
            if done > MB:
                engine_lab.kill()

        with pytest.raises(EngineGoneError):
            containers.pull(through(door, image), on_bytes=heard)
        engine_lab.start()
        door.heal()
        containers.pull(through(door, image), on_bytes=nothing)

        assert containers.has_image(through(door, image))
