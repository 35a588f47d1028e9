"""An engine that is not there, may not be asked, or dies while it is asked."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tasks.effects.containers import EngineError
from tasks.effects.containers.docker import Docker
from tasks.effects.containers.engine import EngineGoneError
from tests.lab.engine import EngineLab
from tests.lab.engine_fixtures import eventually, shell_spec
from tests.lab.environment import free_port

pytestmark = pytest.mark.real


def test_an_engine_that_dies_in_a_call_and_comes_back(
    engine_lab: EngineLab, containers: Docker, busybox_image: str
) -> None:
    """Each call says that it is gone; then the same object goes on, and nothing is lost."""
    script = "trap '' TERM; echo up; while true; do sleep 1; done"
    made = containers.create(shell_spec(busybox_image, script, stop_timeout_s=1), host_port=free_port())
    containers.start(made.id)
    eventually(lambda: containers.logs(made.id))
    threading.Timer(0.5, engine_lab.kill).start()

    with pytest.raises(EngineGoneError):
        containers.stop(made.id, timeout_s=30)
    with pytest.raises(EngineGoneError, match=r"nothing listens on the container engine's socket"):
        containers.containers()
    with pytest.raises(EngineGoneError):
        containers.info()

    engine_lab.start()
    assert [made.id] == [one.id for one in containers.containers()]
    containers.stop(made.id, timeout_s=0)
    containers.start(made.id)
    assert containers.inspect(made.id).running  # type: ignore[union-attr]


def test_no_engine(tmp_path: Path) -> None:
    """Nothing is asked before the first call."""
    docker = Docker(f"unix://{tmp_path}/none.sock", "me")

    with pytest.raises(EngineGoneError, match=r"^the container engine's socket is not there$"):
        docker.containers()
    with pytest.raises(EngineGoneError, match=r"^the container engine's socket is not there$"):
        docker.pull(f"x@sha256:{'0' * 64}", on_bytes=lambda _done, _total: None)
    docker.close()


def test_a_socket_that_this_user_may_not_use(engine_lab: EngineLab) -> None:
    """Said in a process of another user; another try would not help."""
    docker = Docker(engine_lab.address, "me")
    docker.info()
    docker.close()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            docker.containers()
            said = "it answered"
        except EngineError as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)

    said = os.read(reader, 1000).decode()
    os.close(reader)
    assert "EngineError: the container engine's socket is not readable for this user" == said


def test_a_half_made_container_is_removed(
    engine_lab: EngineLab, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine made it and its answer did not come in time."""
    from docker.api.client import APIClient  # noqa: PLC0415  # loads the SDK
    from requests.exceptions import ReadTimeout  # noqa: PLC0415  # the same

    docker = Docker(engine_lab.address, "half")
    real = APIClient.create_container_from_config

    def cut(self: APIClient, body: object, name: str) -> object:
        real(self, body, name)  # type: ignore[no-untyped-call]
        raise ReadTimeout("Read timed out.")

    monkeypatch.setattr(APIClient, "create_container_from_config", cut)
    with pytest.raises(EngineGoneError, match=r"does not answer in time"):
        docker.create(shell_spec(busybox_image, "exec sleep 600"), host_port=free_port())

    assert () == docker.containers()
    docker.close()
