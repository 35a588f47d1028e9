"""A proxy, gateways and the model servers behind them, in memory; and a way to fail at any step of a rollout.

Each call to the proxy and to the gateways, and each change of a file below the watched folder, is an effect.
`World.fail` lets one of them raise, a crash also every later one, as a killed process does nothing any more.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.contracts import PlannedRoute, ProcessState, Role, RouteTier
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import RouteError
from tasks.route.context import Order, RouteContext
from tasks.route.gateways.contract import CONFIG, Generation, Instance
from tasks.route.generations import current
from tasks.route.proxy.contract import Count, Door, MemoryProxy, Target
from tests.lab.openai_server import vector
from tests.lab.verified import verified_server

EMBEDDING = "tensorzero::embedding_model_name::"
FUNCTION = "tensorzero::function_name::"
A = "http://127.0.0.1:8101/v1"
B = "http://127.0.0.1:8102/v1"
PORT = 3030
FIRST_PORT = 40001


class CrashError(BaseException):
    """The process is killed."""


@dataclass(slots=True)
class Effects:
    """Counts effects. Number `at` raises `error`, all later ones too if `forever`; `files` spares others."""

    at: int = -1
    error: Callable[[], BaseException] = CrashError
    forever: bool = False
    files: bool = False
    hit: bool = False
    count: int = 0
    log: list[str] = field(default_factory=list)
    each: Callable[[], None] = lambda: None

    def tick(self, what: str, *, file: bool = False) -> None:
        """Count one, which is about to happen or has just happened."""
        self.each()
        number, self.count = self.count, self.count + 1
        self.log.append(what)
        due = 0 <= self.at <= number and (self.forever or number == self.at)
        self.hit |= due
        if due and (file or not self.files):
            raise self.error()


@dataclass(slots=True)
class LabProxy(MemoryProxy):
    """The proxy in memory, whose calls are effects.

    `refuses` names targets that it does not take. `led` is where requests really go: it follows its files
    after they are written.
    """

    effects: Effects = field(default_factory=Effects)
    refuses: set[str] = field(default_factory=set)
    led: Target | None = None

    def point(self, target: Target) -> None:
        """Note the target."""
        self.effects.tick(f"point {target.name}")
        if target.name in self.refuses:
            raise RouteError("the proxy does not follow", "it leads where it led", "read its log")
        MemoryProxy.point(self, target)
        self.effects.tick(f"written {target.name}")
        self.led = target
        self.effects.tick(f"pointed {target.name}")

    def drained(self, target: Target, timeout_s: float) -> bool:
        """Whether the target is not busy."""
        self.effects.tick(f"drained {target.name}")
        return MemoryProxy.drained(self, target, timeout_s)

    def stop(self) -> None:
        """Note it."""
        self.effects.tick("stop the proxy")
        MemoryProxy.stop(self)


class LabGateways:
    """Gateways in memory. Each reads its config once, when it starts.

    Attributes:
        unloadable: Texts that TensorZero does not load.
        stuck: Generations that do not end.
        needs: Names that the keys must have for a text to load.
    """

    kind = "memory"

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.unloadable: set[str] = set()
        self.stuck: set[str] = set()
        self.needs: set[str] = set()
        self.there: dict[str, Instance] = {}
        self.texts: dict[str, str] = {}
        self.did: list[str] = []

    def prepare(self) -> None:
        """Get nothing."""
        self.effects.tick("prepare")

    def instances(self) -> tuple[Instance, ...]:
        """Return every gateway, also the dead."""
        return tuple(self.there.values())

    def start(self, generation: Generation, *, deadline_s: float) -> Instance:
        """Start one; it is not complete before this returns."""
        name = generation.name
        self.effects.tick(f"start {name}")
        self.did.append(f"start {name}")
        text, keys = generation.config.read_text(), generation.environment.read_text()
        assert deadline_s > 0
        assert digest(text) == generation.config_hash
        if text in self.unloadable or not all(need in keys for need in self.needs):
            raise RouteError(
                "the gateway rejects the config: no such field", "nothing changed", "read its log"
            )
        port = max((one.port for one in self.there.values()), default=FIRST_PORT - 1) + 1
        state = ProcessState(f"gateway-{name}", True, "running", port, 0.0, "", "/log")  # noqa: FBT003
        self.texts[name] = text
        self.there[name] = Instance(name, port, state)
        self.effects.tick(f"started {name}")
        return self.there[name]

    def stop(self, generation: str) -> None:
        """End one."""
        self.effects.tick(f"stop {generation}")
        self.did.append(f"stop {generation}")
        if generation in self.stuck:
            raise RouteError("the gateway does not end", "it runs", "end it")
        self.there.pop(generation, None)
        self.effects.tick(f"stopped {generation}")

    def log_tail(self, generation: str) -> str:
        """Return what it printed last."""
        return f"the last words of {generation}"

    def kill(self, generation: str) -> None:
        """End one without a warning."""
        one = self.there[generation]
        self.there[generation] = replace(one, process=replace(one.process, running=False, state="exited"))


class LabOld:
    """The gateway of an earlier version, in memory."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.up = True

    def runs(self) -> bool:
        """Whether it was not ended."""
        return self.up

    def stop(self) -> None:
        """End it."""
        self.effects.tick("stop the old gateway")
        self.up = False


class World:
    """A host.

    Attributes:
        failing: Addresses of model servers that answer 500.
        unreached: Addresses of model servers that answer 500, but only to a gateway.
        swapped: Addresses of model servers that answer as another one, but only to a gateway.
        dull: Addresses of model servers that get the known answer wrong.
        came: Whether the last `fail` had something to let fail.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.effects = Effects()
        self.proxy = LabProxy(effects=self.effects)
        self.gateways = LabGateways(self.effects)
        self.http = MemoryHttp(self._answer)
        self.failing: set[str] = set()
        self.unreached: set[str] = set()
        self.swapped: set[str] = set()
        self.dull: set[str] = set()
        self.now = 0.0
        self.came = False

    def context(self, **changes: Any) -> RouteContext:  # noqa: ANN401  # fields of the context
        """Return what routing needs, with a clock of its own."""
        made = RouteContext(
            proxy=self.proxy,
            gateways=self.gateways,
            http=self.http,
            folder=self.root / "gateway",
            door=Door(PORT),
            env_file=self.root / "pmoves.env",
            check=lambda _: None,
            taken=lambda _: False,
            sleep=self.sleep,
            clock=lambda: self.now,
        )
        return replace(made, **changes)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @property
    def serves(self) -> str:
        """The config that answers requests; "" where none does."""
        target = self.proxy.led if self.proxy.up else None
        one = self.gateways.there.get(target.name) if target else None
        if target is None or one is None or not one.running or one.port != target.port:
            return ""
        return self.gateways.texts[target.name]

    def count(self, target: str, *, good: int, bad: int = 0) -> None:
        """Let the proxy have counted requests."""
        for status, requests in ((200, good), (502, bad)):
            self.proxy.counted.append(Count("2026-11-25T17", target, "chat", "local", status, requests))

    @contextlib.contextmanager
    def fail(
        self, at: int, error: Callable[[], BaseException], *, forever: bool = False, files: bool = False
    ) -> Iterator[Effects]:
        """Let effect number `at` raise within the block; count from 0."""
        effects = self.effects
        effects.at, effects.error, effects.count = at, error, 0
        effects.forever, effects.files, effects.hit = forever, files, False
        effects.log.clear()
        try:
            with file_effects(effects, self.root):
                yield effects
        finally:
            self.came, effects.at = effects.hit, -1

    # --- the wire ------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Reply:
        asked = request.json
        if not isinstance(asked, dict):
            raise HttpError("nothing was asked")
        port = int(request.url.split(":")[2].split("/")[0])
        one = next((one for one in self.gateways.there.values() if one.port == port), None)
        if one is None:
            return self._server(request.url.rpartition("/v1/")[0] + "/v1", asked["model"], asked)
        if not one.running:
            raise HttpError("the connection is refused")
        return self._routed(_config(self.gateways.texts[one.generation]), asked)

    def _routed(self, config: dict[str, Any], asked: dict[str, Any]) -> Reply:
        model = str(asked["model"])
        if model.startswith(EMBEDDING):
            return self._through(config["embedding_models"][model.removeprefix(EMBEDDING)], asked)
        function = config["functions"].get(model.removeprefix(FUNCTION))
        if function is None:
            return reply(400, {"error": {"message": f"unknown function {model}"}})
        order = function["experimentation"]
        for name in (*order["candidate_variants"], *order.get("fallback_variants", ())):
            entry = config["models"][function["variants"][name]["model"]]
            answer = self._through(entry, asked)
            if answer.status == 200:
                body = {**answer.json(), "model": f"{model}::variant_name::{name}"}
                return reply(200, body)
        return reply(502, {"error": {"message": "all variants failed"}})

    def _through(self, entry: dict[str, Any], asked: dict[str, Any]) -> Reply:
        provider = entry["providers"][entry["routing"][0]]
        address = provider.get("api_base", "https://cloud.invalid/v1/").rstrip("/")
        if address in self.unreached:
            return reply(500, {"error": {"message": "no route"}})
        return self._server(address, provider["model_name"], asked, routed=True)

    def _server(self, address: str, model: str, asked: dict[str, Any], *, routed: bool = False) -> Reply:
        if address in self.failing:
            return reply(500, {"error": {"message": "out of memory"}})
        if "input" in asked:
            flavour = "another" if routed and address in self.swapped else address
            rows = [vector(f"{flavour} {model}", text, 4) for text in asked["input"]]
            return reply(200, {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]})
        pictured = not isinstance(asked["messages"][0]["content"], str)
        known = "Red." if pictured else "4"
        wrong = address in self.dull or (routed and address in self.swapped)
        message = {"role": "assistant", "content": "I cannot say" if wrong else known}
        usage = {"completion_tokens": 1}
        return reply(200, {"model": model, "choices": [{"message": message}], "usage": usage})


@functools.cache
def _config(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def order(
    *models: str,
    functions: tuple[str, ...] = (),
    role: Role = "llm",
    base_url: str = B,
    text: str | None = None,
) -> Order:
    """Return an order of embedding models on server A, and of functions that a model on server B answers."""
    servers = [verified_server(one, base_url=A) for one in models]
    if functions:
        servers.append(verified_server("talker", base_url=base_url, role=role))
    routes = tuple(
        PlannedRoute(one, one, role, "talks", (RouteTier("local", "local", "talker"),)) for one in functions
    )
    return Order(tuple(servers), routes, text=text)


def settled(world: World, text: str) -> bool:
    """Whether one config serves, is noted as the one in use, and nothing is half-done."""
    names, folder = list(world.gateways.there), world.root / "gateway"
    in_use = current(folder)
    keys = sorted(one.name for one in (folder / "keys").iterdir())
    return (
        world.serves == text
        and (in_use[0], in_use[1]) == (names[0], text)
        and keys == [f"{name}.env" for name in names]
        and not leftovers(world.root)
        if in_use
        else False
    )


def leftovers(root: Path) -> set[str]:
    """Return what lies there and belongs to no settled gateway."""
    names = {str(one.relative_to(root)) for one in root.rglob("*")}
    return {one for one in names if "rollout.json" in one or any(part[0] == "." for part in one.split("/"))}


def configs(root: Path, kind: str) -> list[str]:
    """Return the configs below `generations` or `rejected`, oldest first."""
    return [one.read_text() for one in sorted((root / "gateway" / kind).glob(f"*/{CONFIG}"))]


def reply(status: int, body: object) -> Reply:
    """Return an answer of JSON."""
    return Reply(status, json.dumps(body).encode(), 0.001)


def digest(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


# --- changes of files as effects -------------------------------------------------------------------

CHANGES = frozenset(("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.truncate"))
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_watched: list[tuple[Effects, str]] = []


@contextlib.contextmanager
def file_effects(effects: Effects, root: Path) -> Iterator[None]:
    """Count each change of a file below `root` within the block, right before it happens."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    _watched.append((effects, str(root)))
    try:
        yield
    finally:
        _watched.pop()


_hooked: list[bool] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    """Python calls this for what it does; a hook cannot be taken out again, so it looks first."""
    if (
        not _watched
        or not (event == "open" or event in CHANGES)
        or not isinstance(args[0], str | os.PathLike)
    ):
        return
    effects, root = _watched[-1]
    path = os.fspath(args[0])
    if event in {"os.remove", "os.rmdir"} and isinstance(args[1], int) and args[1] >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{args[1]}"), str(path))  # noqa: PTH115, PTH118
    if not str(path).startswith(root) or (event == "open" and not _writes(args)):
        return
    _watched.pop()  # what an effect looks at is none itself
    try:
        effects.tick(f"{event.removeprefix('os.')} {str(path).removeprefix(root)}", file=True)
    finally:
        _watched.append((effects, root))


def _writes(args: tuple[Any, ...]) -> bool:
    return bool(isinstance(args[2], int) and args[2] & WRITES)
