"""The front as a real process: requests through stable ports while what serves is swapped."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

from tasks.contracts import Unknown
from tasks.effects.front.status import PortStatus, Status, ask
from tasks.effects.front.table import Row, digest, render
from tasks.effects.resident import resident_bytes
from tests.lab.backend import Backend
from tests.lab.gateway import ROOT, free_port, until

pytestmark = pytest.mark.real
MIB = 1 << 20


class Fronted:
    """A front process of its own, without a supervisor. Leaving the block ends it by pid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.log = folder / "log"
        self.process = self.spawn()

    def spawn(self, *more: str) -> subprocess.Popen[bytes]:
        """Start the process."""
        program = (sys.executable, "-m", "tasks.effects.front", "--folder", str(self.folder), *more)
        # The usual limit of open files, whatever the shell of these tests allows.
        command = ("/bin/sh", "-c", f"ulimit -S -n 1024; exec {shlex.join(program)}")
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env={"PATH": os.defpath}, cwd=ROOT, stdout=log, stderr=log)

    def __enter__(self) -> Self:
        until(lambda: ask(self.folder) or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    @property
    def status(self) -> Status:
        """What it says."""
        return until(lambda: ask(self.folder))

    def port(self, server: str = "llm", state: str = "open") -> PortStatus | None:
        """What it says of one server."""
        mine = [port for port in self.status.ports if (port.server, port.state) == (server, state)]
        return mine[0] if mine else None

    def write(self, text: str) -> Status:
        """Write a table, send a hang-up, and return the status after that reading."""
        before = self.status.last_reading.attempt
        (self.folder / "table.json").write_text(text)
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.status.last_reading.attempt > before)
        return self.status

    def point(self, port: int, backend: Backend | int) -> Status:
        """Let one port lead to a backend, and no other be open."""
        to = backend if isinstance(backend, int) else backend.port
        return self.write(render([Row("llm", port, to)]))


@pytest.fixture
def blue() -> Iterator[Backend]:
    """Return what serves first."""
    with Backend("blue") as backend:
        yield backend


@pytest.fixture
def green() -> Iterator[Backend]:
    """Return what serves then."""
    with Backend("green") as backend:
        yield backend


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Fronted]:
    """Return a front without any port."""
    with Fronted(tmp_path / "front") as running:
        yield running


@pytest.fixture
def port(front: Fronted, blue: Backend) -> int:
    """Return a port that leads to `blue`."""
    chosen = free_port()
    front.point(chosen, blue)
    return chosen


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    """Return a client of that port."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as made:
        yield made


def refused(port: int) -> bool:
    """Whether nobody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def raw(port: int, request: bytes) -> bytes:
    """Send bytes, and return what comes until the end."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


# --- one request ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_request_and_its_answer(client: httpx.Client, blue: Backend, method: str) -> None:
    """Method, path, query, headers and body arrive; the host is the backend's own."""
    content = b"a body" if method == "POST" else None
    reply = client.request(
        method, "/v1/x%2Fy?a=1&b=%20", content=content, headers={"authorization": "Bearer k"}
    )
    came = reply.json()
    headers = dict(came["headers"])

    assert (came["method"], came["path"]) == (method, "/v1/x%2Fy?a=1&b=%20")
    assert came["body"] == (content or b"").decode()
    assert headers["host"] == f"127.0.0.1:{blue.port}"
    assert headers["authorization"] == "Bearer k"
    assert "connection" not in headers


def test_head(client: httpx.Client) -> None:
    """A HEAD request is answered with the length and no body, and the connection goes on."""
    reply = client.head("/name")

    assert (reply.status_code, reply.headers["content-length"], reply.content) == (200, "4", b"")
    assert client.get("/name").text == "blue"


def test_a_stream_is_not_held_back(client: httpx.Client, front: Fronted, blue: Backend) -> None:
    """The first event arrives while the backend still thinks about the second."""
    blue.held = True
    with client.stream("GET", "/sse") as reply:
        lines = (line for line in reply.iter_lines() if line)
        first = next(lines)
        here = front.port()
        blue.release.set()
        rest = list(lines)

    assert first == "data: blue 0"
    assert here is not None
    assert here.in_flight == 1
    assert rest == ["data: blue 1", "data: blue 2", "data: blue 3", "data: [DONE]"]


def test_body_in_chunks_with_a_wrong_length(port: int) -> None:
    """Where both framings are there, chunks count (RFC 9112), and the length is not handed on."""
    head = f"POST /echo HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\ncontent-length: 99\r\n"
    answer = raw(port, f"{head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode())
    came = json.loads(answer.partition(b"\r\n\r\n")[2])

    assert came["body"] == "abc"
    assert "content-length" not in dict(came["headers"])


def test_expect_continue(port: int) -> None:
    """A client that asks before it sends is told to go on, by the front."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        head = f"POST /echo HTTP/1.1\r\nhost: localhost:{port}\r\ncontent-length: 3\r\nconnection: close\r\n"
        client.sendall(f"{head}expect: 100-continue\r\n\r\n".encode())
        told = client.recv(1 << 16)
        client.sendall(b"abc")
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))

    assert told.startswith(b"HTTP/1.1 100 ")
    assert b'"body": "abc"' in answer


def test_an_answer_before_the_body_ends(port: int) -> None:
    """A backend that refuses a body early is heard, though it never reads the rest."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        head = f"POST /early HTTP/1.1\r\nhost: localhost:{port}\r\ntransfer-encoding: chunked\r\n\r\n"
        client.sendall(f"{head}3\r\nabc\r\n".encode())
        answer = client.recv(1 << 16)

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_an_answer_that_breaks_off(client: httpx.Client) -> None:
    """A client can tell that an answer is not whole, and the next one is."""
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/broken")

    assert client.get("/name").text == "blue"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("LocalHost:1", 200),
        ("[::1]:8101", 200),
        ("rebound.example", 403),
        ("rebound.example:8101", 403),
        ("127.0.0.1.rebound.example", 403),
        ("localhost.rebound.example", 403),
        ("192.168.1.5", 403),
        ("", 403),
    ],
)
def test_only_local_names(client: httpx.Client, blue: Backend, host: str, status: int) -> None:
    """A page whose name was made to resolve to this host gets nothing, and the backend hears nothing."""
    reply = client.get("/name", headers={"host": host})

    assert reply.status_code == status
    assert len(blue.paths) == (status == 200)
    assert status == 200 or reply.json()["error"]["type"] == "invalid_request_error"


def test_it_is_no_proxy(port: int, blue: Backend) -> None:
    """A whole address as the target is refused."""
    request = (
        f"GET http://rebound.example/name HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"
    )

    assert raw(port, request.encode()).startswith(b"HTTP/1.1 400 ")
    assert blue.paths == []


def test_connections_are_kept(client: httpx.Client, blue: Backend) -> None:
    """Requests one after another share one connection, also to the backend."""
    for _ in range(5):
        client.post("/echo", content=b"x")
        client.get("/sse")

    assert len(blue.connections) == 1


def test_what_nobody_asked_for(client: httpx.Client) -> None:
    """Bytes behind an answer are never taken for the answer to the next request."""
    for _ in range(20):
        assert client.get("/chatty").text == "blue"
        reply = client.get("/name")

        assert (reply.status_code, reply.text) == (200, "blue")


def test_a_connection_that_was_closed_for_being_idle(client: httpx.Client, blue: Backend) -> None:
    """A 408 on a kept connection is no answer to a request; the request goes out again on a new one."""
    for _ in range(3):
        reply = client.post("/tired", content=b"x")

        assert (reply.status_code, reply.text) == (200, "blue")
    assert len(blue.connections) == 3


def test_a_large_request_is_not_repeated(client: httpx.Client) -> None:
    """What was too large to keep is not sent again, and the client hears the 408."""
    assert client.post("/tired", content=b"x").status_code == 200
    assert client.post("/tired", content=b"x" * (1 << 17)).status_code == 408


def test_an_old_client(port: int) -> None:
    """HTTP/1.0 gets a stream without chunks, and its end is the connection's."""
    answer = raw(port, b"GET /sse HTTP/1.0\r\nhost: localhost\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")

    assert b"chunked" not in head.lower()
    assert body.startswith(b"data: blue 0\n\n")
    assert body.endswith(b"data: [DONE]\n\n")


# --- who goes away -------------------------------------------------------------------------------


def test_a_client_that_leaves_ends_its_request(port: int, front: Fronted, blue: Backend) -> None:
    """The backend learns within its next event that nobody waits, so a generation ends."""
    blue.events = 1_000_000
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/sse") as reply,
    ):
        next(reply.iter_lines())

    assert blue.broken_off.wait(30)
    until(lambda: front.port().in_flight == 0)


def test_a_client_that_leaves_before_the_answer(port: int, front: Fronted) -> None:
    """Nothing is counted for it any more, though the backend says nothing for minutes."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET /hold HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n".encode())
        until(lambda: front.port().in_flight == 1)

    until(lambda: front.port().in_flight == 0)


def test_a_client_that_leaves_in_its_body(port: int, front: Fronted, blue: Backend) -> None:
    """Half a body is not taken for a whole one."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(
            f"POST /echo HTTP/1.1\r\nhost: localhost:{port}\r\ncontent-length: 9\r\n\r\nhalf".encode()
        )
        until(lambda: front.port().in_flight == 1)

    until(lambda: front.port().in_flight == 0)
    assert blue.broken_off.wait(10)


def test_backend_down_and_back(client: httpx.Client, front: Fronted, blue: Backend) -> None:
    """A backend that is gone is one plain sentence in the shape of OpenAI's errors; it heals by itself."""
    assert client.get("/name").text == "blue"
    blue.stop()
    reply = client.get("/name")
    error = reply.json()["error"]

    assert reply.status_code == 502
    assert error["message"] == (
        f"llm, which serves on 127.0.0.1:{blue.port}, does not answer (the connection is refused)"
    )
    assert error["type"] == "server_error"
    assert front.port().error == "the connection is refused"
    with Backend("blue again", blue.port):
        assert client.get("/name").text == "blue again"
        assert front.port().error == ""


@pytest.mark.parametrize("framing", ["length", "chunks", "none"])
def test_idle_connections_of_a_restart(client: httpx.Client, blue: Backend, framing: str) -> None:
    """A request that crosses the close of an idle connection is sent again, whole, on a new one."""
    blue.answers_each = 1
    bodies: dict[str, bytes | Iterator[bytes] | None] = {"length": b"x" * 1000, "none": None}

    for _ in range(4):
        content = bodies.get(framing, iter((b"ab", b"cd")))
        reply = client.request("GET" if framing == "none" else "POST", "/echo", content=content)

        assert reply.status_code == 200
        assert reply.json()["body"] == {"length": "x" * 1000, "chunks": "abcd", "none": ""}[framing]
    assert len(blue.paths) == 7


def test_a_body_that_comes_while_it_is_sent_again(port: int, blue: Backend) -> None:
    """A request whose connection ends in the middle of its body is sent again from the first part on."""
    blue.answers_each = 1
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(f"GET /name HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n".encode())
        until(lambda: client.recv(1 << 16).endswith(b"blue"))
        head = f"POST /hasty HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n"
        client.sendall(f"{head}transfer-encoding: chunked\r\n\r\n2\r\nab\r\n".encode())
        until(lambda: blue.paths == ["/name", "/hasty", "/hasty"])
        client.sendall(b"2\r\ncd\r\n0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))

    assert b'"body": "abcd"' in answer


def test_what_cannot_be_sent_again(client: httpx.Client, blue: Backend) -> None:
    """A body too large to be kept is not sent a second time; the client hears why, and may ask again."""
    blue.answers_each = 1
    large = b"x" * (1 << 20)
    codes = [client.post("/echo", content=large).status_code for _ in range(3)]

    assert codes == [200, 502, 200]


def test_a_new_connection_is_not_tried_twice(client: httpx.Client, blue: Backend) -> None:
    """What a backend did not answer on a fresh connection is not asked again: it may be what ends it."""
    blue.answers_each = 0
    reply = client.get("/name")

    assert reply.status_code == 502
    assert "does not answer (it closed the connection too early)" in reply.json()["error"]["message"]
    assert blue.paths == ["/name"]


# --- swaps ---------------------------------------------------------------------------------------


def test_five_hundred_requests_in_three_swaps(
    port: int, front: Fronted, blue: Backend, green: Backend
) -> None:
    """Of 500 requests, a quarter of them streams, all are answered whole while the backend is swapped."""
    left = iter(range(500))
    lock, done = threading.Lock(), threading.Semaphore(0)

    def ask_on() -> list[str]:
        seen = []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return seen
                seen.append(_streamed(client) if number % 4 == 0 else client.get("/name").text)
                done.release()

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_on) for _ in range(8)]
        statuses = []
        for backend in (green, blue, green):
            for _ in range(100):
                assert done.acquire(timeout=60)
            statuses.append(front.point(port, backend))
        seen = [name for future in asking for name in future.result()]

    assert len(seen) == 500
    assert set(seen) == {"blue", "green"}
    assert [status.ports[0].backend_port for status in statuses] == [green.port, blue.port, green.port]
    until(lambda: front.port().retiring == ())
    assert len([path for one in (blue, green) for path in one.paths]) == 500


def _streamed(client: httpx.Client) -> str:
    """Return the name in a stream, once it was whole and of one server."""
    with client.stream("GET", "/sse") as reply:
        lines = [line for line in reply.iter_lines() if line]
    name = lines[0].split()[1]
    assert lines == [*(f"data: {name} {number}" for number in range(4)), "data: [DONE]"]
    return name


def test_a_stream_outlives_the_swap(
    port: int, client: httpx.Client, front: Fronted, blue: Backend, green: Backend
) -> None:
    """A stream in flight ends where it began; new requests go to the new backend meanwhile."""
    blue.held = True
    with client.stream("GET", "/sse") as reply:
        lines = (line for line in reply.iter_lines() if line)
        first = next(lines)
        during = front.point(port, green)
        new = httpx.get(f"http://127.0.0.1:{port}/name", trust_env=False).text
        blue.release.set()
        rest = list(lines)

    assert [(one.backend_port, one.in_flight) for one in during.ports[0].retiring] == [(blue.port, 1)]
    assert during.retired("llm") == 1
    assert new == "green"
    assert [first, *rest][-2:] == ["data: blue 3", "data: [DONE]"]
    until(lambda: front.status.retired("llm") == 0)
    assert front.port().retiring == ()


def test_nothing_is_left_behind(
    port: int, client: httpx.Client, front: Fronted, blue: Backend, green: Backend
) -> None:
    """After its last request no connection to the backend before is kept."""
    client.get("/name")
    assert len(blue.open) == 1
    front.point(port, green)

    until(lambda: not blue.open)
    assert client.get("/name").text == "green"


def test_there_and_back(
    port: int, client: httpx.Client, front: Fronted, blue: Backend, green: Backend
) -> None:
    """A backend that gets new requests again is not one of those before, though old ones run there."""
    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(client.get, "/hold")
        until(lambda: blue.paths)
        front.point(port, green)
        back = front.point(port, blue)
        blue.release.set()

        assert old.result().text == "blue"
    assert (back.retired("llm"), back.ports[0].in_flight) == (0, 1)
    assert client.get("/name").text == "blue"


def test_a_port_that_goes(port: int, client: httpx.Client, front: Fronted, blue: Backend) -> None:
    """A port that is not wanted any more refuses at once; its last request ends well."""
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(client.get, "/hold")
        until(lambda: blue.paths)
        during = front.write("[]")
        gone = refused(port)
        blue.release.set()

        assert last.result().text == "blue"
    assert gone
    assert [(one.state, one.in_flight) for one in during.ports] == [("closing", 1)]
    assert during.retired("llm") == 1
    until(lambda: front.status.ports == ())
    assert front.point(port, blue).ports[0].state == "open"
    assert client.get("/name").text == "blue"


def test_a_port_that_goes_and_comes_at_once(
    port: int, client: httpx.Client, front: Fronted, blue: Backend
) -> None:
    """A port may be opened again while its last request still runs."""
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(client.get, "/hold")
        until(lambda: blue.paths)
        front.write("[]")
        status = front.point(port, blue)
        new = httpx.get(f"http://127.0.0.1:{port}/name", trust_env=False).text
        blue.release.set()

        assert last.result().text == "blue"
    assert sorted(one.state for one in status.ports) == ["closing", "open"]
    assert new == "blue"


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not a table of ports"),
        ('{"servers": []}', "it is not a table of ports"),
        ('[{"server": "a", "port": 8101}]', "missing required field `backend_port`"),
        ('[{"server": "a", "port": 70000, "backend_port": 1}]', "not between 1 and 65535"),
        (
            '[{"server": "a", "port": 7, "backend_port": 8}, {"server": "b", "port": 7, "backend_port": 9}]',
            "twice",
        ),
        (
            '[{"server": "a", "port": 7, "backend_port": 8}, {"server": "a", "port": 6, "backend_port": 9}]',
            "twice",
        ),
        ('[{"server": "a", "port": 7, "backend_port": 7}]', "the front's own"),
    ],
)
def test_a_table_that_is_wrong_changes_nothing(
    client: httpx.Client, front: Fronted, text: str, reason: str
) -> None:
    """What was open stays open, and the status says why."""
    before = front.status
    after = front.write(text)

    assert not after.last_reading.ok
    assert reason in after.last_reading.error
    assert (after.table_hash, after.generation) == (before.table_hash, before.generation)
    assert client.get("/name").text == "blue"


def test_a_table_that_is_gone_changes_nothing(client: httpx.Client, front: Fronted) -> None:
    """A missing file is one that cannot be read, not an empty table."""
    before = front.status
    (front.folder / "table.json").unlink()
    front.process.send_signal(signal.SIGHUP)
    until(lambda: front.status.last_reading.attempt > before.last_reading.attempt)

    assert "No such file" in front.status.last_reading.error
    assert client.get("/name").text == "blue"


def test_a_table_of_another_version(front: Fronted, blue: Backend) -> None:
    """Keys that this version does not know are passed over."""
    port = free_port()
    row = {"server": "llm", "port": port, "backend_port": blue.port, "host": "x", "since": 1}
    text = json.dumps([row])

    assert front.write(text).table_hash == digest(text.encode())
    assert httpx.get(f"http://127.0.0.1:{port}/name", trust_env=False).text == "blue"


def test_a_port_of_somebody_else(front: Fronted, port: int, blue: Backend) -> None:
    """It is refused, all others are served, and it is taken once it is free."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken, other = stranger.getsockname()[1], free_port()
        rows = [Row("llm", port, blue.port), Row("vision", taken, blue.port), Row("code", other, blue.port)]
        status = front.write(render(rows))
        answers = [httpx.get(f"http://127.0.0.1:{one}/name", trust_env=False).text for one in (port, other)]

    assert {one.server: one.state for one in status.ports} == {
        "llm": "open",
        "vision": "refused",
        "code": "open",
    }
    assert f"127.0.0.1:{taken} (Address already in use)" in front.status.refused((taken,)).error
    assert answers == ["blue", "blue"]
    until(lambda: front.port("vision"))
    assert httpx.get(f"http://127.0.0.1:{taken}/name", trust_env=False).text == "blue"


def test_a_refused_port_that_is_not_wanted_any_more(front: Fronted, port: int, blue: Backend) -> None:
    """It is not taken later, when whoever had it is gone."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        during = front.write(render([Row("llm", port, blue.port), Row("vision", taken, blue.port)]))
        after = front.point(port, blue)

    assert [one.state for one in during.ports] == ["open", "refused"]
    assert [one.server for one in after.ports] == ["llm"]


# --- much ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [True, False])
def test_a_large_upload(port: int, front: Fronted, *, chunked: bool) -> None:
    """200 MB go through, and the process holds little of them."""
    piece, count = os.urandom(MIB), 200
    digest_, before = hashlib.sha256(), resident(front)
    headers = {} if chunked else {"content-length": str(count * MIB)}
    peak = []

    def pieces() -> Iterator[bytes]:
        for number in range(count):
            digest_.update(piece)
            if number % 20 == 0:
                peak.append(resident(front))
            yield piece

    reply = httpx.post(
        f"http://127.0.0.1:{port}/upload", content=pieces(), headers=headers, trust_env=False, timeout=120
    )

    assert reply.json() == {"size": count * MIB, "sha256": digest_.hexdigest()}
    assert max(peak) - before < 24 * MIB


def resident(front: Fronted) -> int:
    """Return what a front holds of main memory."""
    found = resident_bytes(front.process.pid)
    assert not isinstance(found, Unknown)
    return found


def test_a_slow_reader_slows_the_backend(port: int, front: Fronted, blue: Backend) -> None:
    """What a client does not take is not taken from the backend either."""
    before = resident(front)
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/large") as reply,
    ):
        parts = reply.iter_raw()
        got = len(next(parts))
        settled = settles(lambda: blue.sent_bytes)
        grown = resident(front) - before
        got += sum(len(part) for part in parts)

    assert settled < 48 * MIB
    assert grown < 24 * MIB
    assert got == 64 * MIB


def settles(count: Callable[[], int]) -> int:
    """Return a count once it has not changed for a while."""
    before, now = -1, count()
    while before != now:
        time.sleep(0.5)
        before, now = now, count()
    return now


def test_a_slow_backend_slows_the_client(port: int, front: Fronted, blue: Backend) -> None:
    """What a backend does not take yet is not heaped up."""
    before, sent, piece = resident(front), [0], b"x" * MIB

    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield piece
            sent[0] += MIB

    def upload() -> int:
        url = f"http://127.0.0.1:{port}/slow"
        return int(httpx.post(url, content=pieces(), trust_env=False, timeout=120).json()["size"])

    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(upload)
        until(lambda: blue.paths)
        settled = settles(lambda: sent[0])
        grown = resident(front) - before
        blue.release.set()

        assert uploading.result() == 64 * MIB
    assert settled < 48 * MIB
    assert grown < 24 * MIB


def test_many_at_once(port: int, front: Fronted, blue: Backend) -> None:
    """More requests than 1024 open files allow are in flight at once, and all are answered."""
    count = 700
    opened = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(count)]
    try:
        for one in opened:
            one.sendall(f"GET /hold HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n".encode())
        until(lambda: front.port().in_flight == count)
        blue.release.set()
        answers = [one.recv(1 << 16) for one in opened]
    finally:
        for one in opened:
            one.close()

    assert sum(answer.startswith(b"HTTP/1.1 200") for answer in answers) == count


# --- the process ---------------------------------------------------------------------------------


def test_ends_after_its_requests(port: int, client: httpx.Client, front: Fronted, blue: Backend) -> None:
    """SIGTERM closes the ports at once, finishes what runs, and ends with code 0."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.get, "/hold")
        until(lambda: blue.paths)
        front.process.terminate()
        until(lambda: refused(port))
        alive = front.process.poll() is None
        blue.release.set()

        assert alive
        assert running.result().text == "blue"
    assert front.process.wait(10) == 0


def test_ends_within_bounds(client: httpx.Client, front: Fronted, blue: Backend) -> None:
    """A request that never ends is told so, and does not keep the front from ending."""
    front.process.kill()
    front.process.wait(10)
    front.process = front.spawn("--finish-s", "1")
    until(front.port)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.get, "/hold")
        until(lambda: blue.paths)
        front.process.terminate()

        assert running.result().json()["error"]["message"] == "the front is stopping"
    assert front.process.wait(10) == 0
    assert "Traceback" not in front.log.read_text()


def test_comes_back_after_a_kill(port: int, client: httpx.Client, front: Fronted) -> None:
    """Killed without a warning, it reads the table again and owns the same ports."""
    assert client.get("/name").text == "blue"
    front.process.kill()
    front.process.wait(10)
    front.process = front.spawn()
    until(lambda: not refused(port))

    assert client.get("/name").text == "blue"
    assert front.status.pid == front.process.pid


def test_one_front_a_folder(client: httpx.Client, front: Fronted) -> None:
    """A second one ends with one sentence and touches nothing of the first."""
    second = front.spawn()

    assert second.wait(30) == 4
    assert f"another front serves {front.folder}; it goes on; " in front.log.read_text()
    assert front.status.pid == front.process.pid
    assert client.get("/name").text == "blue"


def test_hang_up_while_it_starts(front: Fronted, port: int) -> None:
    """A hang-up at any time of a start does not end it."""
    front.process.kill()
    front.process.wait(10)
    front.process = front.spawn()
    until(lambda: b"tasks.effects.front" in Path(f"/proc/{front.process.pid}/cmdline").read_bytes())
    until(lambda: ignores_hang_ups(front.process.pid) and (front.process.send_signal(signal.SIGHUP), True))
    until(lambda: not refused(port))

    assert front.process.poll() is None


def ignores_hang_ups(pid: int) -> bool:
    """Whether a process ignores or handles SIGHUP by now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn", "SigCgt"))]
    return any(mask & 1 for mask in masks)


def test_a_folder_with_a_long_name(tmp_path: Path, blue: Backend) -> None:
    """The status socket is not bound by the 107 bytes that a path of one may have."""
    folder = tmp_path / ("long" * 30)
    with Fronted(folder) as front:
        port = free_port()
        front.point(port, blue)

        assert front.port().backend_port == blue.port
        assert (folder / "front.sock").stat().st_mode & 0o777 == 0o600
