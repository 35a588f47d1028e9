"""ClickHouse beside the gateway: what is made of a profile that asks for it."""

from __future__ import annotations

import hashlib
import stat
import threading
import tomllib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tasks.effects.containers.engine import EngineGoneError
from tasks.effects.containers.memory import MemoryEngine
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import RouteError, StoppedError
from tasks.route import observability
from tasks.route.generations import Store
from tasks.route.merge.keys import read_environment
from tasks.route.observability import NAME, Place, container_spec, end, ensure
from tasks.route.rollout import roll_out
from tests.lab.routing import World, order


class Lab:
    """An engine that has the image, and a ClickHouse that answers while its container runs."""

    def __init__(self, folder: Path) -> None:
        self.engine = MemoryEngine()
        image = self.engine.offer("clickhouse/clickhouse-server:25.8", here=True)
        self.place = Place(folder / "clickhouse", image, 18123, uid=1000, gid=1000)
        self.http = MemoryHttp(self.answer)
        self.deaf = False

    def answer(self, request: Request) -> Reply:
        """Be ClickHouse."""
        state = self.engine.find(NAME)
        if self.deaf or state is None or not state.running:
            raise HttpError("the connection is refused")
        assert request.url == f"http://127.0.0.1:{state.published}/ping"
        return Reply(200, b"Ok.\n", 0.001)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a host without ClickHouse."""
    return Lab(tmp_path)


def test_the_first_time(lab: Lab) -> None:
    """It is made, and the address holds a password that stands in no variable and no argument."""
    address, change = ensure(lab.place, lab.engine, lab.http)

    password = (lab.place.folder / "password").read_text()
    spec = container_spec(lab.place)
    assert change.kind == "create"
    assert address == f"http://tensorzero:{password}@127.0.0.1:18123/tensorzero"
    assert len(password) >= 32
    assert password not in repr(spec)


def test_it_is_left_alone(lab: Lab) -> None:
    """A second look changes nothing, and finds the same password."""
    first, _ = ensure(lab.place, lab.engine, lab.http)
    before = lab.engine.find(NAME)

    again, change = ensure(lab.place, lab.engine, lab.http)

    assert (again, change.kind) == (first, "keep")
    assert lab.engine.find(NAME) == before


def test_another_image(lab: Lab) -> None:
    """It is replaced, and its data stays."""
    ensure(lab.place, lab.engine, lab.http)
    (lab.place.folder / "data" / "store").write_text("rows")
    newer = replace(lab.place, image=lab.engine.offer("clickhouse/clickhouse-server:26.3", here=True))

    _, change = ensure(newer, lab.engine, lab.http)

    assert change.kind == "replace"
    assert change.reason == "it is to run otherwise than it did; its data stays"
    assert (lab.place.folder / "data" / "store").read_text() == "rows"


def test_one_that_ended_is_started_again(lab: Lab) -> None:
    """In a new container of the same kind."""
    ensure(lab.place, lab.engine, lab.http)
    state = lab.engine.find(NAME)
    assert state is not None
    lab.engine.stop(state.id, timeout_s=1)

    _, change = ensure(lab.place, lab.engine, lab.http)

    assert (change.kind, change.reason) == ("replace", "it did not run; its data stays")


def test_only_its_own_user(lab: Lab) -> None:
    """The file of users has one, with a hash, and none without a password; nobody else reads it."""
    ensure(lab.place, lab.engine, lab.http)

    path = lab.place.folder / "users.xml"
    tree = ET.parse(path).getroot()  # noqa: S314  # our own file
    password = (lab.place.folder / "password").read_text()
    assert tree.find("users/default").attrib == {"remove": "remove"}  # type: ignore[union-attr]
    assert (
        tree.findtext("users/tensorzero/password_sha256_hex") == hashlib.sha256(password.encode()).hexdigest()
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((lab.place.folder / "password").stat().st_mode) == 0o600


def test_it_is_ended(lab: Lab) -> None:
    """Where nobody wants it any more; its data stays. One of the same name that is not ours stays too."""
    ensure(lab.place, lab.engine, lab.http)
    done = end(lab.engine)

    assert done is not None
    assert (done.kind, lab.engine.find(NAME), end(lab.engine)) == ("remove", None, None)
    assert (lab.place.folder / "data").is_dir()

    lab.engine.stranger(NAME)
    assert end(lab.engine) is None
    assert lab.engine.find(NAME) is not None


@pytest.mark.parametrize(("uid", "user"), [(1000, "1000:1000"), (0, "101:101")])
def test_who_it_runs_as(lab: Lab, uid: int, user: str) -> None:
    """Whoever runs us; the image's own user where that is root."""
    assert container_spec(replace(lab.place, uid=uid, gid=uid)).user == user


def test_an_engine_that_is_gone(lab: Lab) -> None:
    """One sentence that says how to go on without it."""
    lab.engine.fail("create", EngineGoneError("it does not answer"))

    with pytest.raises(RouteError) as caught:
        ensure(lab.place, lab.engine, lab.http)

    assert str(caught.value) == (
        "ClickHouse, where the gateway is to keep its records, cannot be started (it does not answer);"
        " the routes in use are unchanged; mend that, or set `observability: none` in the profile."
    )


def test_one_that_never_answers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and its container named."""
    monkeypatch.setattr(observability, "DEADLINE_S", 0.0)
    monkeypatch.setattr(observability, "POLL_S", 0.0)
    lab.deaf = True

    with pytest.raises(RouteError, match="ClickHouse did not answer within 0 s") as caught:
        ensure(lab.place, lab.engine, lab.http)

    assert caught.value.then == f"look with `docker logs {NAME}`"


def test_one_whose_last_words_cannot_be_had(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that goes while it is waited for is part of the same sentence."""
    monkeypatch.setattr(observability, "DEADLINE_S", 0.0)
    monkeypatch.setattr(observability, "POLL_S", 0.0)
    lab.deaf = True
    lab.engine.fail("logs", EngineGoneError("it does not answer"))

    with pytest.raises(RouteError) as caught:
        ensure(lab.place, lab.engine, lab.http)

    assert caught.value.what == (
        "ClickHouse did not answer within 0 s (its output cannot be read: it does not answer)"
    )


def test_a_wait_ends_when_the_run_is_stopped(lab: Lab) -> None:
    """At once, and not when the time for ClickHouse is over; its container stays for the next run."""
    stop = threading.Event()
    asked = []

    def deaf(request: Request) -> Reply:
        asked.append(request)
        assert len(asked) == 1, "nobody is asked again once the run is stopped"
        stop.set()
        raise HttpError("the connection is refused")

    with pytest.raises(StoppedError) as caught:
        ensure(lab.place, lab.engine, MemoryHttp(deaf), stop=stop)

    assert str(caught.value) == (
        "stopped while ClickHouse came up; the routes in use are unchanged; start the run again."
    )
    assert ensure(lab.place, lab.engine, lab.http, stop=threading.Event())[1].kind == "keep"


@pytest.mark.parametrize("spoil", ["file", "folder", "bytes"])
def test_a_folder_that_cannot_be_used(lab: Lab, spoil: str) -> None:
    """It is named, with what is wrong there; nothing is started."""
    folder = lab.place.folder
    if spoil == "file":
        folder.write_text("")
        why = "File exists"
    elif spoil == "folder":
        (folder / "password").mkdir(parents=True)
        why = "Is a directory"
    else:
        folder.mkdir()
        (folder / "password").write_bytes(b"\xff")
        why = "a file in it is no text"
    said = "cannot be used (" + ("Not a directory" if spoil == "file" else why)

    with pytest.raises(RouteError) as caught:
        ensure(lab.place, lab.engine, lab.http)

    assert caught.value.what.startswith(
        f"{folder}, where ClickHouse is to have its data and its password, {said}"
    )
    assert lab.engine.find(NAME) is None


def test_a_gateway_that_keeps_what_it_does(tmp_path: Path) -> None:
    """Its config says so, and its environment alone has the address; a database that appears is a change."""
    world = World(tmp_path)
    wanted = order("a", functions=("chat",))
    roll_out(wanted, world.context())
    context = world.context(database="http://tensorzero:password-7@127.0.0.1:28123/tensorzero")

    route = roll_out(wanted, context)
    again = roll_out(wanted, context)

    environment = Store(context.folder).keys(route.generation)
    assert (route.change.kind, again.change.kind) == ("replace", "keep")
    assert tomllib.loads(route.config)["gateway"]["observability"] == {"enabled": True}
    assert read_environment(environment.read_text())["TENSORZERO_CLICKHOUSE_URL"] == context.database
    assert "password-7" not in f"{route}{context}"
