"""Gateways in containers of a real engine, with an image that has the real wheel inside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest

from tasks.contracts import Mount, ToolImage
from tasks.effects.containers.docker import Docker
from tasks.effects.http import Httpx
from tasks.errors import ImageRefusedError, RouteError, StoppedError
from tasks.route.gateways import container
from tasks.route.gateways.container import NAME, ContainerGateways
from tasks.route.gateways.contract import Gateways
from tests.lab import engine_podman
from tests.lab.engine import EngineLab
from tests.lab.engine_fixtures import eventually, shell_spec
from tests.lab.engine_podman import PodmanLab
from tests.lab.engine_registry import RegistryLab
from tests.lab.gateway import config_for, until
from tests.lab.gateways import BROKEN, embed, generation, refused
from tests.lab.keyed import ODD_KEY, VARIABLE, Keyed, environment_of
from tests.lab.openai_server import FakeOpenAI, vector

pytestmark = pytest.mark.real

DEADLINE_S = 60


@pytest.fixture
def model() -> Iterator[FakeOpenAI]:
    """Return a model server."""
    with FakeOpenAI("blue") as server:
        yield server


@pytest.fixture
def http() -> Iterator[Httpx]:
    """Return what asks gateways."""
    with Httpx() as made:
        yield made


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    """Return where the digests of images are kept."""
    return tmp_path / "state" / "images.lock.json"


@pytest.fixture
def gateways(containers: Docker, http: Httpx, gateway_image: ToolImage, pins: Path) -> Gateways:
    """Return the gateways of an engine; the fixture of the engine removes what is left."""
    return ContainerGateways(containers, http, gateway_image, pins)


def names(containers: Docker) -> list[str]:
    """Return the names of all containers that this program has there."""
    return sorted(one.name for one in containers.containers())


def test_two_generations_serve_side_by_side(
    gateways: Gateways, containers: Docker, model: FakeOpenAI, tmp_path: Path
) -> None:
    """Each its own config, on a port of its own; whoever looks later finds both, and can end one of them."""
    with FakeOpenAI("green") as other:
        blue = gateways.start(generation(tmp_path, "blue", config_for(model)), deadline_s=DEADLINE_S)
        green = gateways.start(generation(tmp_path, "green", config_for(other)), deadline_s=DEADLINE_S)
        answers = (embed(blue, "x"), embed(green, "x"))

    for got, name in zip(answers, ("blue", "green"), strict=True):
        assert got == pytest.approx(vector(name, "x", 8), abs=1e-5)
    assert {blue, green} == set(gateways.instances())
    assert NAME + "blue" == blue.container
    assert alive(blue.process.pid)
    gateways.stop("blue")
    gateways.stop("blue")
    assert (green,) == gateways.instances()
    assert [NAME + "green"] == names(containers)


def alive(pid: int) -> bool:
    """Whether the host has a process of that number."""
    return pid > 0 and Path(f"/proc/{pid}").exists()


def test_it_can_do_little_and_shows_no_key(
    gateways: Gateways, containers: Docker, engine_lab: EngineLab, tmp_path: Path
) -> None:
    """No capability, nothing to write, loopback alone; its key reaches the provider, and nobody who asks."""
    with Keyed() as server:
        keys = environment_of(server.config)
        made = gateways.start(generation(tmp_path, "blue", server.config, keys), deadline_s=DEADLINE_S)
        embed(made, "x")
    client = engine_lab.client()
    inspected = client.inspect_container(made.container)
    told = [
        json.dumps(inspected),
        json.dumps(client.top(made.container)),
        json.dumps(client.top(made.container, ps_args="aux")),
        gateways.log_tail("blue"),
        containers.logs(inspected["Id"]),
    ]
    client.close()
    status = Path(f"/proc/{made.process.pid}/status").read_text()

    assert [ODD_KEY] == server.keys
    assert VARIABLE in keys
    assert not [text for text in told if "sk-" in text or VARIABLE in text]
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert inspected["HostConfig"]["ReadonlyRootfs"]
    assert "host" == inspected["HostConfig"]["NetworkMode"]
    assert not inspected["HostConfig"]["PortBindings"]
    assert ["127.0.0.1"] == listening(made.port)
    assert "TensorZero Gateway is listening on" in gateways.log_tail("blue")


def listening(port: int) -> list[str]:
    """Return the addresses on which somebody listens on a port."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, _, number = local.partition(":")
        if int(number, 16) == port and state == "0A":
            found.append(socket.inet_ntoa(bytes.fromhex(address)[::-1]))
    return found


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BROKEN, r"ended with exit code 1 while it started: embedding_models\.m.*unknown field `providerz`"),
        ("a = ", "while it started: Failed to parse config file as valid TOML"),
        (
            '[gateway]\nbind_address = "0.0.0.0:3000"\n',
            r"gateway\.bind_address = '0\.0\.0\.0:3000', but each",
        ),
    ],
    ids=["unknown field", "not TOML", "a port of its own"],
)
def test_a_rejected_config_leaves_nothing(
    gateways: Gateways, containers: Docker, model: FakeOpenAI, tmp_path: Path, config: str, reason: str
) -> None:
    """TensorZero's own sentence says why; the gateway beside it never notices."""
    blue = gateways.start(generation(tmp_path, "blue", config_for(model)), deadline_s=DEADLINE_S)

    with pytest.raises(RouteError, match=reason) as raised:
        gateways.start(generation(tmp_path, "green", config), deadline_s=DEADLINE_S)

    assert "\n" not in str(raised.value)
    assert "; the gateways that ran before still run; " in str(raised.value)
    assert [NAME + "blue"] == names(containers)
    assert pytest.approx(vector("blue", "x", 8), abs=1e-5) == embed(blue, "x")


def test_a_key_that_is_missing(gateways: Gateways, containers: Docker, tmp_path: Path) -> None:
    """TensorZero's sentence names the variable."""
    with Keyed() as server, pytest.raises(RouteError, match=VARIABLE):
        gateways.start(generation(tmp_path, "blue", server.config), deadline_s=DEADLINE_S)

    assert [] == names(containers)


def test_a_key_file_that_is_gone(gateways: Gateways, containers: Docker, tmp_path: Path) -> None:
    """The engine says what it cannot mount."""
    meant = generation(tmp_path, "blue", "")
    meant.environment.unlink()

    with pytest.raises(RouteError, match=r"keys/blue\.env"):
        gateways.start(meant, deadline_s=DEADLINE_S)

    assert [] == names(containers)


def test_other_files_beside_the_config_are_not_loaded(
    gateways: Gateways, model: FakeOpenAI, tmp_path: Path
) -> None:
    """One that does not load would keep the gateway from starting."""
    meant = generation(tmp_path, "blue", config_for(model))
    (meant.folder / "other.toml").write_text(BROKEN)

    assert gateways.start(meant, deadline_s=DEADLINE_S).running


def test_the_same_generation_again_keeps_its_port(
    gateways: Gateways, containers: Docker, model: FakeOpenAI, tmp_path: Path
) -> None:
    """A proxy may still point there; the container is a new one, for it may have other keys."""
    meant = generation(tmp_path, "blue", config_for(model))
    first = gateways.start(meant, deadline_s=DEADLINE_S)
    second = gateways.start(meant, deadline_s=DEADLINE_S)

    assert first.port == second.port
    assert first.process.pid != second.process.pid
    assert [NAME + "blue"] == names(containers)


def test_a_stop_waits_for_requests(gateways: Gateways, model: FakeOpenAI, tmp_path: Path) -> None:
    """Nobody else comes in, and what runs is answered."""
    made = gateways.start(generation(tmp_path, "blue", config_for(model)), deadline_s=DEADLINE_S)
    model.fault = "hang"
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(embed, made, "x")
        until(lambda: model.requests)
        stopping = pool.submit(gateways.stop, "blue")
        until(lambda: refused(made.port))
        assert not stopping.done()
        model.release.set()
        got = running.result()
        stopping.result()

    assert pytest.approx(vector("blue", "x", 8), abs=1e-5) == got
    assert () == gateways.instances()


def test_a_request_without_end_is_cut(
    containers: Docker, http: Httpx, gateway_image: ToolImage, pins: Path, model: FakeOpenAI, tmp_path: Path
) -> None:
    """TensorZero itself would wait for it for ever."""
    gateways = ContainerGateways(containers, http, gateway_image, pins, finish_s=1)
    made = gateways.start(generation(tmp_path, "blue", config_for(model)), deadline_s=DEADLINE_S)
    model.fault = "hang"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(embed, made, "x")
        until(lambda: model.requests)
        gateways.stop("blue")

        assert isinstance(running.exception(60), httpx.TransportError)
    assert [] == names(containers)


def test_one_that_is_killed_comes_back_on_its_port(
    gateways: Gateways, engine_lab: EngineLab, model: FakeOpenAI, tmp_path: Path
) -> None:
    """The engine starts it again, with its config."""
    made = gateways.start(generation(tmp_path, "blue", config_for(model)), deadline_s=DEADLINE_S)
    client = engine_lab.client()
    pid, command = client.top(made.container, ps_args="-o pid,args")["Processes"][-1]
    client.close()
    assert "gateway_program.py" in command
    os.kill(int(pid), signal.SIGKILL)

    def answered() -> bool:
        try:
            return bool(embed(made, "x"))
        except httpx.TransportError:
            return False

    eventually(answered, within_s=60)
    (again,) = gateways.instances()
    assert made.port == again.port
    assert made.process.pid != again.process.pid


def test_a_run_that_is_stopped(
    containers: Docker, http: Httpx, gateway_image: ToolImage, pins: Path, tmp_path: Path
) -> None:
    """Nothing is left of what it began."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        ContainerGateways(containers, http, gateway_image, pins, stop=stop).start(
            generation(tmp_path, "blue", ""), deadline_s=DEADLINE_S
        )

    assert [] == names(containers)


def test_one_that_hangs_while_it_starts(gateways: Gateways, containers: Docker, tmp_path: Path) -> None:
    """It is given up after the deadline, and removed."""
    meant = generation(tmp_path, "blue", "", 'sleep 600; A="b"\n')

    with pytest.raises(RouteError, match=r"of generation blue does not serve within 1\.5 s"):
        gateways.start(meant, deadline_s=1.5)

    assert [] == names(containers)


def test_others_are_no_gateways(gateways: Gateways, containers: Docker, busybox_image: str) -> None:
    """A model server's container is not listed."""
    containers.create(shell_spec(busybox_image, "sleep 600"), host_port=1)

    assert () == gateways.instances()
    assert "no log" == gateways.log_tail("shell")


def test_the_image_is_pulled_and_pinned(
    containers: Docker, http: Httpx, gateway_image: ToolImage, pins: Path
) -> None:
    """A host stays with the digest that it had first; what no registry has is refused."""
    unpinned = msgspec.structs.replace(gateway_image, digest=None)
    ContainerGateways(containers, http, unpinned, pins).prepare()

    key = f"{gateway_image.repository}:{gateway_image.tag}"
    assert {key: gateway_image.digest} == json.loads(pins.read_text())
    gone = msgspec.structs.replace(gateway_image, digest=f"sha256:{'0' * 64}")
    with pytest.raises(ImageRefusedError, match="cannot be had"):
        ContainerGateways(containers, http, gone, pins).prepare()


def test_two_configs_of_one_hash(
    gateways: Gateways, containers: Docker, model: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that serves the config of another one is refused; the same config twice is none of that."""
    gateways.start(generation(tmp_path, "blue", config_for(model)), deadline_s=DEADLINE_S)
    gateways.start(
        generation(tmp_path, "same", config_for(model) + "# told otherwise\n"), deadline_s=DEADLINE_S
    )
    wrong = generation(tmp_path, "wrong", "")
    mounted = Mount(str(tmp_path / "generations/blue"), container.FOLDER)
    made = container.container_spec
    monkeypatch.setattr(
        container,
        "container_spec",
        lambda *given, **more: replace(made(*given, **more), mounts=(mounted,)),
    )

    with pytest.raises(
        RouteError, match=r"^the gateway of generation wrong serves the config of (blue|same)"
    ):
        gateways.start(wrong, deadline_s=DEADLINE_S)

    assert [NAME + "blue", NAME + "same"] == names(containers)


def test_podman_runs_them_too(
    registry_lab: RegistryLab, gateway_image: ToolImage, http: Httpx, pins: Path, tmp_path: Path
) -> None:
    """The same seam: its keys, its port, its end, and TensorZero's own sentence."""
    why = engine_podman.missing()
    if why:
        pytest.skip(why)
    with (
        tempfile.TemporaryDirectory(prefix="pmoves-lab-podman-") as folder,
        PodmanLab(Path(folder), registry_port=registry_lab.port) as lab,
        contextlib.closing(Docker(lab.address, "lab-podman-gateways")) as podman,
        Keyed() as server,
    ):
        gateways = ContainerGateways(podman, http, gateway_image, pins)
        gateways.prepare()
        meant = generation(tmp_path, "blue", server.config, environment_of(server.config))
        made = gateways.start(meant, deadline_s=DEADLINE_S)

        assert [1.0, 0.0] == embed(made, "x")
        assert (made,) == gateways.instances()
        with pytest.raises(RouteError, match="unknown field `providerz`"):
            gateways.start(generation(tmp_path, "green", BROKEN), deadline_s=DEADLINE_S)
        gateways.stop("blue")
        assert () == podman.containers()
    assert [ODD_KEY] == server.keys
