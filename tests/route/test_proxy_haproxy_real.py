"""HAProxy as the gateway's proxy: the real supervisor, the real program."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.effects.supervisord import Supervisord
from tasks.errors import PortTakenError, RouteError
from tasks.route.proxy.contract import PROGRAM, Count, Door, Target
from tasks.route.proxy.haproxy import HaProxy
from tasks.route.proxy.haproxy_socket import Sockets
from tasks.route.proxy.haproxy_starter import ProcessStarter
from tasks.route.proxy.haproxy_targets import SLOTS, parse
from tests.lab.gateway import free_port, until
from tests.lab.haproxy import CHAT, FakeGateway, answer, client_of, event, model, proxied, who

pytestmark = pytest.mark.real


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[HaProxy]:
    """Return a proxy that was never pointed."""
    with proxied(tmp_path / "state") as made:
        yield made


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


def supervisor(proxy: HaProxy) -> Supervisord:
    """Return what keeps it up."""
    assert isinstance(proxy.starter, ProcessStarter)
    assert isinstance(proxy.starter.supervisor, Supervisord)
    return proxy.starter.supervisor


def master(proxy: HaProxy) -> int:
    """Return the pid of the parent process."""
    return supervisor(proxy).states()[PROGRAM].pid


def worker(proxy: HaProxy) -> int:
    """Return the pid of the process that takes requests."""
    said = Sockets(proxy.folder).ask("show info")
    return int(next(line for line in said.splitlines() if line.startswith("Pid:")).split()[1])


# --- pointing ------------------------------------------------------------------------------------


def test_first_time(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """Before, it is nowhere; then it leads to its target, and files and sockets are this user's alone."""
    before = (proxy.active(), proxy.runs(), proxy.counts(), proxy.drained(blue.target, 0))
    proxy.point(blue.target)

    assert before == (None, False, (), True)
    assert (proxy.active(), proxy.runs()) == (blue.target, True)
    assert who(client) == "blue"
    assert {path.name: oct(path.stat().st_mode)[-3:] for path in proxy.folder.iterdir()} == {
        "haproxy.cfg": "600",
        "haproxy.lua": "600",
        "targets.map": "600",
        "admin.sock": "600",
        "master.sock": "600",
        "proxy.lock": "644",
    }
    assert oct(proxy.folder.stat().st_mode)[-3:] == "700"


def test_it_is_pointed_again_to_the_same(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """Nothing is started anew, and no process is replaced."""
    proxy.point(blue.target)
    before = (master(proxy), worker(proxy))
    proxy.point(blue.target)

    assert (master(proxy), worker(proxy)) == before
    assert who(client) == "blue"


def test_more_targets_than_slots(proxy: HaProxy, client: httpx.Client) -> None:
    """Slots are used again, once their targets have ended their requests."""
    with FakeGateway("blue") as blue, FakeGateway("green") as green:
        seen = []
        for number in range(2 * len(SLOTS) + 1):
            gateway = (blue, green)[number % 2]
            proxy.point(Target(f"g{number}", gateway.target.port))
            seen.append((proxy.active(), who(client)))

    assert [name for _, name in seen] == ["blue", "green"] * len(SLOTS) + ["blue"]
    assert [target.name for target, _ in seen if target] == [f"g{n}" for n in range(2 * len(SLOTS) + 1)]


def test_a_gateway_that_was_started_anew(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """The same generation on another port is another target."""
    proxy.point(Target("blue", free_port()))
    proxy.point(blue.target)

    assert (proxy.active(), who(client)) == (blue.target, "blue")


def test_every_slot_is_busy(proxy: HaProxy, blue: FakeGateway) -> None:
    """A target waits for a slot, and then is refused; it gets one when the first has ended."""
    hasty = replace(proxy, patience_s=0.3)
    with ThreadPoolExecutor(len(SLOTS)) as pool, client_of(proxy) as client:
        held = []
        for number in range(len(SLOTS)):
            hasty.point(Target(f"g{number}", blue.target.port))
            held.append(pool.submit(client.post, CHAT, json={"hold": True}))
            until(lambda number=number: len(blue.asked) == number + 1)
        with pytest.raises(RouteError, match=r"every gateway of before still has requests in flight") as told:
            hasty.point(Target("late", blue.target.port))
        during = hasty.active()
        blue.release.set()
        proxy.point(Target("late", blue.target.port))

        assert [one.result().status_code for one in held] == [200] * len(SLOTS)
    assert during == Target(f"g{len(SLOTS) - 1}", blue.target.port)
    assert told.value.intact == "requests go where they went before"
    assert proxy.active() == Target("late", blue.target.port)


@pytest.mark.parametrize(
    "target", [Target("a b", 8000), Target("a/b", 8000), Target("", 8000), Target("a", 0)]
)
def test_a_target_that_cannot_be_written_down(proxy: HaProxy, target: Target) -> None:
    """It is refused before a file is written."""
    with pytest.raises(RouteError, match="cannot be pointed to"):
        proxy.point(target)

    assert not proxy.folder.exists()


# --- flips under load ----------------------------------------------------------------------------


def test_nothing_is_lost_in_flips(proxy: HaProxy, blue: FakeGateway, green: FakeGateway) -> None:
    """Of all requests, a quarter of them streams, each is answered whole and by one gateway."""
    proxy.point(blue.target)
    stop = threading.Event()

    def ask_on(number: int) -> list[str]:
        seen = []
        with client_of(proxy) as client:
            while not stop.is_set():
                number += 1
                seen.append(_streamed(client) if number % 4 == 0 else who(client))
        return seen

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_on, number) for number in range(8)]
        wrong = []
        for number in range(40):
            target = (green, blue)[number % 2].target
            proxy.point(target)
            with client_of(proxy) as fresh:
                wrong += [name for name in (who(fresh),) if name != target.name]
            time.sleep(0.02)
        stop.set()
        seen = [name for one in asking for name in one.result()]

    assert wrong == []
    assert set(seen) == {"blue", "green"}
    assert len(seen) > 100
    assert len(blue.asked) + len(green.asked) == len(seen) + 40
    assert sum(one.requests for one in proxy.counts()) == len(seen) + 40


def _streamed(client: httpx.Client) -> str:
    """Return who streamed, once the stream was whole."""
    with client.stream("POST", CHAT, json={"events": ["1", "2", "3"]}) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert lines == ["data: 1", "data: 2", "data: 3", "data: [DONE]"]
    return "blue"


def test_a_kept_connection_follows(proxy: HaProxy, blue: FakeGateway, green: FakeGateway) -> None:
    """One connection of a client gets its next answer from the new target."""
    proxy.point(blue.target)
    with client_of(proxy, limits=httpx.Limits(max_connections=1)) as client:
        first = who(client)
        proxy.point(green.target)

        assert (first, who(client)) == ("blue", "green")


def test_drained_tells_the_truth(proxy: HaProxy, blue: FakeGateway, green: FakeGateway) -> None:
    """A stream counts until its end, a client's idle connection does not."""
    proxy.point(blue.target)
    with client_of(proxy) as idle, client_of(proxy) as client:
        who(idle)
        with client.stream(
            "POST", CHAT, json={"hold": True, "events": [event(model("f", "v"))] * 2}
        ) as reply:
            lines = (line for line in reply.iter_lines() if line)
            next(lines)
            proxy.point(green.target)
            during = proxy.drained(blue.target, 0.2)
            new = who(idle)
            blue.release.set()
            rest = list(lines)
        after = proxy.drained(blue.target, 30)

    assert (during, new, rest[-1], after) == (False, "green", "data: [DONE]", True)


def test_a_client_that_leaves(proxy: HaProxy, blue: FakeGateway) -> None:
    """What waits for its answer is not in flight any more, though the gateway says nothing."""
    proxy.point(blue.target)
    body = b'{"hold": true}'
    with socket.create_connection(("127.0.0.1", proxy.door.port)) as gone:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        gone.sendall(head.encode() + body)
        until(lambda: blue.asked)
        during = proxy.drained(blue.target, 0)

    assert not during
    assert proxy.drained(blue.target, 30)


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("which", [master, worker])
def test_killed(
    proxy: HaProxy,
    client: httpx.Client,
    blue: FakeGateway,
    green: FakeGateway,
    which: Callable[[HaProxy], int],
) -> None:
    """It comes back where it was pointed last, whichever of its processes is killed."""
    proxy.point(blue.target)
    proxy.point(green.target)
    before = master(proxy)
    os.kill(which(proxy), signal.SIGKILL)
    until(lambda: proxy.runs() and master(proxy) != before)

    assert proxy.active() == green.target
    assert who(client) == "green"


def test_killed_while_it_is_flipped(
    proxy: HaProxy, client: httpx.Client, blue: FakeGateway, green: FakeGateway
) -> None:
    """Whenever that happens: once `point` returned, requests go there, and after a restart they still do."""
    proxy.point(blue.target)
    seen = []
    for number in range(6):
        target, pid = (green, blue)[number % 2].target, master(proxy)
        killing = threading.Timer(0.005 * number, os.kill, (pid, signal.SIGKILL))
        killing.start()
        proxy.point(target)
        killing.join()
        until(lambda pid=pid: proxy.runs() and master(proxy) != pid)
        seen.append((who(client), proxy.active()))

    assert seen == [("green", green.target), ("blue", blue.target)] * 3


def test_stopped_and_started(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """It gives the port up, twice over, knows where it was pointed, and is started by the next `point`."""
    proxy.point(blue.target)
    proxy.stop()
    proxy.stop()
    during = (proxy.runs(), proxy.active(), proxy.counts())
    socket.create_server(("127.0.0.1", proxy.door.port)).close()
    proxy.point(blue.target)

    assert during == (False, blue.target, ())
    assert who(client) == "blue"


def test_stop_waits_for_what_is_in_flight(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """A request in flight is answered, and nothing new is taken meanwhile."""
    proxy.point(blue.target)
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(client.post, CHAT, json={"hold": True})
        until(lambda: blue.asked)
        stopping = pool.submit(proxy.stop)
        until(lambda: _refused(proxy.door.port))
        blue.release.set()
        stopping.result(30)

        assert held.result().status_code == 200


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_stranger_has_the_port(proxy: HaProxy, blue: FakeGateway) -> None:
    """It is refused before anything is written, and the stranger goes on."""
    with socket.create_server(("127.0.0.1", proxy.door.port)):
        with pytest.raises(PortTakenError, match="cannot listen on 127"):
            proxy.point(blue.target)

        assert (proxy.active(), proxy.runs(), supervisor(proxy).states()) == (None, False, {})
        assert [path.name for path in proxy.folder.iterdir()] == ["proxy.lock"]


def test_another_port_that_a_stranger_has(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """A change of the port is refused, and the old port goes on."""
    proxy.point(blue.target)
    before = (proxy.folder / "haproxy.cfg").read_text()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        moved = replace(proxy, door=Door(stranger.getsockname()[1]))
        with pytest.raises(PortTakenError):
            moved.point(blue.target)

    assert (proxy.folder / "haproxy.cfg").read_text() == before
    assert who(client) == "blue"


def test_a_config_that_was_broken_by_hand(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """It is written anew while the process goes on, so that a restart does well."""
    proxy.point(blue.target)
    right, before = (proxy.folder / "haproxy.cfg").read_text(), worker(proxy)
    (proxy.folder / "haproxy.cfg").write_text("nonsense\n")
    (proxy.folder / "haproxy.lua").write_text("nonsense(\n")
    proxy.point(blue.target)

    assert (proxy.folder / "haproxy.cfg").read_text() == right
    assert worker(proxy) == before
    os.kill(worker(proxy), signal.SIGKILL)
    until(lambda: proxy.runs() and worker(proxy) != before)
    assert who(client) == "blue"


def test_a_config_that_was_broken_and_a_kill(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """A HAProxy that cannot come back is started by the next `point`."""
    proxy.point(blue.target)
    (proxy.folder / "haproxy.cfg").write_text("nonsense\n")
    os.kill(master(proxy), signal.SIGKILL)
    until(lambda: not proxy.runs())
    proxy.point(blue.target)

    assert who(client) == "blue"


def test_a_table_that_was_broken_by_hand(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """What HAProxy does counts, and the file is right again when somebody has asked."""
    proxy.point(blue.target)
    for text in ("", "active slot9\n", "\0\xff"):
        (proxy.folder / "targets.map").write_text(text)

        assert proxy.active() == blue.target
        assert parse((proxy.folder / "targets.map").read_text()).target == blue.target
    assert who(client) == "blue"


def test_a_map_that_was_emptied_by_hand(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """A request finds no gateway then, which is an error as OpenAI's; the next `point` mends it."""
    proxy.point(blue.target)
    Sockets(proxy.folder).ask("clear map targets.map")
    reply = client.post(CHAT, json={})
    proxy.point(blue.target)

    assert (reply.status_code, reply.json()["error"]["type"]) == (503, "server_error")
    assert who(client) == "blue"


def test_it_hangs(
    proxy: HaProxy,
    client: httpx.Client,
    blue: FakeGateway,
    green: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A HAProxy that does not answer is replaced."""
    monkeypatch.setattr("tasks.route.proxy.haproxy_socket.TIMEOUT_S", 0.5)
    proxy.point(blue.target)
    os.kill(worker(proxy), signal.SIGSTOP)
    replace(proxy, deadline_s=1.0).point(green.target)

    assert who(client) == "green"


# --- crashes between two steps -------------------------------------------------------------------


class Crash(BaseException):
    """Plays the end of our process: nothing that handles errors sees it."""


@pytest.mark.parametrize("step", ["prepare", "add", "commit", "written"])
def test_a_crash_between_two_steps(  # fixtures
    proxy: HaProxy,
    client: httpx.Client,
    blue: FakeGateway,
    green: FakeGateway,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is said afterwards is where requests go, also after a restart; the next `point` goes on."""
    proxy.point(blue.target)
    real = Sockets.ask

    def ask(self: Sockets, command: str, worker: str = "") -> str:
        said = real(self, command, worker)
        if command.startswith(step):
            raise Crash
        return said

    with monkeypatch.context() as patched:
        patched.setattr(Sockets, "ask", ask)
        if step == "written":
            patched.setattr(HaProxy, "_write_down", _crash)
        with pytest.raises(Crash):
            proxy.point(green.target)
    said, goes = proxy.active(), who(client)
    before = master(proxy)
    os.kill(before, signal.SIGKILL)
    until(lambda: proxy.runs() and master(proxy) != before)
    restarted = who(client)
    proxy.point(green.target)

    assert said is not None
    assert said.name == goes == restarted == ("green" if step in {"commit", "written"} else "blue")
    assert (proxy.active(), who(client)) == (green.target, "green")


def _crash(*_: object) -> None:
    raise Crash


# --- the door ------------------------------------------------------------------------------------


def test_another_door_without_a_pause(proxy: HaProxy, blue: FakeGateway, green: FakeGateway) -> None:
    """A token comes and the port changes while requests run; a stream of before ends well and is seen."""
    proxy.point(blue.target)
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
    moved = replace(proxy, door=Door(free_port(), token_sha256=digest))
    asked = {"hold": True, "events": [event(model("f", "v"))] * 2}
    with (
        client_of(proxy) as client,
        client_of(moved, headers={"authorization": "Bearer secret"}) as knowing,
        client.stream("POST", CHAT, json=asked) as reply,
    ):
        lines = (line for line in reply.iter_lines() if line)
        next(lines)
        moved.point(green.target)
        during = moved.drained(blue.target, 0.2)
        new = who(knowing)
        blue.release.set()
        rest = list(lines)

    assert (during, new, rest[-1]) == (False, "green", "data: [DONE]")
    assert moved.drained(blue.target, 30)
    assert _refused(proxy.door.port)
    assert moved.active() == green.target


def test_another_loopback_address(proxy: HaProxy, blue: FakeGateway) -> None:
    """One that is bound to 127.0.0.2 is asked there, and under no other name."""
    moved = replace(proxy, door=Door(proxy.door.port, bind="127.0.0.2"))
    moved.point(blue.target)
    with httpx.Client(base_url=f"http://127.0.0.2:{proxy.door.port}", trust_env=False, timeout=60) as client:
        named = who(client)
        refused = [
            client.post(CHAT, json={}, headers={"host": host}).status_code
            for host in ("127.0.0.3", "127x0.0.2", "rebound.example")
        ]

    assert (named, refused) == ("blue", [403] * 3)


def test_doors_under_load(proxy: HaProxy, blue: FakeGateway) -> None:
    """Reloads for another door lose nothing on the port that stays."""
    proxy.point(blue.target)
    stop = threading.Event()

    def ask_on() -> list[str]:
        seen = []
        while not stop.is_set():
            with client_of(proxy) as client:
                seen.append(who(client))
        return seen

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        for bind in ("localhost", "127.0.0.1") * 3:
            replace(proxy, door=Door(proxy.door.port, bind=bind)).point(blue.target)
        stop.set()
        seen = {name for one in asking for name in one.result()}

    assert seen == {"blue"}


def test_a_config_that_is_not_taken(
    proxy: HaProxy, client: httpx.Client, blue: FakeGateway, tmp_path: Path
) -> None:
    """A certificate that is none is one sentence with HAProxy's own words, and the old door stays."""
    proxy.point(blue.target)
    before = (proxy.folder / "haproxy.cfg").read_text()
    wrong = tmp_path / "a b.pem"
    wrong.write_text("nonsense")
    with pytest.raises(RouteError, match=r"HAProxy does not take its config: .*a b\.pem"):
        replace(proxy, door=Door(proxy.door.port, certificate=wrong)).point(blue.target)
    with pytest.raises(RouteError, match="cannot be read"):
        replace(proxy, door=Door(proxy.door.port, certificate=tmp_path / "none")).point(blue.target)

    assert (proxy.folder / "haproxy.cfg").read_text() == before
    assert who(client) == "blue"


def test_a_reload_that_fails(
    proxy: HaProxy,
    client: httpx.Client,
    blue: FakeGateway,
    green: FakeGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What HAProxy notices only as it starts leaves the old process, and the next `point` does well."""
    proxy.point(blue.target)
    before = (proxy.folder / "haproxy.cfg").read_text()
    with socket.create_server(("127.0.0.1", 0)) as stranger, monkeypatch.context() as patched:
        patched.setattr("tasks.route.proxy.haproxy.refuse_taken", lambda _: None)
        moved = replace(proxy, door=Door(stranger.getsockname()[1]), deadline_s=8.0)
        with pytest.raises(RouteError, match="does not take its new config"):
            moved.point(green.target)

    assert (proxy.folder / "haproxy.cfg").read_text() == before
    assert (proxy.active(), who(client)) == (blue.target, "blue")
    proxy.point(green.target)
    assert (proxy.active(), who(client)) == (green.target, "green")


def test_a_long_folder(tmp_path: Path, blue: FakeGateway) -> None:
    """A state folder far down, with a blank in its name, has sockets all the same."""
    with proxied(tmp_path / ("x" * 60) / ("y z" * 20)) as proxy:
        proxy.point(blue.target)
        with client_of(proxy) as client:
            assert who(client) == "blue"


def test_counts_are_read(proxy: HaProxy, client: httpx.Client, blue: FakeGateway) -> None:
    """They are of this hour, and a gateway that is gone counts with its name."""
    proxy.point(blue.target)
    client.post(CHAT, json={"say": answer(model("chat", "local"))})
    blue.stop()
    client.post(CHAT, json={})
    found = proxy.counts()
    hour = found[0].hour

    assert sorted(found, key=lambda one: one.status) == [
        Count(hour, "blue", "chat", "local", 200, 1),
        Count(hour, "blue", "", "", 503, 1),
    ]
