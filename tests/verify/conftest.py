"""A server to verify, and worlds in which it is right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.contracts import Change, ModelServer, ProcessState, RerankApi, VerifiedServer
from tasks.effects.http import MemoryHttp
from tasks.errors import VerifyError
from tasks.verify.check import VerifyContext, verify
from tests.conftest import planned
from tests.lab.answering import Model


@pytest.fixture
def server() -> Callable[..., ModelServer]:
    """Return what makes a running server; keywords change its plan."""

    def make(
        port: int = 7990, pid: int = 42, rerank_api: RerankApi = "jina", **changes: object
    ) -> ModelServer:
        model = replace(planned(port), **{"dimensions": 384, **changes})
        process = ProcessState("model-x", True, "running", pid, 0.0, "", "/state/model-x.log")  # noqa: FBT003
        change = Change("process model-x", "keep", "it runs")
        return ModelServer(
            model,
            "model-x",
            f"http://127.0.0.1:{port}/v1",
            process,
            change,
            0.0,
            rerank_api=rerank_api,
        )

    return make


@pytest.fixture
def checked(server: Callable[..., ModelServer]) -> Callable[..., VerifiedServer]:
    """Return what verifies a played model; keywords that a context has go there, others to the plan."""

    def check(model: Model, /, **changes: object) -> VerifiedServer:
        ctx = {key: changes.pop(key) for key in list(changes) if key in VerifyContext.__slots__}
        changes = {"model": "m", "runtime": "external", **changes}
        return verify(
            server(**changes), VerifyContext(MemoryHttp(model.answer), **{"deadline_s": 5.0, **ctx})
        )

    return check


@pytest.fixture
def refused(checked: Callable[..., VerifiedServer]) -> Callable[..., str]:
    """Return what gives the sentence with which a played model is refused."""

    def sentence(model: Model, /, **changes: object) -> str:
        with pytest.raises(VerifyError) as caught:
            checked(model, **changes)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1500
        return caught.value.what

    return sentence
