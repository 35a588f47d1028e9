"""Hosts for the tests of the whole line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.engine_fixtures import engine_lab, registry_lab
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
