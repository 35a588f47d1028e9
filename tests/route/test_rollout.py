"""How a config gets into use, and how it leaves again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.contracts import Event, VerifiedServer
from tasks.errors import PortTakenError, ProvisionError, RouteError, StoppedError
from tasks.route import folder, process
from tasks.route.config import render
from tasks.route.folder import ConfigFolder
from tasks.route.process import RouteContext
from tasks.route.rollout import roll_out
from tests.lab.routing import GATEWAY, World, digest
from tests.lab.verified import verified_server

A = "http://127.0.0.1:8101/v1"
B = "http://127.0.0.1:8102/v1"
OLD = (verified_server("a", base_url=A),)
NEW = (*OLD, verified_server("b", base_url=B))


class CrashError(BaseException):
    """The power goes."""


@pytest.fixture
def world() -> World:
    """Return a host without a gateway."""
    return World()


@pytest.fixture
def context(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RouteContext:
    """Return what routing needs, with every wait cut short."""
    monkeypatch.setattr(process, "ASK_AGAIN_S", 0.0)
    return RouteContext(
        supervisor=world,
        http=world.http,
        python="python",
        folder=tmp_path / "gateway",
        port=3030,
        deadline_s=0.3,
        check=lambda _: None,
        taken=lambda _: False,
    )


def with_(context: RouteContext, **changes: object) -> RouteContext:
    """Return a context in which some things differ."""
    values = {name: getattr(context, name) for name in RouteContext.__dataclass_fields__}
    return RouteContext(**{**values, **changes})


def reject(path: Path) -> None:
    """Be a TensorZero that rejects every config."""
    raise RouteError(
        f"TensorZero rejects the config: {path.name}", "the config in use is unchanged", "correct it"
    )


def rejected(context: RouteContext) -> list[str]:
    """Return the rejected configs, oldest first."""
    return [path.read_text() for path in sorted((context.folder / "rejected").glob("*.toml"))]


def in_use(context: RouteContext, world: World, servers: tuple[VerifiedServer, ...]) -> bool:
    """Whether these servers are in use: on disk, in the process, and with nothing half-done."""
    files = ConfigFolder(context.folder)
    text = render(servers)
    return (files.text(), world.serves, files.settled()) == (text, digest(text), True)


def test_first_time(context: RouteContext, world: World) -> None:
    """On a fresh host the config is written, the process started, and every model asked."""
    route = roll_out(NEW, context)

    assert world.did == ["start"]
    assert in_use(context, world, NEW)
    assert route.change.kind == "create"
    assert route.base_url == f"{GATEWAY}/openai/v1"
    assert route.models == ("tensorzero::embedding_model_name::a", "tensorzero::embedding_model_name::b")
    assert (route.config, route.config_hash) == (render(NEW), digest(render(NEW)))
    assert route.process == world.state
    assert [answer.right for answer in route.answers] == [True, True]
    assert route.answers[0].got == "4 numbers of length 1.000, likeness 1.000"


def test_nothing_to_do(context: RouteContext, world: World) -> None:
    """A second run changes no file and no process; it still asks every model."""
    roll_out(OLD, context)
    before = {path: path.stat().st_mtime_ns for path in context.folder.rglob("*")}
    asked = len(world.http.requests)
    route = roll_out(OLD, with_(context, check=reject))

    assert route.change.kind == "keep"
    assert route.change.reason == f"config sha256 {digest(render(OLD))[:8]} is in use and unchanged"
    assert world.did == ["start"]
    assert before == {path: path.stat().st_mtime_ns for path in context.folder.rglob("*")}
    assert [request.method for request in world.http.requests[asked:]] == ["GET", "POST", "POST"]


def test_another_config(context: RouteContext, world: World) -> None:
    """A new server is a new config, taken over by the process that runs."""
    roll_out(OLD, context)
    route = roll_out(NEW, context)

    assert world.did == ["start", "HUP gateway"]
    assert in_use(context, world, NEW)
    assert route.change.kind == "replace"
    assert ConfigFolder(context.folder).previous.read_text() == render(OLD)


def test_another_port(context: RouteContext, world: World) -> None:
    """A process with another command is started anew."""
    roll_out(OLD, with_(context, python="older-python"))
    route = roll_out(OLD, context)

    assert world.did == ["start", "start"]
    assert route.change.reason == "the process was started with another command"


def test_killed(context: RouteContext, world: World) -> None:
    """A gateway that was killed, and not started again, is started with the same config."""
    roll_out(OLD, context)
    world.kill()
    route = roll_out(OLD, context)

    assert world.did == ["start", "start"]
    assert route.change.reason.startswith("the process is exited; it is to serve config")
    assert in_use(context, world, OLD)


def test_not_valid(context: RouteContext, world: World) -> None:
    """A config that TensorZero rejects never comes into use; it is kept for reading."""
    roll_out(OLD, context)
    with pytest.raises(RouteError) as caught:
        roll_out(NEW, with_(context, check=reject))

    assert str(caught.value).startswith(
        "TensorZero rejects the config: candidate.toml; the config in use is unchanged; read "
    )
    assert caught.value.then.removeprefix("read ") == str(next((context.folder / "rejected").iterdir()))
    assert in_use(context, world, OLD)
    assert world.did == ["start"]
    assert rejected(context) == [render(NEW)]


def test_not_loaded(context: RouteContext, world: World) -> None:
    """A config that the gateway itself cannot load is put back."""
    roll_out(OLD, context)
    world.unloadable = {render(NEW)}
    with pytest.raises(RouteError) as caught:
        roll_out(NEW, context)

    assert caught.value.what == "the gateway rejects the config: no such field"
    assert caught.value.intact == f"the last good config (sha256 {digest(render(OLD))[:8]}) is in use"
    assert in_use(context, world, OLD)
    assert rejected(context) == [render(NEW)]


def test_rejected_before(context: RouteContext, world: World) -> None:
    """That a config did not load last time says nothing about this time."""
    roll_out(OLD, context)
    world.unloadable = {render(NEW)}
    with pytest.raises(RouteError):
        roll_out(NEW, context)
    world.unloadable, world.deaf = set(), 1
    world.error = (digest(render(NEW)), "no such field")

    assert roll_out(NEW, context).config_hash == world.serves


def test_no_answer(context: RouteContext, world: World) -> None:
    """A config whose model does not answer is put back, in file and process."""
    roll_out(OLD, context)
    world.failing = {B}
    with pytest.raises(RouteError) as caught:
        roll_out(NEW, context)

    assert caught.value.what.startswith(
        "tensorzero::embedding_model_name::b does not answer through the gateway (HTTP 500"
    )
    assert in_use(context, world, OLD)
    assert world.did == ["start", "HUP gateway", "HUP gateway"]
    assert rejected(context) == [render(NEW)]


def test_wrong_server_answers(context: RouteContext, world: World) -> None:
    """A vector that is not the server's own is a wrong route, however well it looks."""
    world.swapped = {A}
    with pytest.raises(
        RouteError, match=r"is wrong: 4 numbers of length 1\.000, likeness -?0\.\d+, not 4 num"
    ):
        roll_out(OLD, context)


def test_first_time_without_answer(context: RouteContext, world: World) -> None:
    """Where nothing was served before, nothing is served after a failure."""
    world.failing = {A}
    with pytest.raises(RouteError) as caught:
        roll_out(OLD, context)

    assert caught.value.intact == "the gateway is stopped"
    assert world.did == ["start", "stop gateway"]
    assert ConfigFolder(context.folder).text() is None
    assert rejected(context) == [render(OLD)]


def test_kept_without_answer(context: RouteContext, world: World) -> None:
    """A model that stopped answering fails the run; the config is not to blame."""
    roll_out(OLD, context)
    world.failing = {A}
    with pytest.raises(RouteError):
        roll_out(OLD, context)

    assert in_use(context, world, OLD)
    assert rejected(context) == []


def test_does_not_start(context: RouteContext, world: World) -> None:
    """A process that ends at once is a sentence of this stage."""
    world.unloadable = {render(OLD)}
    with pytest.raises(RouteError, match="the gateway does not start: it ended at once"):
        roll_out(OLD, context)

    assert ConfigFolder(context.folder).text() is None


def test_port_taken(context: RouteContext, world: World) -> None:
    """A stranger on the port is refused before anything is written."""
    with pytest.raises(PortTakenError, match="port 3030 on 127"):
        roll_out(OLD, with_(context, taken=lambda port: port == 3030))

    assert not context.folder.exists()
    assert world.did == []


def test_stranger_answers(context: RouteContext, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status with another pid is not our gateway's, whatever its config."""
    roll_out(OLD, context)
    status = world._status()
    monkeypatch.setattr(world, "_status", lambda: {**status, "pid": 1})
    with pytest.raises(RouteError, match="did not take config"):
        roll_out(OLD, context)


def test_lost_signal(context: RouteContext, world: World) -> None:
    """A hang-up that comes to nothing is sent again."""
    roll_out(OLD, context)
    world.deaf = 2
    roll_out(NEW, context)

    assert world.did == ["start", "HUP gateway", "HUP gateway", "HUP gateway"]
    assert in_use(context, world, NEW)


def test_too_late(context: RouteContext, world: World) -> None:
    """A gateway that never takes the config is given up, and the file put back."""
    roll_out(OLD, context)
    world.deaf = 10**6
    with pytest.raises(RouteError) as caught:
        roll_out(NEW, context)

    old, new = digest(render(OLD))[:8], digest(render(NEW))[:8]
    assert caught.value.what == f"the gateway did not take config {new} within 0.3 s (it serves {old})"
    assert in_use(context, world, OLD)


def test_stopped(context: RouteContext, world: World) -> None:
    """A run that is asked to stop leaves the old config in use."""
    roll_out(OLD, context)
    stop = threading.Event()
    stop.set()
    world.deaf = 1
    with pytest.raises(StoppedError):
        roll_out(NEW, with_(context, stop=stop))

    assert in_use(context, world, OLD)


def test_restarted_meanwhile(context: RouteContext, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that dies instead of taking the signal comes back with the new config."""
    roll_out(OLD, context)

    def die(name: str, signal: str) -> None:
        world.did.append(f"{signal} {name}")
        world.start(process.process_spec(ConfigFolder(context.folder).in_use, 3030, "python"))
        raise OSError("no such process")

    monkeypatch.setattr(world, "signal", die)
    roll_out(NEW, context)

    assert in_use(context, world, NEW)


def crash_at(step: int, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Let the power go instead of the given effect, counted from 0."""
    left = step

    def guarded(effect: Callable[..., None]) -> Callable[..., None]:
        def run(*args: object, **kwargs: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise CrashError
            effect(*args, **kwargs)

        return run

    monkeypatch.setattr(folder, "_write", guarded(folder._write))
    monkeypatch.setattr(world, "signal", guarded(world.signal))
    monkeypatch.setattr(ConfigFolder, "settle", guarded(ConfigFolder.settle))


@pytest.mark.parametrize("step", range(5))
def test_crash_is_repaired(
    step: int, context: RouteContext, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever effect a crash comes before, the next run ends where the first would have."""
    roll_out(OLD, context)
    with monkeypatch.context() as patch:
        crash_at(step, patch, world)
        with pytest.raises(CrashError):
            roll_out(NEW, context)
    roll_out(NEW, context)

    assert in_use(context, world, NEW)
    assert roll_out(NEW, context).change.kind == "keep"


@pytest.mark.parametrize("step", range(5))
def test_crash_forgets_nothing(
    step: int, context: RouteContext, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever effect a crash comes before, a run that fails after it goes back to the last good config."""
    roll_out(OLD, context)
    with monkeypatch.context() as patch:
        crash_at(step, patch, world)
        with pytest.raises(CrashError):
            roll_out(NEW, context)
    world.failing = {B}
    with pytest.raises(ProvisionError):
        roll_out(NEW, context)

    assert in_use(context, world, OLD)


@pytest.mark.parametrize("step", range(4))
def test_crash_of_a_restart(
    step: int, context: RouteContext, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash while a proven config is started again does not make it look unproven."""
    roll_out(OLD, context)
    roll_out(NEW, context)
    world.kill()
    with monkeypatch.context() as patch:
        crash_at(step, patch, world)
        with pytest.raises(CrashError):
            roll_out(NEW, context)
    world.failing = {B}
    with pytest.raises(ProvisionError):
        roll_out(NEW, context)

    assert ConfigFolder(context.folder).text() == render(NEW)
    assert rejected(context) == []


def test_rejected_are_few(context: RouteContext) -> None:
    """Only the newest five rejected configs are kept."""
    for number in range(7):
        with pytest.raises(RouteError):
            roll_out((verified_server(f"m{number}"),), with_(context, check=reject))

    assert rejected(context) == [render((verified_server(f"m{number}"),)) for number in range(2, 7)]


def test_it_tells(context: RouteContext) -> None:
    """Who watches is told what is done, and why."""
    events: list[Event] = []
    roll_out(OLD, with_(context, sink=events.append))

    short = digest(render(OLD))[:8]
    assert [(event.stage, event.message) for event in events] == [
        ("route", f"create: the process does not exist; it is to serve config sha256 {short}"),
        ("route", f"config sha256 {short} is valid"),
    ]
