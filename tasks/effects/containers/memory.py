"""A container engine in memory, for tests: no time passes, and what goes wrong is written down before.

engine = MemoryEngine("tower-1")
image = engine.offer("registry/llama:1", size_bytes=5_000)       a registry has it now
engine.behave("llm", Behaviour(exit_code=1, log="no such file"))  what becomes of a server's containers
engine.fail("pull", EngineGoneError("it went away"))              the next call fails, before it does a thing
engine.on_start = lambda spec, port: ...                          to let something listen on the port
engine.calls                                                      what was asked, in order
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tasks.contracts import ContainerSpec, ContainerState
from tasks.effects.containers.docker_spec import unfit
from tasks.effects.containers.engine import (
    ContainerGoneError,
    ImageMissingError,
    NoGpuError,
    OnBytes,
    PortBusyError,
    not_ours,
    spec_hash,
    taken_by,
)
from tasks.effects.containers.info import EngineError, EngineInfo
from tasks.errors import StoppedError

Hook = Callable[[ContainerSpec, int], None]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What becomes of a server's containers when they are started.

    With an `exit_code` they end at once; with `restarts` as well, the engine has started them again so often.
    """

    exit_code: int | None = None
    oom_killed: bool = False
    restarts: int = 0
    log: str = ""


@dataclass(slots=True)
class Made:
    """A container, and what it was made of; a stranger's has no spec."""

    state: ContainerState
    spec: ContainerSpec | None = None
    log: str = ""


@dataclass(slots=True)
class MemoryEngine:
    """An engine whose containers are records. Its methods may be called from several threads.

    Attributes:
        owner: whose containers it makes.
        answers: what `info` returns; without a GPU until told otherwise.
        registry: the images that can be pulled, and their sizes in bytes.
        tags: the digest behind "repository:tag".
        images: the pinned images that are here.
        busy_ports: ports of 127.0.0.1 that a process outside has.
        calls: what was asked: the method, and its first argument.
    """

    owner: str = "test-owner"
    answers: EngineInfo = field(default_factory=lambda: EngineInfo("28.0.0"))
    registry: dict[str, int] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    busy_ports: set[int] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    on_start: Hook | None = None
    on_stop: Hook | None = None
    address: str = "memory://"
    now_s: float = 1_000.0
    _made: dict[str, Made] = field(default_factory=dict)
    _behaviours: dict[str, Behaviour] = field(default_factory=dict)
    _faults: dict[str, deque[EngineError]] = field(default_factory=lambda: defaultdict(deque))
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def offer(self, reference: str, *, size_bytes: int = 1_000, here: bool = False) -> str:
        """Let the registry have an image ("repository:tag"); return its pinned reference."""
        repository = reference.rpartition(":")[0]
        digest = f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}"
        self.tags[reference] = digest
        self.registry[f"{repository}@{digest}"] = size_bytes
        if here:
            self.images.add(f"{repository}@{digest}")
        return f"{repository}@{digest}"

    def behave(self, server: str, behaviour: Behaviour) -> None:
        """Say what becomes of a server's containers from their next start on."""
        self._behaviours[server] = behaviour

    def fail(self, method: str, *errors: EngineError) -> None:
        """Let the next calls of a method raise these errors, one each."""
        self._faults[method].extend(errors)

    def stranger(self, name: str, *, port: int = 0) -> ContainerState:
        """Add a running container that somebody else made."""
        state = ContainerState(name, self._new_id(), "running", image="else:1", pid=77, published=port)
        self._made[state.id] = Made(state)
        return state

    def end(self, name: str, *, exit_code: int = 1, oom_killed: bool = False) -> None:
        """Let a running container end by itself."""
        made = self._named(name)
        assert made is not None, f"no container {name}"  # noqa: S101  # a wrong test
        made.state = replace(made.state, state="exited", pid=0, exit_code=exit_code, oom_killed=oom_killed)

    def spec_of(self, name: str) -> ContainerSpec | None:
        """Return what a container was made of."""
        made = self._named(name)
        return None if made is None else made.spec

    def info(self) -> EngineInfo:
        """Return what it says of itself."""
        self._called("info")
        return self.answers

    def digest_of(self, reference: str) -> str:
        """Return the digest that the registry has for a tag."""
        self._called("digest_of", reference)
        if reference not in self.tags:
            raise ImageMissingError("the registry does not have the image, or a part of it")
        return self.tags[reference]

    def has_image(self, image: str) -> bool:
        """Tell whether an image was pulled."""
        self._called("has_image", image)
        return image in self.images

    def pull(
        self, image: str, *, on_bytes: OnBytes, stop: threading.Event | None = None, quiet_s: float = 120.0
    ) -> None:
        """Bring an image here in two steps."""
        del quiet_s
        self._called("pull", image)
        if image not in self.registry:
            raise ImageMissingError("the registry does not have the image, or a part of it")
        size_bytes = self.registry[image]
        for done_bytes in (size_bytes // 2, size_bytes):
            if stop is not None and stop.is_set():
                raise StoppedError("the pull of an image was stopped", "finished layers stay", "run it again")
            on_bytes(done_bytes, size_bytes)
        self.images.add(image)

    def containers(self) -> tuple[ContainerState, ...]:
        """Return this owner's containers; a listing leaves out what only an inspection tells."""
        self._called("containers")
        with self._lock:
            ours = [one.state for one in self._made.values() if one.state.owner == self.owner]
        return tuple(
            replace(one, pid=0, started_at=0.0, exit_code=0, oom_killed=False, restarts=0) for one in ours
        )

    def find(self, name: str) -> ContainerState | None:
        """Return the container of that name."""
        self._called("find", name)
        made = self._named(name)
        return None if made is None else made.state

    def inspect(self, container_id: str) -> ContainerState | None:
        """Return one container."""
        self._called("inspect", container_id)
        made = self._made.get(container_id)
        return None if made is None else made.state

    def create(self, spec: ContainerSpec, *, host_port: int) -> ContainerState:
        """Make a container."""
        self._called("create", spec.name)
        reason = unfit(spec.gpu, self.answers)
        if reason:
            raise NoGpuError(reason)
        with self._lock:
            self._refuse_taken(spec.name)
            if spec.image not in self.images:
                raise ImageMissingError("the engine does not have the image")
            state = ContainerState(
                spec.name,
                self._new_id(),
                "created",
                owner=self.owner,
                server=spec.server,
                spec_hash=spec_hash(spec),
                image=spec.image,
                published=host_port,
                devices=spec.devices,
            )
            self._made[state.id] = Made(state, spec)
            return state

    def start(self, container_id: str) -> None:
        """Start a container, and let it behave. In the host's network its own program finds a port taken."""
        self._called("start", container_id)
        with self._lock:
            made = self._ours(container_id)
            if made.state.running:
                return
            port = made.state.published
            others = {one.state.published for one in self._made.values() if one.state.running}
            if port in others | self.busy_ports and not (made.spec and made.spec.host_network):
                raise PortBusyError("the port on 127.0.0.1 is taken")
            made.state = self._started(made)
        if self.on_start is not None and made.spec is not None and made.state.running:
            self.on_start(made.spec, port)

    def stop(self, container_id: str, *, timeout_s: int) -> None:
        """Stop a container."""
        del timeout_s
        self._called("stop", container_id)
        self._halt(self._ours(container_id))

    def remove(self, container_id: str) -> None:
        """Remove a container."""
        self._called("remove", container_id)
        if container_id in self._made:
            self._halt(self._ours(container_id))
            self._made.pop(container_id, None)

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name."""
        self._called("rename", container_id)
        with self._lock:
            made = self._ours(container_id)
            self._refuse_taken(name)
            made.state = replace(made.state, name=name)

    def logs(self, container_id: str, *, lines: int = 200) -> str:
        """Return what a container's behaviour says that it printed."""
        self._called("logs", container_id)
        made = self._made.get(container_id)
        return "" if made is None else "".join(made.log.splitlines(keepends=True)[-lines:])

    def pids(self, container_id: str) -> tuple[int, ...]:
        """Return the one process of a container that runs."""
        self._called("pids", container_id)
        made = self._made.get(container_id)
        return (made.state.pid,) if made is not None and made.state.running else ()

    def close(self) -> None:
        """Do nothing."""
        self._called("close")

    def _called(self, method: str, about: str = "") -> None:
        self.calls.append((method, about))
        if self._faults[method]:
            raise self._faults[method].popleft()

    def _named(self, name: str) -> Made | None:
        return next((one for one in self._made.values() if one.state.name == name), None)

    def _ours(self, container_id: str) -> Made:
        made = self._made.get(container_id)
        if made is None:
            raise ContainerGoneError(f"there is no container {container_id}")
        if made.state.owner != self.owner:
            raise not_ours(made.state.name, self.owner)
        return made

    def _refuse_taken(self, name: str) -> None:
        other = self._named(name)
        if other is not None:
            raise taken_by(name, other.state, self.owner)

    def _started(self, made: Made) -> ContainerState:
        self.now_s += 1
        behaviour = self._behaviours.get(made.state.server, Behaviour())
        made.log += behaviour.log
        if behaviour.exit_code is None:
            pid = 1_000 + int(made.state.id, 16)
            return replace(made.state, state="running", pid=pid, started_at=self.now_s, exit_code=0)
        return replace(
            made.state,
            state="restarting" if behaviour.restarts else "exited",
            started_at=self.now_s,
            exit_code=behaviour.exit_code,
            oom_killed=behaviour.oom_killed,
            restarts=behaviour.restarts,
        )

    def _halt(self, made: Made) -> None:
        ran = made.state.running
        if made.state.state in ("running", "restarting"):
            made.state = replace(made.state, state="exited", pid=0)
        if self.on_stop is not None and made.spec is not None and ran:
            self.on_stop(made.spec, made.state.published)

    def _new_id(self) -> str:
        return f"{next(self._ids):064x}"
