"""A server of the model that all tests of one module share, and a host in memory for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.serve import ready
from tasks.serve.hosts import process, starting
from tests.lab.embedded_server import EmbeddedServer, embedded_server
from tests.serve.serving import Lab


@pytest.fixture(scope="module")
def server(minilm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Run the embedded server with the real weights."""
    log = tmp_path_factory.mktemp("embedded") / "server.log"
    with embedded_server(minilm_cache, log, "--dimensions", "384") as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Return a host in memory, whose servers are asked without pauses."""
    made = Lab(tmp_path)
    monkeypatch.setattr(starting, "listener", lambda port: port in made.listening)
    monkeypatch.setattr(process, "listener", lambda port: port in made.listening)
    monkeypatch.setattr(ready, "POLL_S", 0.002)
    monkeypatch.setattr(ready, "LOOK_S", 0.002)
    return made
