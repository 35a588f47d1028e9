"""HAProxy in a container, on an engine in memory; what the container does is played by a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.contracts import ContainerSpec, Mount, ToolImage
from tasks.effects.containers.engine import EngineGoneError, PortBusyError
from tasks.effects.containers.memory import Behaviour, MemoryEngine
from tasks.errors import PortTakenError, RouteError
from tasks.route.proxy.contract import PROGRAM, Door, Target
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_container import CERTIFICATE, ContainerStarter

IMAGE = ToolImage("haproxy", "docker.io/library/haproxy", "3.2.24-alpine", 8080, 1_000, "a test")
NAME = f"pmoves-{PROGRAM}"


@pytest.fixture
def engine() -> MemoryEngine:
    """Return an engine whose registry has the image."""
    made = MemoryEngine()
    made.offer(f"{IMAGE.repository}:{IMAGE.tag}")
    return made


@pytest.fixture
def starter(engine: MemoryEngine, tmp_path: Path) -> ContainerStarter:
    """Return what starts the container."""
    return ContainerStarter(tmp_path / "proxy", engine, IMAGE, tmp_path / "images.lock.json")


def spec(engine: MemoryEngine) -> ContainerSpec:
    """Return what the container was made of."""
    found = engine.spec_of(NAME)
    assert found is not None
    return found


def test_the_container(starter: ContainerStarter, engine: MemoryEngine, tmp_path: Path) -> None:
    """It has the host's network, the folder and this user; nothing else of the host."""
    starter.start(None)
    made = spec(engine)

    assert made.command == (
        "-W", "-db", "-C", "/proxy", "-f", "haproxy.cfg", "-S", "unix@master.sock,mode,600"
    )  # fmt: skip
    assert made.entrypoint == ("haproxy",)
    assert made.host_network
    assert made.mounts == (Mount(str(tmp_path / "proxy"), "/proxy", read_only=False),)
    assert made.user == f"{os.getuid()}:{os.getgid()}"
    assert made.read_only_root
    assert made.image == f"{IMAGE.repository}@{engine.tags[f'{IMAGE.repository}:{IMAGE.tag}']}"
    assert (made.secrets, made.environment) == ((), ())
    assert starter.running()
    assert starter.fits(None)


def test_the_image_is_pulled_once_and_pinned(
    starter: ContainerStarter, engine: MemoryEngine, tmp_path: Path
) -> None:
    """A registry that has another one by then changes nothing."""
    starter.start(None)
    engine.tags.clear()
    starter.start(None)

    assert [call for call, _ in engine.calls].count("pull") == 1
    assert IMAGE.tag in (tmp_path / "images.lock.json").read_text()


def test_a_certificate(starter: ContainerStarter, engine: MemoryEngine, tmp_path: Path) -> None:
    """It is mounted alone, and a renewed one is another container: a file that is mounted does not change."""
    certificate = tmp_path / "door.pem"
    certificate.write_text("one")
    starter.start(certificate)
    before = (starter.fits(certificate), starter.fits(None))
    certificate.write_text("two")

    assert spec(engine).secrets == ((CERTIFICATE, str(certificate)),)
    assert starter.certificate(certificate) == "/run/secrets/certificate.pem"
    assert (before, starter.fits(certificate)) == ((True, False), False)


def test_it_is_started_anew(starter: ContainerStarter, engine: MemoryEngine) -> None:
    """In place of what is there, whatever became of it; a stranger of the same name is left alone."""
    starter.start(None)
    engine.end(NAME)
    ended = (starter.running(), starter.fits(None))
    starter.start(None)
    starter.stop()
    starter.stop()

    assert ended == (False, True)
    assert (starter.running(), engine.containers()) == (False, ())
    engine.stranger(NAME)
    with pytest.raises(RouteError, match="the name pmoves-gateway-proxy is taken by somebody else's"):
        starter.start(None)


def test_the_engine_fails(starter: ContainerStarter, engine: MemoryEngine) -> None:
    """One that is away is one sentence; a port that is taken is said as such."""
    engine.fail("containers", EngineGoneError("it went away"))
    away = starter.running()
    engine.fail("start", PortBusyError("the port on 127.0.0.1 is taken"))
    with pytest.raises(PortTakenError):
        starter.start(None)
    engine.fail("create", EngineGoneError("it went away"))
    with pytest.raises(RouteError, match=r"the container engine does not start the proxy \(it went away\)"):
        starter.start(None)

    assert not away


def test_its_last_words(
    starter: ContainerStarter, engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of its log, for the sentence that says that it does not start."""
    monkeypatch.setattr(
        "tasks.route.proxy.haproxy.refuse_taken", lambda _: None
    )  # fast tests open no sockets
    engine.behave(PROGRAM, Behaviour(exit_code=1, log="[ALERT] no such thing\n\nbye\n"))
    proxy = HaProxy(Door(39999), starter.folder, starter, deadline_s=0.2)
    none = starter.log_tail()
    with pytest.raises(
        RouteError, match=r"HAProxy does not start \(its log ends: \[ALERT\] no such thing \| bye\)"
    ):
        proxy.point(Target("blue", 4001))

    assert none == "no log"
    assert engine.containers() == ()
    assert {path.name for path in starter.folder.iterdir()} == {"proxy.lock"}
    assert proxy.active() is None
