"""Gateways in containers of an engine in memory: what is asked for, and what goes wrong."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.contracts import ContainerSpec, ContainerState, Mount, ToolImage
from tasks.effects.containers.engine import EngineGoneError, ImageMissingError
from tasks.effects.containers.memory import Behaviour, MemoryEngine
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import ImageUnavailableError, RouteError, ServeError
from tasks.route.gateways import container, said, waiting
from tasks.route.gateways.container import ContainerGateways, container_spec
from tasks.route.gateways.contract import Gateways, Generation
from tests.lab.gateways import generation

REFERENCE = "lab/gateway:1"
IMAGE = ToolImage(
    name="gateway", repository="lab/gateway", tag="1", port=3000, size_bytes=10, size_basis="x", unpinned="x"
)


@dataclass
class World:
    """An engine, and the gateways that listen while their containers run.

    `hashes` has what `/status` tells by port; a port without one does not answer.
    """

    folder: Path
    engine: MemoryEngine = field(default_factory=MemoryEngine)
    hashes: dict[int, str] = field(default_factory=dict)
    says: str = "ok"

    def __post_init__(self) -> None:
        """Let gateways listen."""
        self.pinned = self.engine.offer(REFERENCE, here=True)
        self.engine.on_start = self._listen
        self.engine.on_stop = self._end
        http = MemoryHttp(self._answer)
        self.gateways: Gateways = ContainerGateways(
            self.engine, http, IMAGE, self.folder / "images.lock.json"
        )

    def generation(self, name: str, config: str = "") -> Generation:
        """Write a generation."""
        return generation(self.folder, name, config)

    def spec(self, name: str) -> ContainerSpec:
        """Return what a container was made of."""
        found = self.engine.spec_of(f"pmoves-gateway-{name}")
        assert found is not None
        return found

    def _listen(self, spec: ContainerSpec, port: int) -> None:
        (mount,) = spec.mounts
        self.hashes[port] = Path(mount.source, "tensorzero.toml").read_text().strip()

    def _end(self, _spec: ContainerSpec, port: int) -> None:
        self.hashes.pop(port, None)

    def _answer(self, request: Request) -> Reply:
        port = int(request.url.removeprefix("http://127.0.0.1:").partition("/")[0])
        if port not in self.hashes or not request.url.endswith("/status"):
            raise HttpError("the connection is refused")
        told = {"status": self.says, "version": "2026.6.0", "config_hash": self.hashes[port]}
        return Reply(200, json.dumps(told).encode(), 0.0)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return an engine in memory; ports are chosen in order, and nobody waits."""
    monkeypatch.setattr(waiting, "POLL_S", 0.001)
    monkeypatch.setattr(
        container, "free_port", lambda known: next(p for p in range(29_000, 30_000) if p not in known)
    )
    return World(tmp_path)


def test_the_whole_container(world: World) -> None:
    """Read it once; it is what runs on people's machines."""
    made = world.generation("g1")

    assert container_spec(made, world.pinned, 29_000) == ContainerSpec(
        name="pmoves-gateway-g1",
        server="gateway-g1",
        image=world.pinned,
        entrypoint=(
            "sh",
            "-c",
            'set -a; . /run/secrets/gateway.env; set +a; exec gateway "$@"',
            "gateway",
        ),
        command=("--config-file", "/config/tensorzero.toml", "--log-format", "json"),
        environment=(
            ("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1"),
            ("TENSORZERO_GATEWAY_BIND_ADDRESS", "127.0.0.1:29000"),
        ),
        port=29_000,
        mounts=(Mount(str(made.folder), "/config"),),
        tmpfs=("/tmp:size=64m",),  # noqa: S108  # inside
        secrets=(("gateway.env", str(made.environment)),),
        user=f"{os.getuid()}:{os.getgid()}",
        memory_bytes=2 << 30,
        pids=1024,
        health=("wget", "-q", "-O", "/dev/null", "http://127.0.0.1:29000/health"),
        stop_timeout_s=25,
        host_network=True,
    )


def test_one_after_another(world: World) -> None:
    """Each on a port of its own; what the engine tells is all that is needed to find them again."""
    one = world.gateways.start(world.generation("g1", "# 1"), deadline_s=1)
    two = world.gateways.start(world.generation("g2", "# 2"), deadline_s=1)

    assert (29_000, 29_001) == (one.port, two.port)
    assert (True, True) == (one.running, two.running)
    assert (one, two) == world.gateways.instances()
    world.gateways.stop("g1")
    assert (two,) == world.gateways.instances()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (
            Behaviour(
                exit_code=1, restarts=2, log='{"level":"ERROR","fields":{"message":"no such field."}}\n'
            ),
            "^the gateway ended with exit code 1 while it started: no such field; the gateways that ran",
        ),
        (
            Behaviour(exit_code=127, log="sh: gateway: not found\n"),
            "code 127 while it started: sh: gateway: not",
        ),
        (Behaviour(exit_code=137), "the gateway was killed while it started, without a word"),
        (Behaviour(exit_code=137, oom_killed=True), "took more main memory than its limit"),
    ],
    ids=["a sentence of its own", "no such program", "killed", "out of memory"],
)
def test_one_that_ends_while_it_starts(world: World, behaviour: Behaviour, reason: str) -> None:
    """It is said why in one sentence, and nothing of it is left."""
    one = world.gateways.start(world.generation("g1"), deadline_s=1)
    world.engine.behave("gateway-g2", behaviour)

    with pytest.raises(RouteError, match=reason):
        world.gateways.start(world.generation("g2"), deadline_s=1)

    assert (one,) == world.gateways.instances()


def test_one_that_never_answers(world: World) -> None:
    """What it printed last is told."""
    world.engine.on_start = None
    world.engine.behave("gateway-g1", Behaviour(log='{"level":"INFO","fields":{"message":"Starting"}}\n'))

    with pytest.raises(RouteError, match=r"g1 does not serve within 0\.01 s \(last output: Starting\)"):
        world.gateways.start(world.generation("g1"), deadline_s=0.01)

    assert () == world.gateways.instances()


def test_one_that_is_not_well(world: World) -> None:
    """To answer is not enough."""
    world.says = "error"

    with pytest.raises(RouteError, match="does not serve within"):
        world.gateways.start(world.generation("g1"), deadline_s=0.01)


def test_the_config_of_another(world: World) -> None:
    """A gateway beside it names the same config, and has not the same."""
    world.gateways.start(world.generation("g1", "[gateway]\n"), deadline_s=1)
    meant = world.generation("g2", "debug = 1\n")
    world.engine.on_start = lambda _spec, port: world.hashes.update({port: "[gateway]"})

    with pytest.raises(RouteError, match="of generation g2 serves the config of g1"):
        world.gateways.start(meant, deadline_s=1)

    assert ["g1"] == [one.generation for one in world.gateways.instances()]


def test_the_same_config_twice(world: World) -> None:
    """Told in other words, or with other keys, it may have the same hash."""
    world.engine.on_start = lambda _spec, port: world.hashes.update({port: "same"})
    world.gateways.start(world.generation("g1", "[gateway]\ndebug=true"), deadline_s=1)

    assert world.gateways.start(world.generation("g2", "gateway.debug = true # why"), deadline_s=1).running


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("containers", "the container engine does not tell which gateways there are"),
        ("create", "the container engine does not start the gateway"),
        ("start", "the container engine does not start the gateway"),
    ],
)
def test_an_engine_that_fails(world: World, method: str, reason: str) -> None:
    """In one sentence with what to do; nothing is left."""
    meant = world.generation("g1")
    world.engine.fail(method, EngineGoneError("it stopped answering"))

    with pytest.raises(RouteError, match=rf"^{reason} \(it stopped answering\); .*; check the engine"):
        world.gateways.start(meant, deadline_s=1)

    assert () == world.gateways.instances()


def test_an_engine_that_does_not_stop_one(world: World) -> None:
    """It is said; who stops it again finds it."""
    world.gateways.start(world.generation("g1"), deadline_s=1)
    world.engine.fail("stop", EngineGoneError("it stopped answering"))

    with pytest.raises(RouteError, match="does not stop the gateway"):
        world.gateways.stop("g1")

    world.gateways.stop("g1")
    assert () == world.gateways.instances()


def test_a_strangers_name(world: World) -> None:
    """It is left alone."""
    world.engine.stranger("pmoves-gateway-g1")

    with pytest.raises(RouteError, match="is taken by somebody else's container"):
        world.gateways.start(world.generation("g1"), deadline_s=1)

    assert world.engine.find("pmoves-gateway-g1") is not None


def test_what_is_stopped_may_run_on(world: World) -> None:
    """A gateway that keeps falling is stopped as one that runs: else the engine starts it anew meanwhile."""
    world.gateways.start(world.generation("g1"), deadline_s=1)
    world.engine.calls.clear()

    world.gateways.stop("g1")
    world.gateways.stop("g1")

    assert ["stop", "remove"] == [one for one, _ in world.engine.calls if one in {"stop", "remove"}]


def test_an_image_that_is_not_here(world: World) -> None:
    """It is pulled before, or refused."""
    world.engine.images.clear()
    meant = world.generation("g1")

    with pytest.raises(RouteError, match="the engine does not have the image"):
        world.gateways.start(meant, deadline_s=1)
    world.engine.fail("pull", EngineGoneError("it went away"))
    with pytest.raises(ImageUnavailableError):
        world.gateways.prepare()
    world.gateways.prepare()

    assert world.gateways.start(meant, deadline_s=1).running
    assert world.pinned == world.spec("g1").image


def test_no_digest_is_to_be_had(world: World) -> None:
    """As for every image."""
    world.engine.fail("digest_of", ImageMissingError("the registry does not have the image"))

    with pytest.raises(ServeError, match=r"the image lab/gateway:1 cannot be had"):
        world.gateways.start(world.generation("g1"), deadline_s=1)


def test_the_log_is_readable(world: World) -> None:
    """Its messages, without what is around them; what is gone has none."""
    lines = [json.dumps({"level": "INFO", "fields": {"message": f"line {n}"}}) for n in range(9)]
    world.engine.behave("gateway-g1", Behaviour(log="\n".join([*lines, "plain \x1b[31mtext\x1b[0m", ""])))
    world.gateways.start(world.generation("g1"), deadline_s=1)

    assert "line 5 | line 6 | line 7 | line 8 | plain text" == world.gateways.log_tail("g1")
    assert "no log" == world.gateways.log_tail("g2")
    world.engine.fail("logs", EngineGoneError("x"))
    assert "no log" == world.gateways.log_tail("g1")


def test_the_first_error_is_the_reason() -> None:
    """The program goes on to say which files it looked at."""
    told = [
        ("WARN", "Deprecation"),
        ("ERROR", "models.m: API key missing for provider OpenAI:\nEnvironment variable is missing."),
        ("ERROR", "Failed to load config. Config file glob `/config/tensorzero.toml` resolved to …"),
    ]
    log = "\n".join(json.dumps({"level": level, "fields": {"message": text}}) for level, text in told)
    ended = ContainerState("pmoves-gateway-g1", "1", "exited", exit_code=1)

    assert said.cause(ended, log) == (
        "the gateway ended with exit code 1 while it started: "
        "models.m: API key missing for provider OpenAI: Environment variable is missing"
    )
    assert said.cause(None, log) == "the gateway's container is gone: somebody removed it"


def test_a_long_reason_is_cut() -> None:
    """A sentence stays readable, and one line; a line that is no object is text."""
    ended = ContainerState("pmoves-gateway-g1", "1", "exited", exit_code=2)

    assert said.cause(ended, f"{'x' * 700}\n\n").endswith(f": {'x' * 600}...")
    assert said.cause(ended, '["a list"]\n').endswith(': ["a list"]')
    assert said.cause(ended, "7\n").endswith(": 7")
