"""Hosts for the tests of the whole line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import stack
from tests.lab.contained import Contained
from tests.lab.engine import EngineLab
from tests.lab.engine_fixtures import engine_lab, registry_lab
from tests.lab.engine_registry import RegistryLab
from tests.lab.host import LabHost

__all__ = ["engine_lab", "registry_lab"]


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory, minilm_cache: Path) -> Iterator[LabHost]:
    """Return a host that was provisioned once; tests leave it healthy."""
    made = LabHost.make(tmp_path_factory.mktemp("host"), minilm_cache)
    try:
        done = made.pmoves("provision")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.close()
    assert set() == made.marked()


@pytest.fixture
def neighbour(tmp_path: Path, minilm_cache: Path, host: LabHost) -> Iterator[LabHost]:
    """Return a fresh host that shares the first one's Prefect server."""
    port = int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
    made = LabHost.make(tmp_path / "neighbour", minilm_cache, prefect_port=port)
    yield made
    made.close()
    assert set() == made.marked()


@pytest.fixture(scope="session")
def contained_once(
    tmp_path_factory: pytest.TempPathFactory, engine_lab: EngineLab, registry_lab: RegistryLab, host: LabHost
) -> Iterator[Contained]:
    """Return a host that serves the lab's bundle in containers, with the Prefect server of the first one."""
    folder = tmp_path_factory.mktemp("contained")
    stack.push_play(registry_lab)
    stack.push_embedded(registry_lab)
    made = stack.make(folder, registry_lab)
    port = int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
    one = Contained.make(folder, made, engine_lab, registry_lab, name="contained-host", prefect_port=port)
    try:
        one.provision()
        yield one
    finally:
        one.host.pmoves("down")
        one.host.close()
        left = one.containers()
        for found in left.values():
            one.docker.remove(found.id)
        one.docker.close()
    assert {} == left
    assert set() == one.host.marked()


@pytest.fixture
def contained(contained_once: Contained) -> Contained:
    """Return that host, healthy."""
    contained_once.settle()
    return contained_once
