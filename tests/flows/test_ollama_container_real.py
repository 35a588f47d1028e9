"""The whole line with Ollama in a container: one server, three models, weights that come through it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.lab import stack, stack_ollama
from tests.lab.engine import EngineLab
from tests.lab.engine_registry import RegistryLab
from tests.lab.host import LabHost
from tests.lab.ollama_registry import OllamaRegistry

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def ollama_host(
    tmp_path_factory: pytest.TempPathFactory, engine_lab: EngineLab, registry_lab: RegistryLab, host: LabHost
) -> Iterator[LabHost]:
    """Return a host that has the tags already, with the Prefect server of the first one.

    It has an engine of its own: on the shared one, another host may have containers of the same names.
    """
    assert engine_lab.address
    folder, tags = tmp_path_factory.mktemp("ollama"), stack_ollama.tags()
    stack.push_play(registry_lab)
    made = stack_ollama.make(folder, registry_lab, tags)
    with EngineLab() as engine, OllamaRegistry(tags) as library:
        port = int(host.api.rsplit(":", 1)[1].removesuffix("/api"))
        one = LabHost.make(folder / "host", folder / "hub", prefect_port=port)
        told = {**one.environment, **made.environment(engine.address, library)}
        one = dataclasses.replace(one, environment=told)
        stack_ollama.fetch(folder / "host/.ollama/models", library, tags)
        try:
            yield one
        finally:
            one.pmoves("down")
            one.close()
    assert set() == one.marked()


@pytest.fixture(scope="module")
def first(ollama_host: LabHost) -> dict[str, Any]:
    """Return the record of the first run."""
    record: dict[str, Any] = ollama_host.json("provision", "lab")
    return record


def test_one_server_has_three_models(first: dict[str, Any]) -> None:
    """All are asked at its stable port, by names of ours that hold the planned context."""
    servers = [one["server"] for one in first["verified"] if one["server"]["planned"]["runtime"] == "ollama"]

    assert "changed" == first["outcome"]
    assert 3 == len(servers)
    assert {"pmoves-ollama-cpu"} == {one["container"] for one in servers}
    assert 1 == len({one["base_url"] for one in servers})
    assert "pmoves/lab-llm:q4_0-2048" in {one["model_id"] for one in servers}
    assert 1 == sum(one["resource"] == "container pmoves-ollama-cpu" for one in first["changes"])


def test_the_context_that_is_served_is_the_planned_one(first: dict[str, Any]) -> None:
    """Ollama itself says so, of a model that stays for good."""
    servers = [one["server"]["base_url"] for one in first["verified"] if one["server"]["container"]]
    url = next(one.removesuffix("/v1") for one in servers if _is_ollama(one))

    loaded = {one["name"]: one for one in _get(f"{url}/api/ps")["models"]}

    assert 2048 == loaded["pmoves/lab-llm:q4_0-2048"]["context_length"]


def test_a_second_run_loads_and_makes_nothing(ollama_host: LabHost, first: dict[str, Any]) -> None:
    """Everything stays, and the names of ours are not made again."""
    second = ollama_host.json("provision", "lab")

    assert "changed" == first["outcome"]
    assert "nothing to do" == second["outcome"], json.dumps(second["changes"], indent=1)


def _is_ollama(base_url: str) -> bool:
    try:
        return "version" in _get(base_url.removesuffix("/v1") + "/api/version")
    except (httpx.HTTPError, ValueError):
        return False


def _get(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url, timeout=10, trust_env=False).json()
    return found
