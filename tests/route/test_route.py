"""The route stage as it really runs: supervisord, a proxy, gateways of the wheel, model servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tasks.effects.openai import embed
from tasks.errors import PortTakenError, RouteError
from tasks.route.context import RouteContext
from tasks.route.generations import generations
from tasks.route.proxy.haproxy_starter import found
from tasks.route.repair import repair
from tasks.route.rollout import roll_out
from tests.lab.gateway import ROOT, free_port, until
from tests.lab.load import Load
from tests.lab.openai_server import FakeOpenAI
from tests.lab.rollout_once import Host, order

pytestmark = pytest.mark.real
NO_HAPROXY = pytest.mark.skipif(found() is None, reason="no HAProxy is installed (apt install haproxy)")
KINDS = [pytest.param("haproxy", marks=NO_HAPROXY), "front"]


@pytest.fixture
def a() -> Iterator[FakeOpenAI]:
    """Return a model server."""
    with FakeOpenAI("a") as server:
        server.release.set()
        yield server


@pytest.fixture
def b() -> Iterator[FakeOpenAI]:
    """Return another one."""
    with FakeOpenAI("b") as server:
        server.release.set()
        yield server


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """Return a host for each kind of proxy."""
    return Host(tmp_path, free_port(), request.param)


@pytest.fixture
def context(host: Host) -> Iterator[RouteContext]:
    """Return what a rollout needs."""
    with host.up() as context:
        yield context


def said(host: Host) -> str:
    """Return which model server answers a chat through the public port."""
    asked = {
        "model": "tensorzero::function_name::chat",
        "messages": [{"role": "user", "content": "who are you?"}],
    }
    reply = httpx.post(host.chat, json=asked, timeout=30, trust_env=False)
    assert reply.status_code == httpx.codes.OK, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def alone(context: RouteContext) -> bool:
    """Whether one gateway runs, and it is the one that the proxy leads to."""
    active = context.proxy.active()
    there = [(one.generation, one.port) for one in context.gateways.instances()]
    return active is not None and there == [(active.name, active.port)]


def test_life_of_a_route(host: Host, context: RouteContext, a: FakeOpenAI, b: FakeOpenAI) -> None:
    """Create, keep, replace, a kill, a failure, a rollback: a gateway changes only when it must."""
    first = roll_out(order(a.base_url), context)
    kept = roll_out(order(a.base_url), context)
    second = roll_out(order(b.base_url, a.base_url), context)
    os.kill(second.process.pid, signal.SIGKILL)
    until(lambda: context.gateways.instances()[0].process.pid not in {0, second.process.pid})
    back = roll_out(order(b.base_url, a.base_url), context)
    with FakeOpenAI("c") as other:
        other.fault = "500"
        with pytest.raises(RouteError, match=r"the server of m0 at .* serves as before; read "):
            roll_out(order(other.base_url), context)
    assert said(host) == "the answer of b"
    rolled_back = roll_out(replace(order(a.base_url), text=first.config), context)

    kinds = [route.change.kind for route in (first, kept, second, back, rolled_back)]
    assert kinds == ["create", "keep", "replace", "keep", "replace"]
    assert first.process.pid == kept.process.pid != second.process.pid
    assert all(answer.right for answer in second.answers)
    assert [answer.expected for answer in first.answers if "chat" in answer.question] == [
        "an answer by local"
    ]
    assert said(host) == "the answer of a"
    assert rolled_back.config == first.config
    assert alone(context)
    assert generations(context.folder)[0] == (rolled_back.generation, rolled_back.config)
    vectors = embed(context.http, context.base_url, "tensorzero::embedding_model_name::m0", ("x",), 30)
    assert len(vectors.vectors) == 1


def test_the_cap_of_a_smoke_is_shorter_than_the_configs(context: RouteContext, a: FakeOpenAI) -> None:
    """TensorZero lets what a request adds to the body win over what the config adds."""
    roll_out(order(a.base_url), context)
    asked = [one for one in a.requests if "messages" in one]

    assert [one["max_tokens"] for one in asked] == [16, 16]
    assert "max_tokens = 2048" in str(generations(context.folder)) or "2048" in str(
        generations(context.folder)
    )


def test_nothing_is_lost(host: Host, context: RouteContext, a: FakeOpenAI, b: FakeOpenAI) -> None:
    """During a rollout and a rollback no request is lost, and each is answered by one config or the other."""
    first = roll_out(order(a.base_url), context)
    load = Load(host.chat, "tensorzero::function_name::chat", per_s=40, seconds=14).start()
    try:
        second = roll_out(order(b.base_url), context)
        roll_out(replace(order(a.base_url), text=first.config), context)
    finally:
        report = load.report()

    assert report.lost == {}
    assert report.asked == report.answered
    assert (
        {"the answer of a", "the answer of b"}
        <= set(report.texts)
        <= {
            "the answer of a",
            "the answer of b",
            "firstsecond",
        }
    )
    assert " requests in the " in second.watched
    assert alone(context)


def test_wrong_green(host: Host, context: RouteContext, a: FakeOpenAI, b: FakeOpenAI) -> None:
    """A config that leads to a server which answers nonsense never gets a request."""
    first = roll_out(order(a.base_url), context)
    b.fault = "unnormed"
    with pytest.raises(RouteError) as caught:
        roll_out(order(b.base_url), context)

    short = first.config_hash[:8]
    assert caught.value.what.startswith(
        "the gateway's answer to embeddings of tensorzero::embedding_model_name::m0"
    )
    assert caught.value.intact == f"the config in use (sha256 {short}) serves as before"
    assert said(host) == "the answer of a"
    assert alone(context)
    assert (next((context.folder / "rejected").iterdir()) / "tensorzero.toml").exists()


def test_hand_written_part(host: Host, context: RouteContext, a: FakeOpenAI, b: FakeOpenAI) -> None:
    """What the operator wrote is served beside ours, with a file that it names; a broken one is refused."""
    hand = host.state / "own" / "tensorzero.toml"
    hand.parent.mkdir()
    hand.write_text(
        f"""# mine
[models.mine]
routing = ["here"]
[models.mine.providers.here]
type = "openai"
model_name = "mine"
api_base = "{b.base_url}/"
api_key_location = "none"
[functions.mine]
type = "chat"
[functions.mine.experimentation]
type = "static"
candidate_variants = ["one"]
[functions.mine.variants.one]
type = "chat_completion"
model = "mine"
system_template = "system.minijinja"
"""
    )
    (hand.parent / "system.minijinja").write_text("You are brief.")
    own = replace(context, hand=hand)
    roll_out(order(a.base_url), own)
    asked = {
        "model": "tensorzero::function_name::mine",
        "messages": [{"role": "user", "content": "hello"}],
    }
    reply = httpx.post(host.chat, json=asked, timeout=30, trust_env=False)
    good = hand.read_text()
    hand.write_text(good + "[functions.mine]\n")
    with pytest.raises(RouteError, match=r"tensorzero\.toml is not TOML"):
        roll_out(order(a.base_url), own)

    assert reply.json()["choices"][0]["message"]["content"] == "the answer of b"
    assert "You are brief." in str(b.requests[-1]["messages"])
    assert said(host) == "the answer of a"


def test_not_loaded(host: Host, context: RouteContext, a: FakeOpenAI) -> None:
    """A hand-written part that TensorZero does not load is refused, and the config in use stays."""
    first = roll_out(order(a.base_url), context)
    hand = host.state / "own.toml"
    hand.write_text('[metrics.good]\ntype = "boolean"\noptimize = "most"\nlevel = "inference"\n')
    with pytest.raises(RouteError) as caught:
        roll_out(order(a.base_url), replace(context, hand=hand))

    assert caught.value.what.startswith("TensorZero rejects the config: ")
    assert first.config_hash[:8] in caught.value.intact
    assert said(host) == "the answer of a"


def test_port_of_a_stranger(context: RouteContext, a: FakeOpenAI) -> None:
    """A port that another program holds is refused, and nothing is started."""
    port = int(a.base_url.rpartition(":")[2].removesuffix("/v1"))
    stranger = replace(context, door=replace(context.door, port=port))
    with pytest.raises(PortTakenError):
        roll_out(order(a.base_url), stranger)

    assert context.gateways.instances() == ()
    assert not context.folder.exists()


def test_proxy_is_killed(host: Host, context: RouteContext, a: FakeOpenAI) -> None:
    """A proxy that is gone leads to the config in use again after the next run."""
    first = roll_out(order(a.base_url), context)
    context.proxy.stop()
    route = roll_out(order(a.base_url), context)

    assert said(host) == "the answer of a"
    assert route.generation == first.generation


STEPS = [
    ("write", 0.0),
    ("check", 0.3),
    ("start", 0.5),
    ("switch", 0.0),
    ("switch", 0.05),
    ("watch", 0.0),
    ("drain", 0.0),
    ("retire", 0.1),
]
"""Each leaves something else behind. That no step at all leaves too much is asked in memory (test_repair)."""
KILLS = [
    *(pytest.param("haproxy", *step, marks=NO_HAPROXY) for step in STEPS),
    ("front", "switch", 0.05),
    ("front", "retire", 0.1),
]


@pytest.mark.parametrize(("kind", "step", "after_s"), KILLS)
def test_killed(kind: str, step: str, after_s: float, tmp_path: Path, a: FakeOpenAI, b: FakeOpenAI) -> None:
    """A rollout that is killed at a step loses no request, and the next run settles what it left."""
    host = Host(tmp_path, free_port(), kind)
    with host.up() as context:
        roll_out(order(a.base_url), context)
        load = Load(host.chat, "tensorzero::function_name::chat", per_s=20, seconds=7).start()
        try:
            killed = subprocess.run(
                (
                    *(sys.executable, "-m", "tests.lab.rollout_once", str(host.state), str(host.port)),
                    *(kind, step, str(after_s), b.base_url),
                ),
                cwd=ROOT,
                check=False,
                timeout=60,
                capture_output=True,
                text=True,
            )
            done = repair(context)
            settled = alone(context), (context.folder / "rollout.json").exists()
            route = roll_out(order(b.base_url), context)
        finally:
            report = load.report()

        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert done.serving is not None
        assert settled == (True, False)
        assert report.lost == {}
        assert said(host) == "the answer of b"
        assert alone(context)
        assert list((context.folder / "keys").iterdir()) == [
            context.folder / "keys" / f"{route.generation}.env"
        ]
