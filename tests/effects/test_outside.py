"""Whether something answers: the container engine and web addresses, on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from tasks.effects import network
from tasks.effects.containers import EngineError, EngineInfo, engine_info, parse_info
from tests.lab.environment import free_port

pytestmark = pytest.mark.real


class Engine(BaseHTTPRequestHandler):
    """Answers the two questions that the client asks before any other."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer as Docker's engine does."""
        body = json.dumps({"ApiVersion": "1.45", "MinAPIVersion": "1.24", "Version": "28.2.2"}).encode()
        self.send_response(200 if "version" in self.path or "info" in self.path else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        """Answer without a body, as a web server does."""
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "unix"

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """Return the address of an engine that answers."""
    with ThreadingUnixStreamServer(str(tmp_path / "e.sock"), Engine) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"unix://{tmp_path}/e.sock"
        server.shutdown()


def test_an_engine_tells_its_version(engine: str) -> None:
    """Through the real client."""
    assert EngineInfo("28.2.2") == engine_info(engine, 3)


def test_an_engine_tells_what_it_offers() -> None:
    """Docker lists runtimes, CDI folders and devices; podman's answer leaves most of them out."""
    info = {
        "Runtimes": {"runc": {}, "nvidia": {}},
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}],
    }
    podman = {"Version": "5.4.0", "Components": [{"Name": "Podman Engine"}]}

    assert EngineInfo("5.4.0", podman=True) == parse_info(podman, {})
    assert EngineInfo(
        "28.3",
        runtimes=("nvidia", "runc"),
        cdi_folders=("/etc/cdi", "/var/run/cdi"),
        devices=("nvidia.com/gpu=0",),
    ) == parse_info({"Version": "28.3", "Components": None}, info)


def test_no_socket_is_said_so(tmp_path: Path) -> None:
    """Without loading the client."""
    with pytest.raises(EngineError, match=f"there is no socket {tmp_path}/none.sock"):
        engine_info(f"unix://{tmp_path}/none.sock", 3)


def test_a_socket_without_an_engine_is_said_so(tmp_path: Path) -> None:
    """Its engine has gone."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "e.sock"))

    with pytest.raises(EngineError, match="nothing listens on the socket"):
        engine_info(f"unix://{tmp_path}/e.sock", 3)


def test_an_engine_that_hangs_is_said_so(tmp_path: Path) -> None:
    """It takes the connection and never answers."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "e.sock"))
        silent.listen()

        with pytest.raises(EngineError, match="it does not answer in time"):
            engine_info(f"unix://{tmp_path}/e.sock", 1)


def test_any_http_answer_counts() -> None:
    """A web server that says 404 is there."""
    with HTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        seen = network.reach("hub", f"http://127.0.0.1:{server.server_address[1]}/x", 3)
        server.shutdown()

    assert (True, "HTTP 404") == (seen.answers, seen.detail)


def test_nobody_there_is_said_so() -> None:
    """Nothing listens."""
    seen = network.reach("hub", f"http://127.0.0.1:{free_port()}", 3)

    assert (False, "the connection is refused") == (seen.answers, seen.detail)


def test_a_silent_server_is_said_so() -> None:
    """It takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seen = network.reach("hub", f"http://127.0.0.1:{silent.getsockname()[1]}", 1)

    assert (False, "no answer within 1 s") == (seen.answers, seen.detail)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "file:///etc/passwd", "127.0.0.1"])
def test_other_schemes_are_not_asked(url: str) -> None:
    """Only the web."""
    assert "the address is not http:// or https://" == network.reach("hub", url, 1).detail


def test_a_listener_is_seen() -> None:
    """A port is taken while somebody listens on it, and free again after."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert network.listener(port)

    assert not network.listener(port)
