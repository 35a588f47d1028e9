"""A host in memory: an engine, a front, and servers that answer while their containers run.

lab = Lab(tmp_path)
qwen = lab.model("qwen", server="model-qwen")        a model of the plan, its files in the store
ctx = lab.run(qwen)                                   a new run with these models
apply.serve(pulled(qwen), ctx)
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from tasks.contracts import (
    Accelerator,
    Change,
    ContainerSpec,
    ContainerState,
    EngineGpu,
    Event,
    HostFacts,
    Image,
    ModelServer,
    OllamaTag,
    PlannedModel,
    PlannedServer,
    ProcessState,
    PulledModel,
    Role,
    RuntimeName,
    Share,
    VerifiedServer,
    WeightFile,
    Weights,
)
from tasks.effects.containers.info import EngineInfo
from tasks.effects.containers.memory import Behaviour, MemoryEngine
from tasks.effects.front.control import Backend, Backends
from tasks.effects.front.memory import MemoryFront
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.plan.taken import shares
from tasks.serve import apply
from tasks.serve.context import Containers, ServeContext
from tasks.serve.ledger import Ledger
from tasks.serve.wanted import Places
from tests.lab.hosts import device, make_host

GIB = 1 << 30
REVISION = "a" * 40
OWNER = "tower-1"
Answer = Callable[[Request], Reply]


def image(runtime: RuntimeName = "llama.cpp", **changes: object) -> Image:
    """Return an image of a runtime, without a digest."""
    made = Image(
        runtime=runtime,
        accelerator="cpu",
        architectures=("x86_64",),
        repository=f"lab/{runtime}",
        tag="1",
        port=8080,
        size_bytes=1,
        size_basis="made up",
        sources=(),
        environment={"GIVEN": "image", "BOTH": "image"},
    )
    return msgspec.structs.replace(made, **changes)


def weights(*files: str, repo: str = "maker/model") -> Weights:
    """Return pinned files of 8 bytes each."""
    pinned = tuple(WeightFile(path=one, size_bytes=8, sha256="b" * 64) for one in files)
    return Weights(repo=repo, revision=REVISION, files=pinned)


def model(
    name: str = "qwen",
    *,
    runtime: RuntimeName = "llama.cpp",
    server: str = "",
    files: tuple[str, ...] = ("model.gguf",),
    device_name: str = "cpu",
    size_bytes: int = 8,
    port: int = 8101,
    role: Role = "llm",
    **changes: object,
) -> PlannedModel:
    """Return a model of the plan."""
    made = PlannedModel(
        role=role,
        model=name,
        runtime=runtime,
        residency="resident",
        device=device_name,
        port=port,
        memory_bytes=size_bytes,
        memory_measured=False,
        download_bytes=0,
        weights=weights(*files, repo=f"maker/{name}") if runtime != "ollama" else None,
        ollama=OllamaTag(tag=f"{name}:7b", size_bytes=8) if runtime == "ollama" else None,
        server=server or f"model-{name}",
        devices=(Share(device_name, size_bytes),),
        quantisation="q4_k_m",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def server_of(*models: PlannedModel, **changes: object) -> PlannedServer:
    """Return the server of some models."""
    first = models[0]
    made = PlannedServer(
        name=first.server,
        runtime=first.runtime,
        residency=first.residency,
        devices=(first.device,),
        models=tuple(one.model for one in models),
        port=first.port,
        settings=(),
        image=image(first.runtime),
        shares=shares(models),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def pulled(planned: PlannedModel, kind: str = "keep") -> PulledModel:
    """Return a model as it lies on the disk."""
    snapshot = planned.ollama.tag if planned.ollama else "/snapshot"
    change = Change("weights", kind, "said so")  # type: ignore[arg-type]
    return PulledModel(planned, "/hub", snapshot, "", 0, 0.0, change)


def verified(server: ModelServer) -> VerifiedServer:
    """Return a server that answered rightly."""
    return VerifiedServer(server, (), 0.1, 1.0, 1)


class NoSupervisor:
    """A supervisor without processes."""

    def states(self) -> dict[str, ProcessState]:
        """Return nothing."""
        return {}


def ok(_request: Request) -> Reply:
    """Answer as a server that has loaded its model."""
    return Reply(200, b"{}", 0.0)


def loading(_request: Request) -> Reply:
    """Answer as a server that has not."""
    return Reply(503, b"loading", 0.0)


class KilledError(BaseException):
    """Raised when the run is dead: nothing that it still does has an effect."""


class LabEngine(MemoryEngine):
    """An engine whose containers keep, whenever they are started, the behaviour that they were made with.

    `life` is how many changes a run may still make before it is killed; None for no end.
    """

    fates: dict[str, Behaviour]
    life: int | None = None
    CHANGES = frozenset({"create", "start", "stop", "remove", "rename", "front"})

    def spend(self, method: str) -> None:
        """Count a change; a run that is dead makes none."""
        if self.life is None or method not in self.CHANGES:
            return
        if self.life == 0:
            raise KilledError
        self.life -= 1

    def _called(self, method: str, about: str = "") -> None:
        self.spend(method)
        super()._called(method, about)

    def create(self, spec: ContainerSpec, *, host_port: int) -> ContainerState:
        """Make a container, and settle how it behaves."""
        made = super().create(spec, host_port=host_port)
        self._fates()[made.id] = self._behaviours.get(spec.server, Behaviour())
        return made

    def start(self, container_id: str) -> None:
        """Start it to behave so."""
        with self._lock:
            before = dict(self._behaviours)
            if (fate := self._fates().get(container_id)) is not None:
                self._behaviours[self._made[container_id].state.server] = fate
            try:
                super().start(container_id)
            finally:
                self._behaviours = before

    def _fates(self) -> dict[str, Behaviour]:
        if not hasattr(self, "fates"):
            self.fates = {}
        return self.fates


@dataclass(slots=True)
class LabFront(MemoryFront):
    """A front that a dead run does not change."""

    spend: Callable[[str], None] = lambda _method: None
    while_draining: Callable[[], object] = lambda: None

    def drained(self, server: str, timeout_s: float) -> bool:
        """Let time pass, in which something may happen."""
        self.while_draining()
        return MemoryFront.drained(self, server, timeout_s)

    def point(self, server: str, port: int, backend_port: int) -> None:
        """Note where a server is."""
        self.spend("front")
        MemoryFront.point(self, server, port, backend_port)

    def drop(self, server: str) -> None:
        """Forget a server."""
        self.spend("front")
        MemoryFront.drop(self, server)

    def restore(self, snapshot: Backends) -> None:
        """Go back."""
        self.spend("front")
        MemoryFront.restore(self, snapshot)


@dataclass
class Lab:
    """One host: what is on it stays while runs come and go."""

    tmp: Path
    engine: LabEngine = field(default_factory=lambda: LabEngine(OWNER))
    front: LabFront = field(default_factory=LabFront)
    events: list[str] = field(default_factory=list)
    listening: set[int] = field(default_factory=set)
    answers: dict[str, Answer] = field(default_factory=dict)
    cards: tuple[Accelerator, ...] = ()
    main_bytes: int = 64 * GIB
    clock: float = 1_000.0
    active: Callable[[], int] | None = None
    requests: list[tuple[str, Request]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let engine and front live and die together."""
        self.front.spend = self.engine.spend

    @property
    def places(self) -> Places:
        """Where everything lies."""
        return Places(self.tmp / "store", self.tmp / "ollama", self.tmp / "state")

    @property
    def pins(self) -> Path:
        """Where the digests of images are kept."""
        return self.tmp / "state" / "images.lock.json"

    def facts(self) -> HostFacts:
        """Return what was seen of the host."""
        made = make_host(cards=self.cards)
        return replace(made, engine_gpu=EngineGpu("gpus", "it has the runtime"))

    def model(self, name: str = "qwen", **about: object) -> PlannedModel:
        """Return a model of the plan, whose files are in the store."""
        made = model(name, **about)  # type: ignore[arg-type]
        if made.weights is not None:
            repo = self.places.store / f"models--{made.weights.repo.replace('/', '--')}"
            for file in made.weights.files:
                there = repo / "snapshots" / REVISION / file.path
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(b"12345678")
        self.engine.offer(f"lab/{made.runtime}:1")
        return made

    def run(
        self,
        *models: PlannedModel,
        servers: Mapping[str, PlannedServer] | None = None,
        stop: threading.Event | None = None,
        recover: bool = True,
        **times: float,
    ) -> ServeContext:
        """Begin a run that plans these models."""
        groups: dict[str, list[PlannedModel]] = {}
        for one in models:
            groups.setdefault(one.server, []).append(one)
        planned = {name: server_of(*found) for name, found in groups.items()} | dict(servers or {})
        containers = Containers(
            engine=self.engine,
            front=self.front,
            ledger=Ledger(
                self.engine, self.front, lambda server, text: self.events.append(f"{server}: {text}")
            ),
            facts=self.facts(),
            servers=planned,
            models=models,
            places=self.places,
            pins=self.pins,
            logs=self.tmp / "logs",
            devices=lambda: self.cards,
            available_bytes=lambda: self.main_bytes,
        )
        given = {"deadline_s": 0.25, "patience_s": 0.05, "quiet_s": 5.0, **times}
        ctx = ServeContext(
            NoSupervisor(),  # type: ignore[arg-type]  # containers need none
            MemoryHttp(self.answer),
            sys.executable,
            stop=stop,
            sink=self._hear,
            containers=containers,
            **given,
        )
        if recover:
            apply.recover(ctx)
        return ctx

    def bring_up(self, *models: PlannedModel, **about: object) -> ServeContext:
        """Serve, promote and commit models: a whole run that goes well."""
        ctx = self.run(*models, **about)  # type: ignore[arg-type]
        self.finish(ctx, *models)
        return ctx

    def finish(self, ctx: ServeContext, *models: PlannedModel, kind: str = "keep") -> list[ModelServer]:
        """Serve, promote and commit models in a run."""
        served = [apply.serve(pulled(one, kind), ctx) for one in models]
        apply.promote(tuple(verified(one) for one in served), ctx)
        apply.remove_unplanned(ctx)
        assert () == containers(ctx).ledger.commit()
        return served

    def answer(self, request: Request) -> Reply:
        """Answer as whatever container listens on the port."""
        port = int(request.url.removeprefix("http://127.0.0.1:").partition("/")[0])
        there = [one for one in self.everything() if one.running and one.published == port]
        if not there:
            raise HttpError("the connection is refused")
        self.requests.append((there[0].server, request))
        return self.answers.get(there[0].server, ok)(request)

    def everything(self) -> list[ContainerState]:
        """Return all containers, strangers too, by name; it is not counted as a call."""
        return sorted((made.state for made in self.engine._made.values()), key=lambda one: one.name)

    def shown(self) -> dict[str, str]:
        """Return what is there, by name."""
        return {one.name: one.state for one in self.everything()}

    def named(self, name: str) -> ContainerState:
        """Return a container by its name."""
        return next(one for one in self.everything() if one.name == name)

    def points_to(self, server: str) -> str:
        """Return the name of the running container that the front leads to."""
        backend = self.front.table.get(server, Backend(0, 0)).backend_port
        found = [one.name for one in self.everything() if one.running and one.published == backend]
        return found[0] if found else ""

    def asked(self) -> list[str]:
        """Return the methods of the engine that were called, and forget them."""
        calls = [name for name, _ in self.engine.calls]
        self.engine.calls.clear()
        return calls

    def card(self, index: int = 0, *, free_gib: float = 24, total_gib: int = 24) -> Accelerator:
        """Give the host one more card."""
        made = replace(device(mib=total_gib << 10, index=index), memory_free_bytes=int(free_gib * GIB))
        self.cards = (*self.cards, made)
        self.engine.answers = EngineInfo("28.0.0", runtimes=("nvidia",))
        return made

    def _hear(self, event: Event) -> None:
        self.events.append(f"{event.subject}: {event.message}")


def containers(ctx: ServeContext) -> Containers:
    """Return the containers of a run."""
    assert ctx.containers is not None
    return ctx.containers
