"""Fixtures that share one engine and one registry among all tests of a session.

    in a conftest: from tests.lab.engine_fixtures import busybox_image, containers, engine_lab, registry_lab

Several conftests may import them: what is shared hangs on pytest's config, not on a fixture's scope.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tasks.contracts import ContainerSpec
from tasks.effects.containers.docker import Docker
from tests.lab import engine, engine_registry, images
from tests.lab.engine import EngineLab
from tests.lab.engine_registry import RegistryLab

T = TypeVar("T")

LAB = pytest.StashKey[EngineLab]()
REGISTRY = pytest.StashKey[RegistryLab]()
IMAGES = pytest.StashKey[dict[str, str]]()
EMBEDDED = ("embed-anything", "starlette", "uvicorn", "orjson", "tokenizers", "msgspec")
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def engine_lab(request: pytest.FixtureRequest) -> EngineLab:
    """Return an engine of the tests' own; skip where none can run."""
    why = engine.missing() or images.missing() or engine_registry.missing()
    if why:
        pytest.skip(why)
    return _shared(request.config, LAB, EngineLab)


@pytest.fixture(scope="session")
def registry_lab(request: pytest.FixtureRequest) -> RegistryLab:
    """Return a registry of the tests' own; skip where none can run."""
    why = engine_registry.missing() or images.missing()
    if why:
        pytest.skip(why)
    config = request.config

    def make() -> RegistryLab:
        folder = tempfile.TemporaryDirectory(prefix="pmoves-lab-registry-")
        config.add_cleanup(folder.cleanup)
        return RegistryLab(Path(folder.name))

    return _shared(config, REGISTRY, make)


@pytest.fixture
def containers(engine_lab: EngineLab) -> Iterator[Docker]:
    """Return the seam over the shared engine, with an owner of its own; its containers go at the end."""
    docker = Docker(engine_lab.address, f"lab-{next(NUMBERS)}")
    yield docker
    for one in docker.containers():
        docker.remove(one.id)
    docker.close()


@pytest.fixture(scope="session")
def busybox_image(request: pytest.FixtureRequest, engine_lab: EngineLab, registry_lab: RegistryLab) -> str:
    """Return a pinned image with a shell, which the engine has."""

    def push() -> str:
        return registry_lab.push(
            "lab/busybox", [images.busybox_layer()], command=("sleep", "600"), environment=("PATH=/bin",)
        )

    return _image(request.config, engine_lab, "busybox", push)


@pytest.fixture(scope="session")
def python_image(request: pytest.FixtureRequest, engine_lab: EngineLab, registry_lab: RegistryLab) -> str:
    """Return a pinned image with this Python and a shell, which the engine has."""

    def push() -> str:
        return registry_lab.push(
            "lab/python",
            [images.busybox_layer(), images.python_layer()],
            command=("python3", "--version"),
            environment=images.PYTHON_ENVIRONMENT,
        )

    return _image(request.config, engine_lab, "python", push)


@pytest.fixture(scope="session")
def embedded_image(request: pytest.FixtureRequest, engine_lab: EngineLab, registry_lab: RegistryLab) -> str:
    """Return a pinned image that runs the embedded server, which the engine has."""

    def push() -> str:
        return registry_lab.push(
            "lab/embedded",
            [
                images.busybox_layer(),
                images.python_layer(),
                images.packages_layer(*EMBEDDED),
                images.program_layer(),
            ],
            command=("python3", "-m", "serve_embedded"),
            environment=images.PYTHON_ENVIRONMENT,
        )

    return _image(request.config, engine_lab, "embedded", push)


def _shared(config: pytest.Config, key: pytest.StashKey[T], make: Callable[[], T]) -> T:
    """Return what is kept under a key; made, and ended with the session, the first time."""
    if key not in config.stash:
        made = make()
        assert isinstance(made, contextlib.AbstractContextManager)
        made.__enter__()
        config.add_cleanup(lambda: made.__exit__(None, None, None))
        config.stash[key] = made
    return config.stash[key]


def _image(config: pytest.Config, lab: EngineLab, name: str, push: Callable[[], str]) -> str:
    kept = config.stash.setdefault(IMAGES, {})
    if name not in kept:
        image = push()
        docker = Docker(lab.address, "lab")
        docker.pull(image, on_bytes=nothing)
        docker.close()
        kept[name] = image
    return kept[name]


def nothing(_done_bytes: int, _total_bytes: int) -> None:
    """Hear of a pull's progress, and do nothing."""


def shell_spec(image: str, script: str, **more: object) -> ContainerSpec:
    """Return the spec of a container that runs a shell script as an ordinary user."""
    number = next(NUMBERS)
    given: dict[str, object] = {
        "name": f"lab-shell-{number}",
        "server": f"shell-{number}",
        "image": image,
        "command": ("sh", "-c", script),
        "environment": (),
        "port": 8080,
        "user": "10001:10001",
        "tmpfs": ("/tmp",),  # noqa: S108  # inside the container
    }
    return ContainerSpec(**{**given, **more})  # type: ignore[arg-type]


def eventually(told: Callable[[], T], *, within_s: float = 20.0) -> T:
    """Return what is told, once it is neither None, false nor empty."""
    ends = time.monotonic() + within_s
    while True:
        value = told()
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"still {value!r} after {within_s} s")
        time.sleep(0.05)
