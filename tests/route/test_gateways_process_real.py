"""Gateways of the wheel under the real supervisord: several at once, and each way in which one fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tasks.effects.http import Httpx
from tasks.effects.pids import alive, orphans
from tasks.effects.supervisord import Supervisord
from tasks.errors import RouteError, StoppedError
from tasks.route.gateways import process
from tasks.route.gateways.contract import Gateways
from tasks.route.gateways.ports import PORTS, free_port
from tasks.route.gateways.process import WheelGateways
from tests.lab.gateway import config_for, until
from tests.lab.gateways import BROKEN, embed, generation, refused
from tests.lab.keyed import VARIABLE, Keyed
from tests.lab.openai_server import FakeOpenAI, vector

pytestmark = pytest.mark.real

DEADLINE_S = 60
KEYLESS = f"""
[models.m]
routing = ["p"]
[models.m.providers.p]
type = "openai"
model_name = "x"
api_key_location = "env::{VARIABLE}"
"""


@pytest.fixture
def model() -> Iterator[FakeOpenAI]:
    """Return a model server."""
    with FakeOpenAI("blue") as server:
        yield server


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisord]:
    """Return the supervisor of a new state folder; nothing of it is left after the test."""
    made = Supervisord(tmp_path / "state")
    yield made
    made.shutdown()
    assert () == orphans(tmp_path / "state")


@pytest.fixture
def http() -> Iterator[Httpx]:
    """Return what asks gateways."""
    with Httpx() as made:
        yield made


@pytest.fixture
def gateways(supervisor: Supervisord, http: Httpx) -> Gateways:
    """Return the gateways of that supervisor."""
    return WheelGateways(supervisor, http, sys.executable)


def programs(supervisor: Supervisord) -> list[str]:
    """Return the names of all programs that are kept up."""
    return sorted(supervisor.snapshot() or {})


def test_three_generations_serve_side_by_side(
    gateways: Gateways, supervisor: Supervisord, http: Httpx, model: FakeOpenAI, tmp_path: Path
) -> None:
    """Each its own config, on a port of its own; another run finds them all, and can end one of them."""
    with FakeOpenAI("green") as green, FakeOpenAI("grey") as grey:
        servers = {"blue": model, "green": green, "grey": grey}
        made = [
            gateways.start(generation(tmp_path, name, config_for(server)), deadline_s=DEADLINE_S)
            for name, server in servers.items()
        ]
        answers = {one.generation: embed(one, "x") for one in made}

    assert {name: pytest.approx(vector(name, "x", 8), abs=1e-5) for name in servers} == answers
    assert {one.port for one in made} <= set(PORTS)
    later = WheelGateways(Supervisord(tmp_path / "state"), http, sys.executable)
    assert {(one.generation, one.port, one.process.pid) for one in made} == {
        (one.generation, one.port, one.process.pid) for one in later.instances()
    }
    later.stop("green")
    later.stop("green")
    assert {"blue", "grey"} == {one.generation for one in gateways.instances()}
    assert ["gateway-blue", "gateway-grey"] == programs(supervisor)
    assert not alive(made[1].process.pid)


def test_one_that_is_killed_comes_back_on_its_port(gateways: Gateways, tmp_path: Path) -> None:
    """With its config and its keys: whoever points there need not know."""
    with Keyed() as server:
        made = gateways.start(
            generation(tmp_path, "blue", server.config, f'{VARIABLE}="k1"\n'), deadline_s=DEADLINE_S
        )
        os.kill(made.process.pid, signal.SIGKILL)
        until(lambda: not alive(made.process.pid))

        def answered() -> bool:
            try:
                return embed(made, "x") == [1.0, 0.0]
            except httpx.TransportError:
                return False

        until(answered)
        (again,) = gateways.instances()

    assert (made.port, True) == (again.port, again.running)
    assert again.process.pid != made.process.pid
    assert {"k1"} == set(server.keys)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (BROKEN, r"^TensorZero rejects the config: embedding_models\.m.*unknown field `providerz`"),
        ("a = ", "^TensorZero rejects the config: Failed to parse config file as valid TOML"),
        (KEYLESS, VARIABLE),
    ],
    ids=["unknown field", "not TOML", "no key"],
)
def test_a_rejected_config_leaves_nothing(
    gateways: Gateways, supervisor: Supervisord, model: FakeOpenAI, tmp_path: Path, config: str, reason: str
) -> None:
    """TensorZero's own sentence says why; the gateway beside it never notices."""
    blue = gateways.start(generation(tmp_path, "blue", config_for(model)), deadline_s=DEADLINE_S)

    with pytest.raises(RouteError, match=reason) as raised:
        gateways.start(generation(tmp_path, "green", config), deadline_s=DEADLINE_S)

    assert "\n" not in str(raised.value)
    assert "; the gateways that ran before still run; read " in str(raised.value)
    assert ["gateway-blue"] == programs(supervisor)
    assert pytest.approx(vector("blue", "x", 8), abs=1e-5) == embed(blue, "x")


def test_one_that_dies_without_a_sentence(
    gateways: Gateways, supervisor: Supervisord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last output is told."""
    monkeypatch.setattr(process, "MODULE", "this")

    with pytest.raises(RouteError, match=r"^the gateway ended while it started \(last output: .*Namespaces"):
        gateways.start(generation(tmp_path, "blue", ""), deadline_s=DEADLINE_S)

    assert [] == programs(supervisor)


def test_another_config_than_was_meant(gateways: Gateways, supervisor: Supervisord, tmp_path: Path) -> None:
    """A folder that somebody wrote to after it was validated is not served."""
    meant = generation(tmp_path, "blue", "# meant")
    meant.config.write_text("# another")

    with pytest.raises(RouteError, match="is not the config that it was: sha256 "):
        gateways.start(meant, deadline_s=DEADLINE_S)

    assert [] == programs(supervisor)


class Stranger(BaseHTTPRequestHandler):
    """Answers as the gateway of an empty config would, were it not for its pid."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def do_GET(self) -> None:
        """Tell the hash of an empty config."""
        body = json.dumps({"status": "ok", "pid": 1, "config_hash": hashlib.sha256(b"").hexdigest()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_stranger_on_the_port(
    gateways: Gateways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervisor: Supervisord
) -> None:
    """Who takes the port after it was chosen is not taken for the gateway; another port is tried."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, args=(0.05,), daemon=True).start()
        theirs = stranger.server_port
        choices = iter((theirs,))
        monkeypatch.setattr(process, "free_port", lambda known: next(choices, 0) or free_port(known))
        made = gateways.start(generation(tmp_path, "blue", ""), deadline_s=DEADLINE_S)
        stranger.shutdown()

    assert made.port != theirs
    assert ["gateway-blue"] == programs(supervisor)


def test_one_that_hangs_while_it_starts(gateways: Gateways, supervisor: Supervisord, tmp_path: Path) -> None:
    """It is given up after the deadline, and ended."""
    meant = generation(tmp_path, "blue", "")
    meant.environment.unlink()
    os.mkfifo(meant.environment)  # whoever reads it waits

    with pytest.raises(RouteError, match=r"of generation blue does not serve within 1\.5 s"):
        gateways.start(meant, deadline_s=1.5)

    assert [] == programs(supervisor)


def test_a_run_that_is_stopped(supervisor: Supervisord, http: Httpx, tmp_path: Path) -> None:
    """Nothing is left of what it began."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        WheelGateways(supervisor, http, sys.executable, stop=stop).start(
            generation(tmp_path, "blue", ""), deadline_s=DEADLINE_S
        )

    assert [] == programs(supervisor)


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


def test_the_same_generation_again_keeps_its_port(
    gateways: Gateways, model: FakeOpenAI, tmp_path: Path
) -> None:
    """A proxy may still point there; the process is a new one, for it may have other keys."""
    meant = generation(tmp_path, "blue", config_for(model))
    first = gateways.start(meant, deadline_s=DEADLINE_S)
    second = gateways.start(meant, deadline_s=DEADLINE_S)

    assert first.port == second.port
    assert first.process.pid != second.process.pid
    assert (second.generation,) == tuple(one.generation for one in gateways.instances())


def test_what_it_prints_can_be_read(gateways: Gateways, tmp_path: Path) -> None:
    """By the name of its generation."""
    made = generation(tmp_path, "blue", "")
    gateways.start(made, deadline_s=DEADLINE_S)

    assert f"config {made.config_hash[:8]} is served on port" in gateways.log_tail("blue")
    assert "no log" == gateways.log_tail("green")


def test_few_logs_are_kept(gateways: Gateways, tmp_path: Path) -> None:
    """Each generation has one of its own; that of a gateway which runs is never removed."""
    gateways.start(generation(tmp_path, "blue", ""), deadline_s=DEADLINE_S)
    made = gateways.start(generation(tmp_path, "green", ""), deadline_s=DEADLINE_S)
    logs = Path(made.process.log).parent
    for number in range(12):
        old = logs / f"gateway-old{number:02}.log"
        old.write_text("")
        os.utime(old, (number, number))
    os.utime(logs / "gateway-blue.log", (0, 0))

    gateways.stop("green")

    kept = {f"gateway-old{number:02}.log" for number in range(3, 12)}
    assert kept | {"gateway-blue.log", "gateway-green.log"} == {one.name for one in logs.iterdir()}


def test_others_are_no_gateways(supervisor: Supervisord, gateways: Gateways, tmp_path: Path) -> None:
    """What the supervisor keeps up beside them is not listed."""
    spec = process.process_spec(generation(tmp_path, "blue", ""), 1, sys.executable)
    supervisor.start(replace(spec, name="model", command=(sys.executable, "-c", "input()")))
    supervisor.start(replace(spec, command=(sys.executable, "-c", "import time; time.sleep(60)")))

    assert [("blue", 0)] == [(one.generation, one.port) for one in gateways.instances()]
