"""What a run needs for containers, and which engines it takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flows import servers, settings
from flows.settings import Settings
from tasks.contracts import Plan, Reach, silent
from tasks.effects.supervisord import Supervisord
from tasks.errors import WrongHostError
from tasks.serve.context import Containers
from tests.lab.hosts import make_host
from tests.serve.serving import model, server_of

EMPTY = Plan("tower", "lab", "", (), (), 0, 0, 0, "", ())


def needed(tmp_path: Path, engine: str, *, answers: bool = True, served: bool = True) -> Containers | None:
    """Return what a run is given on a host with an engine at an address."""
    where: Settings = dataclasses.replace(settings.load({}), engine=engine, state=tmp_path)
    reach = Reach("container engine", engine, answers=answers, detail="")
    facts = dataclasses.replace(make_host(), container_engine=reach)
    plan = dataclasses.replace(EMPTY, servers=(server_of(model()),)) if served else EMPTY
    return servers.containers(where, facts, plan, supervisor=Supervisord(tmp_path), run="now", sink=silent)


def test_a_host_without_an_engine_needs_none(tmp_path: Path) -> None:
    """Then only processes are started."""
    assert needed(tmp_path, "unix:///nowhere", answers=False) is None


@pytest.mark.parametrize(
    "engine", ["unix:///run/docker.sock", "tcp://127.0.0.1:2375", "tcp://localhost:2375"]
)
def test_an_engine_of_this_host_is_used(tmp_path: Path, engine: str) -> None:
    """By its socket or over loopback."""
    found = needed(tmp_path, engine)

    assert found is not None
    assert engine == found.engine.address
    assert ["model-qwen"] == list(found.servers)


@pytest.mark.parametrize("engine", ["tcp://10.0.0.5:2375", "ssh://tower"])
def test_an_engine_of_another_machine_is_refused(tmp_path: Path, engine: str) -> None:
    """It has neither the weights nor the ports; a plan without containers does not mind."""
    with pytest.raises(WrongHostError, match="an engine on another machine"):
        needed(tmp_path, engine)

    assert needed(tmp_path, engine, served=False) is not None


def test_a_failed_run_leaves_gateways_to_the_rollout_that_started_them() -> None:
    """The proxy may lead to one that was not there before, and the one before may be ended by now."""
    before = {"model-a": "", "gateway-old": "", "proxy": ""}
    now = {"model-b": "", "gateway-new": "", "proxy": ""}

    assert set(servers.gateway_programs(before, now)) == {"gateway-old", "gateway-new", "proxy"}


def test_a_host_that_had_no_routes_keeps_none_of_a_failed_run() -> None:
    """All of it was started by that run."""
    now = {"gateway-new": "", "proxy": ""}

    assert servers.gateway_programs({"prefect-server": ""}, now) == ()
    assert servers.gateway_programs(None, now) == ()
