"""The route stage as it really runs: supervisord, the gateway process, TensorZero, model servers."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.contracts import VerifiedServer
from tasks.effects.http import Httpx
from tasks.effects.supervisord import Supervisord
from tasks.errors import PortTakenError, RouteError
from tasks.route.process import NAME, RouteContext, look
from tasks.route.rollout import roll_out
from tests.lab.gateway import free_port, until
from tests.lab.openai_server import FakeOpenAI
from tests.lab.verified import verified_server

pytestmark = pytest.mark.real


@pytest.fixture
def upstream() -> Iterator[FakeOpenAI]:
    """Return a model server."""
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def context(tmp_path: Path) -> Iterator[RouteContext]:
    """Return a context with a supervisor of its own."""
    supervisor, http = Supervisord(tmp_path), Httpx()
    yield RouteContext(supervisor, http, sys.executable, tmp_path / "gateway", free_port())
    http.close()
    supervisor.shutdown()


def model(name: str, server: FakeOpenAI) -> VerifiedServer:
    """Return a verified model on a server."""
    return verified_server(name, base_url=server.base_url)


def test_life_of_a_route(context: RouteContext, upstream: FakeOpenAI) -> None:
    """Create, keep, replace, a kill, a failure: the process changes only when it must."""
    first = roll_out((model("a", upstream),), context)
    kept = roll_out((model("a", upstream),), context)
    both = (model("a", upstream), model("b", upstream))
    second = roll_out(both, context)
    os.kill(second.process.pid, signal.SIGKILL)
    until(lambda: context.supervisor.states()[NAME].pid not in {0, second.process.pid})
    back = roll_out(both, context)
    with FakeOpenAI() as other:
        other.fault = "500"
        with pytest.raises(RouteError, match="c does not answer through the gateway"):
            roll_out((*both, model("c", other)), context)

    kinds = [route.change.kind for route in (first, kept, second, back)]
    assert kinds == ["create", "keep", "replace", "keep"]
    assert first.process.pid == kept.process.pid == second.process.pid != back.process.pid
    assert all(answer.right for answer in second.answers)
    assert look(context).config_hash == second.config_hash


def test_first_failure_leaves_nothing(context: RouteContext, upstream: FakeOpenAI) -> None:
    """When the first model does not answer, no gateway runs afterwards."""
    upstream.fault = "nonsense"
    with pytest.raises(RouteError, match="does not answer through the gateway"):
        roll_out((model("a", upstream),), context)

    assert NAME not in context.supervisor.states()
    assert not context.taken(context.port)


def test_port_of_a_stranger(context: RouteContext, upstream: FakeOpenAI) -> None:
    """A port that another program holds is refused, and nothing is started."""
    stranger = RouteContext(
        context.supervisor,
        context.http,
        context.python,
        context.folder,
        int(upstream.base_url.rpartition(":")[2].removesuffix("/v1")),
    )
    with pytest.raises(PortTakenError):
        roll_out((model("a", upstream),), stranger)

    assert context.supervisor.states() == {}
    assert not context.folder.exists()
