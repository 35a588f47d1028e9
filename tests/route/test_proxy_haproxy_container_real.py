"""HAProxy in a container of a real engine: the system's own, in an image made here."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.contracts import ToolImage
from tasks.effects.containers.docker import Docker
from tasks.errors import PortTakenError
from tasks.route.proxy.contract import PROGRAM, Door
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_container import NAME, ContainerStarter
from tests.lab import haproxy_image
from tests.lab.engine_registry import RegistryLab
from tests.lab.gateway import free_port, until
from tests.lab.haproxy import CHAT, FakeGateway, client_of, event, model, who
from tests.lab.tls import Authority

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def image(registry_lab: RegistryLab) -> ToolImage:
    """Return the image."""
    return haproxy_image.pushed(registry_lab)


@pytest.fixture
def proxy(containers: Docker, image: ToolImage, tmp_path: Path) -> HaProxy:
    """Return a proxy that was never pointed; the engine's fixture removes what is left."""
    folder = tmp_path / "state" / "gateway" / "proxy"
    starter = ContainerStarter(folder, containers, image, tmp_path / "images.lock.json")
    return HaProxy(Door(free_port()), folder, starter)


@pytest.fixture
def blue() -> Iterator[FakeGateway]:
    """Return what serves first."""
    with FakeGateway("blue") as made:
        yield made


@pytest.fixture
def green() -> Iterator[FakeGateway]:
    """Return what serves then."""
    with FakeGateway("green") as made:
        yield made


@pytest.fixture
def client(proxy: HaProxy) -> Iterator[httpx.Client]:
    """Return a client of the public port."""
    with client_of(proxy) as made:
        yield made


def made(containers: Docker) -> str:
    """Return the id of the container."""
    found = containers.find(NAME)
    assert found is not None
    return found.id


def test_there_and_back(
    proxy: HaProxy, client: httpx.Client, containers: Docker, blue: FakeGateway, green: FakeGateway
) -> None:
    """It is pulled, started once and flipped; a stream outlives a flip, and its end is seen."""
    proxy.point(blue.target)
    first = made(containers)
    asked = {"hold": True, "events": [event(model("f", "v"))] * 2}
    with client.stream("POST", CHAT, json=asked) as reply:
        lines = (line for line in reply.iter_lines() if line)
        next(lines)
        proxy.point(green.target)
        during = (proxy.drained(blue.target, 0.2), who(client), proxy.active())
        blue.release.set()
        rest = list(lines)
    proxy.point(blue.target)

    assert (during, rest[-1]) == ((False, "green", green.target), "data: [DONE]")
    assert proxy.drained(green.target, 30)
    assert who(client) == "blue"
    assert made(containers) == first
    assert sum(one.requests for one in proxy.counts()) == 3
    assert {path.owner() for path in proxy.folder.iterdir()} == {proxy.folder.owner()}


def test_killed(
    proxy: HaProxy, client: httpx.Client, containers: Docker, blue: FakeGateway, green: FakeGateway
) -> None:
    """The engine brings it back where it was pointed last."""
    proxy.point(blue.target)
    proxy.point(green.target)
    before = containers.pids(made(containers))
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: proxy.runs() and set(containers.pids(made(containers))).isdisjoint(before))

    assert (proxy.active(), who(client)) == (green.target, "green")


def test_another_door(proxy: HaProxy, containers: Docker, blue: FakeGateway) -> None:
    """Another port is a reload, and no other container."""
    proxy.point(blue.target)
    first = made(containers)
    moved = replace(proxy, door=Door(free_port()))
    moved.point(blue.target)
    with client_of(moved) as client:
        assert who(client) == "blue"
    assert made(containers) == first


def test_a_certificate(proxy: HaProxy, containers: Docker, blue: FakeGateway, tmp_path: Path) -> None:
    """It is seen inside; a renewed one is another container."""
    authority = Authority.make(tmp_path / "ca")
    certificate = tmp_path / "door.pem"
    certificate.write_bytes(authority.issue().read_bytes())
    secured = replace(proxy, door=Door(proxy.door.port, certificate=certificate))
    seen = []
    for _ in range(2):
        secured.point(blue.target)
        with client_of(secured, verify=ssl.create_default_context(cafile=str(authority.bundle))) as client:
            seen.append((who(client), made(containers)))
        certificate.unlink()
        certificate.write_bytes(authority.issue().read_bytes())

    assert [name for name, _ in seen] == ["blue", "blue"]
    assert seen[0][1] != seen[1][1]


def test_stop(proxy: HaProxy, client: httpx.Client, containers: Docker, blue: FakeGateway) -> None:
    """What is in flight is answered, the container is gone, and the port is free."""
    proxy.point(blue.target)
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(client.post, CHAT, json={"hold": True})
        until(lambda: blue.asked)
        stopping = pool.submit(proxy.stop)
        blue.release.set()
        stopping.result(60)

        assert held.result().status_code == 200
    socket.create_server(("127.0.0.1", proxy.door.port)).close()
    assert [one for one in containers.containers() if one.server == PROGRAM] == []
    assert proxy.active() == blue.target


def test_a_stranger_has_the_port(proxy: HaProxy, containers: Docker, blue: FakeGateway) -> None:
    """It is refused before a container is made."""
    with socket.create_server(("127.0.0.1", proxy.door.port)), pytest.raises(PortTakenError):
        proxy.point(blue.target)

    assert containers.containers() == ()
