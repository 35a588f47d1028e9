"""A server of the model that all tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.embedded_server import EmbeddedServer, embedded_server


@pytest.fixture(scope="module")
def server(minilm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Run the embedded server with the real weights."""
    log = tmp_path_factory.mktemp("embedded") / "server.log"
    with embedded_server(minilm_cache, log, "--dimensions", "384") as running:
        yield running
