"""Which proxy is chosen, and the move from one kind to another."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tasks.contracts import ToolImage
from tasks.effects.containers.memory import MemoryEngine
from tasks.effects.supervisord import Supervisord
from tasks.errors import PortTakenError, ProvisionError, RefusedError
from tasks.route.proxy.choose import InContainer, Moving, choose
from tasks.route.proxy.contract import Door, MemoryProxy, Proxy, Target
from tasks.route.proxy.front import FrontProxy
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_container import ContainerStarter
from tasks.route.proxy.haproxy_starter import ProcessStarter
from tests.lab.gateway import free_port
from tests.lab.haproxy import FakeGateway, client_of, proxied, who

BLUE, GREEN = Target("blue", 4001), Target("green", 4002)
IMAGE = ToolImage("haproxy", "docker.io/library/haproxy", "3.2.24-alpine", 8080, 1, "a test")


@dataclass(slots=True)
class Refusing(MemoryProxy):
    """One that cannot be pointed."""

    error: ProvisionError = field(default_factory=lambda: PortTakenError("taken", "intact", "free it"))

    def point(self, target: Target) -> None:
        """Refuse."""
        self.did.append(f"refuse {target.name}")
        raise self.error


def made(folder: Path, *, haproxy: bool, container: bool) -> Moving:
    """Choose on a host that has these."""
    found = choose(
        Door(3000),
        folder,
        Supervisord(folder),
        "python",
        haproxy=Path("/usr/sbin/haproxy") if haproxy else None,
        container=InContainer(MemoryEngine(), IMAGE, folder / "pins") if container else None,
    )
    assert isinstance(found, Moving)
    return found


def test_the_choice(tmp_path: Path) -> None:
    """The system's HAProxy comes first, then one in a container, then the front; the others are known."""
    first = made(tmp_path, haproxy=True, container=True)
    second = made(tmp_path, haproxy=False, container=True)
    third = made(tmp_path, haproxy=False, container=False)

    assert [one.kind for one in (first, second, third)] == ["haproxy", "haproxy", "front"]
    assert isinstance(first.chosen, HaProxy)
    assert isinstance(first.chosen.starter, ProcessStarter)
    assert isinstance(second.chosen, HaProxy)
    assert isinstance(second.chosen.starter, ContainerStarter)
    assert [len(one.others) for one in (first, second, third)] == [2, 1, 0]
    folders = {one.folder for one in (first.chosen, *first.others) if isinstance(one, (HaProxy, FrontProxy))}
    assert len(folders) == 3


def test_a_move() -> None:
    """The one that runs is stopped right before the other is pointed, once, and that is said."""
    old, new, said = MemoryProxy("front", BLUE, up=True), MemoryProxy("haproxy"), list[str]()
    moving = Moving(new, (old,), said.append)
    before = (moving.active(), moving.runs(), moving.kind)
    moving.point(GREEN)
    moving.point(BLUE)

    assert before == (BLUE, True, "haproxy")
    assert (old.did, new.did) == (["stop"], ["point green", "point blue"])
    assert said == ["the gateway's port moves from front to haproxy, with a short pause"]
    assert (moving.active(), moving.runs()) == (BLUE, True)


def test_a_move_that_fails() -> None:
    """The old one is back where it was."""
    old, new = MemoryProxy("front", BLUE, up=True), Refusing("haproxy")
    with pytest.raises(PortTakenError):
        Moving(new, (old,)).point(GREEN)

    assert (old.did, old.active(), old.runs()) == (["stop", "point blue"], BLUE, True)


def test_the_first_time() -> None:
    """Where none runs, the chosen one is pointed, and the others are left alone."""
    old, new = MemoryProxy("front", BLUE), MemoryProxy("haproxy")
    Moving(new, (old,)).point(GREEN)

    assert (old.did, new.did) == ([], ["point green"])


def test_all_of_them_stop() -> None:
    """`pmoves down` leaves none."""
    proxies: list[MemoryProxy] = [MemoryProxy("haproxy"), MemoryProxy("front", BLUE, up=True)]
    Moving(proxies[0], (proxies[1],)).stop()

    assert [one.did for one in proxies] == [["stop"], ["stop"]]


def test_whoever_runs_is_asked() -> None:
    """Drained, counts and the target are those of the one that runs."""
    old, new = MemoryProxy("front", BLUE, up=True, busy={"blue"}), MemoryProxy("haproxy")
    moving: Proxy = Moving(new, (old,))

    assert not moving.drained(BLUE, 0)
    assert moving.counts() == ()
    assert old.did == ["drained blue"]


@pytest.mark.real
def test_from_the_front_to_haproxy_and_back(tmp_path: Path) -> None:
    """The port answers on both sides of both moves, and one process has it at a time."""
    with proxied(tmp_path / "state", Door(free_port())) as haproxy, FakeGateway("blue") as blue:
        assert isinstance(haproxy.starter, ProcessStarter)
        supervisor, folder = haproxy.starter.supervisor, tmp_path / "state" / "gateway" / "proxy"
        front = choose(haproxy.door, folder, supervisor, sys.executable, haproxy=None)
        there = choose(haproxy.door, folder, supervisor, sys.executable, haproxy=haproxy.starter.program)
        seen = []
        for proxy in (front, there, there):
            proxy.point(blue.target)
            with client_of(haproxy) as client:
                seen.append((who(client), proxy.active(), len(supervisor.states())))
        back = choose(
            haproxy.door, folder, supervisor, sys.executable, haproxy=haproxy.starter.program, mode="front"
        )
        back.point(blue.target)
        with client_of(haproxy) as client:
            seen.append((who(client), back.active(), len(supervisor.states())))

    assert seen == [("blue", blue.target, 1)] * 4


def test_what_the_front_cannot(tmp_path: Path) -> None:
    """A token without any HAProxy is one sentence that names the package."""
    door = Door(3000, token_sha256="0" * 64)
    found = choose(door, tmp_path, Supervisord(tmp_path), "python", haproxy=None)
    old = MemoryProxy("haproxy", BLUE, up=True)
    assert isinstance(found, Moving)
    with pytest.raises(RefusedError, match="needs HAProxy") as told:
        replace(found, others=(old,)).point(BLUE)

    assert "apt install haproxy" in str(told.value)
    assert old.did == []


def test_a_kind_that_is_asked_for(tmp_path: Path) -> None:
    """The front may be asked for where HAProxy is; HAProxy where there is none is refused."""
    program = Path("/usr/sbin/haproxy")
    supervisor, door = Supervisord(tmp_path), Door(3000)
    front = choose(door, tmp_path, supervisor, "python", haproxy=program, mode="front")

    assert front.kind == "front"
    with pytest.raises(RefusedError, match="this host has none") as told:
        choose(door, tmp_path, supervisor, "python", haproxy=None, mode="haproxy")
    assert "apt install haproxy" in str(told.value)
