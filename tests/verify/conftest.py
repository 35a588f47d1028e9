"""A server to verify, and worlds in which it is right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.contracts import Change, ModelServer, ProcessState
from tests.conftest import planned


@pytest.fixture
def server() -> Callable[..., ModelServer]:
    """Return what makes a running server; keywords change its plan."""

    def make(port: int = 7990, pid: int = 42, **changes: object) -> ModelServer:
        model = replace(planned(port), **{"dimensions": 384, **changes})
        process = ProcessState("model-x", True, "running", pid, 0.0, "", "/state/model-x.log")  # noqa: FBT003
        change = Change("process model-x", "keep", "it runs")
        return ModelServer(model, "model-x", f"http://127.0.0.1:{port}/v1", process, change, 0.0)

    return make
