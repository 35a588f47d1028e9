"""The front as the serve stage sees it: the real supervisor, the real process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.contracts import ProcessSpec
from tasks.effects.front.control import NAME, Backend, Front, StablePorts, process_spec
from tasks.effects.front.memory import MemoryFront
from tasks.effects.front.status import ask
from tasks.effects.front.table import Row, parse, render
from tasks.effects.pids import orphans
from tasks.effects.supervisord import Supervisord
from tasks.errors import PortTakenError, ServeError
from tests.lab.backend import Backend as Server
from tests.lab.gateway import free_port, until

pytestmark = pytest.mark.real


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisord]:
    """Return the supervisor of a new state folder; nothing of it is left after the test."""
    made = Supervisord(tmp_path / "state")
    yield made
    made.shutdown()
    assert () == orphans(tmp_path / "state")


@pytest.fixture
def front(tmp_path: Path, supervisor: Supervisord) -> Front:
    """Return a front that was never started."""
    return Front(tmp_path / "state" / "front", supervisor, sys.executable)


@pytest.fixture
def blue() -> Iterator[Server]:
    """Return what serves first."""
    with Server("blue") as server:
        yield server


@pytest.fixture
def green() -> Iterator[Server]:
    """Return what serves then."""
    with Server("green") as server:
        yield server


def name_at(port: int) -> str:
    """Return who answers on a port, "" when nobody does."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/name", trust_env=False, timeout=30).text
    except httpx.ConnectError:
        return ""


def pid(front: Front) -> int:
    """Return the pid of the process."""
    return front.supervisor.states()[NAME].pid


def test_first_time(front: Front, blue: Server) -> None:
    """The process is started, the port answers when `point` returns, and only the user reads the table."""
    port = free_port()
    assert front.backends() == {}
    front.point("llm", port, blue.port)

    assert name_at(port) == "blue"
    assert front.backends() == {"llm": Backend(port, blue.port)}
    assert (front.folder / "table.json").stat().st_mode & 0o777 == 0o600


def test_another_backend(front: Front, blue: Server, green: Server) -> None:
    """Once `point` returns, each request goes to the new backend; the process and other servers stay."""
    port, other = free_port(), free_port()
    front.point("llm", port, blue.port)
    front.point("vision", other, blue.port)
    before = pid(front)
    answers = []
    for server in (green, blue) * 5:
        front.point("llm", port, server.port)
        answers.append((name_at(port), server.name))

    assert all(got == wanted for got, wanted in answers)
    assert (pid(front), name_at(other)) == (before, "blue")


def test_nothing_to_do(front: Front, blue: Server) -> None:
    """What is so already is left alone: no reading of the table, no file written."""
    port = free_port()
    front.point("llm", port, blue.port)
    path = front.folder / "table.json"
    before = (ask(front.folder), path.stat().st_mtime_ns)
    front.point("llm", port, blue.port)

    assert (ask(front.folder), path.stat().st_mtime_ns) == before


def test_drained(front: Front, blue: Server, green: Server) -> None:
    """A server is drained after the last request on the backend before; its new ones do not count."""
    port = free_port()
    front.point("llm", port, blue.port)
    with ThreadPoolExecutor(2) as pool:
        old = pool.submit(httpx.get, f"http://127.0.0.1:{port}/hold", trust_env=False, timeout=60)
        until(lambda: blue.paths)
        assert front.drained("llm", 5)  # it still serves: nothing to wait for
        front.point("llm", port, green.port)
        new = pool.submit(httpx.get, f"http://127.0.0.1:{port}/hold", trust_env=False, timeout=60)
        until(lambda: green.paths)

        assert not front.drained("llm", 0.2)
        blue.release.set()
        assert front.drained("llm", 30)
        assert (old.result().text, new.done()) == ("blue", False)
        green.release.set()


def test_drop(front: Front, blue: Server) -> None:
    """A dropped server's port is free, its last request ends, and the last one takes the process along."""
    port, other = free_port(), free_port()
    front.point("llm", port, blue.port)
    front.point("vision", other, blue.port)
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(httpx.get, f"http://127.0.0.1:{port}/hold", trust_env=False, timeout=60)
        until(lambda: blue.paths)
        front.drop("llm")
        assert (name_at(port), name_at(other)) == ("", "blue")
        assert not front.drained("llm", 0.2)
        blue.release.set()
        assert front.drained("llm", 30)
        assert last.result().text == "blue"
    front.drop("llm")
    front.drop("vision")

    assert (front.backends(), front.supervisor.states()) == ({}, {})
    assert front.drained("vision", 0)


def test_port_taken(front: Front, blue: Server) -> None:
    """A port of somebody else is refused in one sentence; others are untouched, and nothing of it stays."""
    port = free_port()
    front.point("llm", port, blue.port)
    before = (front.backends(), pid(front))
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            front.point("vision", taken, blue.port)

    assert str(caught.value) == (
        f"the front cannot listen on 127.0.0.1:{taken} (Address already in use), where vision is to answer; "
        "whoever has the port is untouched, and every server answers on its port as before; "
        f"free it (`ss -ltnp 'sport = :{taken}'` shows who holds it) or choose another port."
    )
    assert (front.backends(), pid(front), name_at(port)) == (*before, "blue")
    assert [row.port for row in ask(front.folder).ports] == [port]
    front.point("vision", taken, blue.port)
    assert name_at(taken) == "blue"


def test_port_taken_the_first_time(front: Front, blue: Server) -> None:
    """A front that was started for nothing runs no more."""
    with socket.create_server(("127.0.0.1", 0)) as stranger, pytest.raises(PortTakenError):
        front.point("llm", stranger.getsockname()[1], blue.port)

    assert (front.backends(), front.supervisor.states()) == ({}, {})


def test_a_refused_port_of_another_server(front: Front, blue: Server) -> None:
    """That one server's port was taken while the front was away does not keep another from its port."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        front.folder.mkdir(parents=True)
        (front.folder / "table.json").write_text(render([Row("vision", taken, blue.port)]))
        front.point("llm", port, blue.port)
        assert name_at(port) == "blue"
        with pytest.raises(PortTakenError):
            front.point("vision", taken, blue.port)
    front.point("vision", taken, blue.port)

    assert (name_at(port), name_at(taken)) == ("blue", "blue")


def test_ports_that_contradict(front: Front, blue: Server) -> None:
    """Two servers on one port, or a front before itself, are refused before anything is written."""
    port = free_port()
    front.point("llm", port, blue.port)
    before = (front.folder / "table.json").read_text()
    for server, wrong, backend_port in (("vision", port, blue.port), ("vision", free_port(), port)):
        with pytest.raises(ServeError, match="the servers cannot have these ports"):
            front.point(server, wrong, backend_port)

    assert ((front.folder / "table.json").read_text(), name_at(port)) == (before, "blue")


def test_killed(front: Front, blue: Server, green: Server) -> None:
    """Killed with SIGKILL, it comes back by itself with its ports, and follows again."""
    port = free_port()
    front.point("llm", port, blue.port)
    before = pid(front)
    os.kill(before, signal.SIGKILL)
    until(lambda: name_at(port) == "blue")
    os.kill(pid(front), signal.SIGKILL)
    front.point("llm", port, green.port)

    assert name_at(port) == "green"
    assert pid(front) != before


def test_another_command(front: Front, blue: Server) -> None:
    """A process that another version started is replaced."""
    port = free_port()
    older = process_spec(front.folder, sys.executable)
    front.supervisor.start(replace(older, environment=(("OLDER", "1"),)))
    until(lambda: ask(front.folder))
    before = pid(front)
    front.point("llm", port, blue.port)

    assert name_at(port) == "blue"
    assert pid(front) != before


def test_it_does_not_start(front: Front, blue: Server) -> None:
    """A front that cannot start is one sentence, and neither table nor process is left."""
    broken = replace(front, python="/nowhere/python")
    with pytest.raises(ServeError):
        broken.point("llm", free_port(), blue.port)

    assert (front.backends(), front.supervisor.states()) == ({}, {})


def test_it_does_not_follow(front: Front, blue: Server, green: Server) -> None:
    """A process that is no front, or hangs, is given up in time, and the former table is back."""
    front.folder.mkdir(parents=True)
    table = render([Row("llm", free_port(), blue.port)])
    (front.folder / "table.json").write_text(table)
    front.supervisor.start(process_spec(front.folder, sys.executable))
    until(lambda: ask(front.folder))
    os.kill(pid(front), signal.SIGSTOP)
    hasty = replace(front, deadline_s=0.5)
    try:
        with pytest.raises(ServeError, match=r"the front did not take its table within 0\.5 s"):
            hasty.point("llm", parse(table.encode())[0].port, green.port)
        assert (front.folder / "table.json").read_text() == table
    finally:
        os.kill(pid(front), signal.SIGCONT)


def test_table_that_cannot_be_read(front: Front, blue: Server) -> None:
    """A table that somebody broke is a sentence with what to do; what serves goes on."""
    port = free_port()
    front.point("llm", port, blue.port)
    (front.folder / "table.json").write_text("{")
    with pytest.raises(ServeError, match="goes on with the table that it read last; delete "):
        front.point("llm", port, blue.port)

    assert name_at(port) == "blue"
    (front.folder / "table.json").unlink()
    front.point("llm", port, blue.port)
    assert name_at(port) == "blue"


def test_restore(front: Front, blue: Server, green: Server) -> None:
    """A run that fails goes back: to the backends of before, and to no front where there was none."""
    port, other = free_port(), free_port()
    nothing = front.snapshot()
    front.point("llm", port, blue.port)
    before = front.snapshot()
    front.point("llm", port, green.port)
    front.point("vision", other, green.port)
    front.restore(before)

    assert (name_at(port), name_at(other)) == ("blue", "")
    front.restore(nothing)
    assert (front.backends(), front.supervisor.states()) == ({}, {})


def test_servers_side_by_side(front: Front, blue: Server) -> None:
    """Threads that point different servers at once all get their port."""
    ports = {f"server-{number}": free_port() for number in range(6)}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda item: front.point(item[0], item[1], blue.port), ports.items()))

    assert front.backends() == {name: Backend(port, blue.port) for name, port in ports.items()}
    assert {name_at(port) for port in ports.values()} == {"blue"}


@pytest.fixture
def deaf(front: Front, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the first hang-up from now on reach nobody; returns all that were sent."""
    sent: list[str] = []
    real = front.supervisor.signal

    def lossy(name: str, sign: str) -> None:
        if sent:
            real(name, sign)
        sent.append(sign)

    monkeypatch.setattr(front.supervisor, "signal", lossy)
    return sent


def test_a_hang_up_is_lost(front: Front, blue: Server, green: Server, deaf: list[str]) -> None:
    """A hang-up that reaches nobody is sent again."""
    port = free_port()
    front.point("llm", port, blue.port)
    front.point("llm", port, green.port)

    assert name_at(port) == "green"
    assert deaf == ["HUP", "HUP"]


def test_a_refusal_of_before(front: Front, blue: Server, deaf: list[str]) -> None:
    """That a port was taken when the table was read last does not count: the front is to try it again."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        front.folder.mkdir(parents=True)
        (front.folder / "table.json").write_text(render([Row("llm", port, blue.port)]))
        front.supervisor.start(process_spec(front.folder, sys.executable))
        until(lambda: (status := ask(front.folder)) and status.refused((port,)))
    front.point("llm", port, blue.port)

    assert name_at(port) == "blue"
    assert deaf


@pytest.mark.parametrize("kind", ["real", "memory"])
def test_both_fronts_agree(kind: str, front: Front, blue: Server, green: Server) -> None:
    """The one in memory says what the real one says."""
    ports: StablePorts = front if kind == "real" else MemoryFront()
    one, two = free_port(), free_port()
    ports.point("llm", one, blue.port)
    before = ports.snapshot()
    ports.point("llm", one, green.port)
    ports.point("vision", two, blue.port)
    assert ports.backends() == {"llm": Backend(one, green.port), "vision": Backend(two, blue.port)}
    assert ports.drained("llm", 5)
    assert ports.drained("nobody", 0)
    ports.drop("nobody")
    ports.drop("vision")
    assert ports.backends() == {"llm": Backend(one, green.port)}
    ports.restore(before)
    assert ports.backends() == before == {"llm": Backend(one, blue.port)}
    with pytest.raises(ServeError):
        ports.point("vision", one, blue.port)
    assert ports.backends() == before


def test_spec_is_stable(tmp_path: Path) -> None:
    """The command depends on folder and python alone, so a second run restarts nothing."""
    assert process_spec(tmp_path, "python") == ProcessSpec(
        "front", ("python", "-m", "tasks.effects.front", "--folder", str(tmp_path)), (), 30
    )
