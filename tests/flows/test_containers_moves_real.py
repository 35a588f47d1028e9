"""A host that goes from containers to the embedded server and back, which share their first port."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.lab.contained import CHAT, Contained, answers, named
from tests.lab.host import LabHost, interrupt

pytestmark = pytest.mark.real

SHIPPED = str(Path(__file__).parents[2] / "profiles")
NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
PROCESS = "model-all-minilm-l6-v2"


def embedded(contained: Contained, engine: dict[str, str]) -> LabHost:
    """Return the host with the catalogue that has the embedded server."""
    return contained.host.but(PMOVES_PROFILES=SHIPPED, **engine)


def vectors(port: int) -> int:
    """Ask the embedded server itself, and return how many numbers it gives."""
    body = {"model": "all-minilm-l6-v2", "input": "moved"}
    reply = httpx.post(f"http://127.0.0.1:{port}/v1/embeddings", json=body, timeout=30, trust_env=False)
    return len(reply.raise_for_status().json()["data"][0]["embedding"])


@pytest.mark.parametrize("engine", [{}, NO_ENGINE], ids=["engine", "no-engine"])
def test_a_move_that_is_stopped_gives_the_ports_back(contained: Contained, engine: dict[str, str]) -> None:
    """The embedded server had the chat server's port already: it ends, and the front has it again."""
    before, ports = contained.lives(), contained.ports()
    run = embedded(contained, engine).start("provision", "embedded")
    assert run.stderr is not None
    assert any(line.startswith("verify") for line in run.stderr), "it ended before it asked"

    code, errors = interrupt(run)

    assert 130 == code, errors
    assert before == contained.lives()
    assert ports == contained.ports()
    assert PROCESS not in contained.host.running()
    assert answers(contained.port(CHAT))
    assert 384 == len(contained.host.embed("still there"))


def test_from_containers_to_a_process_and_back(contained: Contained) -> None:
    """Each takes the port of the other; a way back that fails leaves the one of before."""
    port = contained.port(CHAT)
    contained.settled = False

    there = embedded(contained, {}).json("provision", "embedded")
    removed = {one["resource"] for one in there["changes"] if one["kind"] == "remove"}
    assert f"container {named(CHAT)}" in removed
    assert {} == contained.containers()
    assert 384 == vectors(port)

    # Whisper's server dies after chat has taken the port.
    with contained.image("speaches", environment={"PLAY_FAULT": "slow-load:8 exit-loading:3"}):
        failed = contained.host.pmoves("provision", "lab")
    assert 5 == failed.returncode, failed.stderr
    assert {} == contained.containers()
    assert {} == contained.ports()
    assert 384 == vectors(port)
    assert 384 == len(contained.host.embed("through the gateway"))

    back = contained.provision()
    removed = {one["resource"] for one in back["changes"] if one["kind"] == "remove"}
    assert f"process {PROCESS}" in removed
    assert answers(port)
    assert "42" == contained.chat()
    assert PROCESS not in contained.host.running()


def test_without_an_engine_the_embedded_server_takes_over(contained: Contained) -> None:
    """Containers that may still run are left alone, and the next run with an engine keeps them."""
    before = contained.lives()
    contained.settled = False

    record = embedded(contained, NO_ENGINE).json("provision", "embedded")
    assert "changed" == record["outcome"]
    assert 384 == len(contained.host.embed("without an engine"))

    contained.provision()
    assert before == contained.lives()
    assert answers(contained.port(CHAT))
