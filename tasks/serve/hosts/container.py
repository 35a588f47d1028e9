"""Servers in containers: decide, pull the image, make room, start beside or instead, wait, load."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from tasks.contracts import (
    Change,
    ContainerSpec,
    ContainerState,
    Image,
    PlannedModel,
    PlannedServer,
    ProcessState,
    PulledModel,
)
from tasks.effects.activity import activity
from tasks.effects.containers import EngineError
from tasks.effects.containers.engine import spec_hash
from tasks.effects.http import HttpError
from tasks.errors import PortTakenError, ProvisionError, ServeError, ServerDiedError
from tasks.serve import gpu, images
from tasks.serve.changes import decide_container
from tasks.serve.context import Containers, Running, ServeContext
from tasks.serve.hosts.starting import give_up, lay_out, start
from tasks.serve.hosts.telling import died, ended, engine_failed, keep_log, last_words, log_path
from tasks.serve.ledger import container_name
from tasks.serve.ready import INTACT, Watched, deadline_s, wait_until_ready
from tasks.serve.runtimes import CONTAINERS, Container
from tasks.serve.spec import container_spec


def takes(planned: PlannedModel) -> bool:
    """Tell whether the runtime is one that runs in a container."""
    return any(planned.runtime == one.name for one in CONTAINERS)


def speaks(planned: PlannedModel) -> Container:
    """Return the runtime of a model."""
    return next(one for one in CONTAINERS if one.name == planned.runtime)


def bring_up(pulled: PulledModel, ctx: ServeContext) -> Running:
    """Bring up the container that serves a model, or keep it."""
    return ensure(pulled.planned, ctx, weights_replaced=pulled.change.kind == "replace")


def ensure(planned: PlannedModel, ctx: ServeContext, *, weights_replaced: bool = False) -> Running:
    """Bring up the container of a model's server, once for all models that it serves."""
    containers = ctx.containers
    if containers is None or planned.server not in containers.servers:
        raise ServeError(
            f"{planned.model} runs in a container of {planned.runtime}, and there is no engine",
            "nothing was started",
            "start the container engine, then run `pmoves provision` again",
        )
    with containers.lock_of(planned.server):
        # Ollama reads what it serves anew when a model is loaded: its container need not be replaced.
        again = weights_replaced and not speaks(planned).pulls_itself
        running = containers.running.get(planned.server)
        if running is None or (again and running.change.kind == "keep"):
            running = _brought_up(planned, containers, ctx, weights_replaced=again)
            containers.running[planned.server] = running
        return running


def _brought_up(
    planned: PlannedModel, containers: Containers, ctx: ServeContext, *, weights_replaced: bool
) -> Running:
    """Bring up a server; one that failed for one of its models is not tried again for the others."""
    earlier = containers.failed.get(planned.server)
    if earlier is not None:
        raise type(earlier)(*earlier.args)
    try:
        return _Bringing(planned, containers, ctx).up(weights_replaced=weights_replaced)
    except EngineError as error:
        failure: ProvisionError = engine_failed(planned.server, error)
        failure.__cause__ = error
    except (ServeError, PortTakenError) as error:
        failure = error
    containers.failed[planned.server] = failure
    raise failure


def load(running: Running, pulled: PulledModel, ctx: ServeContext) -> float:
    """Let the server load the model; what it takes is then no more counted as claimed."""
    containers = ctx.containers
    assert containers is not None  # noqa: S101  # `bring_up` saw to that
    begun, planned = time.monotonic(), pulled.planned
    limit_s = deadline_s(ctx, planned.memory_bytes)
    try:
        speaks(planned).load(running.root_url, pulled, ctx.http, timeout_s=limit_s)
    except HttpError as error:
        if (dead := died(running, containers, planned.model)) is not None:
            raise dead from None
        what = f"{running.name} does not load {planned.model} ({error})"
        log = last_words(running.container, containers) if running.container else ""
        path = keep_log(running.name, log, what, containers)
        raise ServeError(what, INTACT, f"read {path}, then run `pmoves provision` again") from None
    _no_more_claimed(planned, containers)
    return time.monotonic() - begun


def _no_more_claimed(planned: PlannedModel, containers: Containers) -> None:
    """Let go of what a model that is loaded now was to take; those that take turns come later."""
    if planned.residency == "on-demand":
        return
    with containers.lock:
        claimed = containers.claimed.get(planned.server, {})
        for share in planned.devices:
            claimed[share.device] = max(0, claimed.get(share.device, 0) - share.memory_bytes)


def fetch_image(name: str, containers: Containers, ctx: ServeContext) -> str:
    """Pull the image of a server that will need it, while its weights still come; return its pinned name.

    Raises:
        ServeError: it cannot be had.
    """
    members = containers.members(name)
    try:
        return _Bringing(members[0], containers, ctx).fetch()
    except EngineError as error:
        raise engine_failed(name, error) from error


class _Bringing:
    """One server that is brought up."""

    def __init__(self, planned: PlannedModel, containers: Containers, ctx: ServeContext) -> None:
        self._planned = planned
        self._runtime = speaks(planned)
        self._all = containers
        self._ctx = ctx
        self._server = containers.servers[planned.server]

    def up(self, *, weights_replaced: bool) -> Running:
        image = _image(self._server)
        pinned = images.pinned(image, self._all.pins, self._all.engine)
        lay_out(self._server, self._all)
        spec = self._spec(pinned)
        actual = self._all.listed().get(spec.name)
        change = decide_container(
            spec.name, spec_hash(spec), spec.image, actual, weights_replaced=weights_replaced
        )
        self._ctx.say(self._server.name, f"{change.kind}: {change.reason}")
        if change.kind == "keep" and actual is not None:
            kept = self._kept(actual, change)
            if kept is not None:
                images.pin(image, pinned, self._all.pins)
                return kept
            change = Change(change.resource, "replace", "it runs but its health path does not answer 200")
            self._ctx.say(self._server.name, f"{change.kind}: {change.reason}")
        images.ensure(image, pinned, self._ctx)
        return self._started(spec, change, actual)

    def fetch(self) -> str:
        """Pull the image, unless a container of it runs as wanted."""
        image = _image(self._server)
        pinned = images.pinned(image, self._all.pins, self._all.engine)
        spec = self._spec(pinned)
        actual = self._all.listed().get(spec.name)
        if actual is None or not actual.running or actual.spec_hash != spec_hash(spec):
            images.ensure(image, pinned, self._ctx)
        return pinned

    def _spec(self, pinned: str) -> ContainerSpec:
        return container_spec(
            self._server,
            self._all.members(self._server.name),
            self._runtime,
            image=pinned,
            gpu=gpu.access(self._server.devices, self._all.facts, self._all.info()),
            places=self._all.places,
        )

    def _kept(self, actual: ContainerState, change: Change) -> Running | None:
        """Return a container that runs as wanted, if it answers."""
        watched = self._watched(actual, kept=True)
        try:
            try:
                wait_until_ready(watched, self._ctx, within_s=self._ctx.patience_s)
            except ServeError:
                now = self._all.engine.inspect(actual.id)
                if now is None or not now.running or not self._may_load(now, watched.size_bytes):
                    return None
                self._ctx.say(self._server.name, "it came up a short while ago, and still loads")
                wait_until_ready(watched, self._ctx)
        except ServeError:
            return None
        self._ctx.end_process(self._server.port)
        self._all.ledger.keep(self._server.name, self._server.port, actual.published)
        return self._running(actual, change)

    def _may_load(self, now: ContainerState, size_bytes: int) -> bool:
        """Tell whether a container was started so late that it may still load: the host came up just now."""
        return time.time() - now.started_at < deadline_s(self._ctx, size_bytes)

    def _started(self, spec: ContainerSpec, change: Change, actual: ContainerState | None) -> Running:
        wanted = {one.device: one.memory_bytes for one in self._server.shares}
        entry, state, how = start(spec, actual, wanted=wanted, stays=self._stays, ctx=self._ctx)
        try:
            wait_until_ready(self._watched(state), self._ctx)
            now = self._all.engine.inspect(state.id) or state
        except BaseException as error:
            if isinstance(error, ServeError) and not isinstance(error, ServerDiedError):
                keep_log(self._server.name, last_words(state, self._all), error.what, self._all)
            give_up(entry, self._ctx)
            raise
        return self._running(now, dataclasses.replace(change, reason=f"{change.reason}{how}"))

    def _stays(self, state: ContainerState) -> bool:
        """Tell whether the plan keeps a container as it is; where no digest is known, its own stays."""
        server = self._all.servers.get(state.server)
        if server is None or server.image is None or state.name != container_name(server.name):
            return False
        pins = images.read_pins(self._all.pins)
        own = state.image.partition("@")[2]
        digest = server.image.digest or pins.get(server.image.reference) or own
        members = self._all.members(server.name)
        other = _Bringing(members[0], self._all, self._ctx)
        return spec_hash(other._spec(f"{server.image.repository}@{digest}")) == state.spec_hash

    def _watched(self, state: ContainerState, *, kept: bool = False) -> Watched:
        engine, pids = self._all.engine, _Pids(lambda: self._all.engine.pids(state.id))
        url = f"http://127.0.0.1:{state.published}{self._runtime.health_path}"
        members = self._all.members(self._server.name)
        size = 0 if self._runtime.pulls_itself else sum(one.memory_bytes for one in members)

        def dead() -> ServerDiedError | None:
            now = engine.inspect(state.id)
            if not ended(now, kept=kept):
                return None
            running = self._running(now or state, Change("", "create", ""))
            return died(running, self._all, self._server.name, now)

        # Where no process can be read, as of an engine in a machine of its own, nobody can tell.
        log = str(log_path(self._server.name, self._all))
        return Watched(self._server.name, url, size, dead, lambda: activity(pids()) or None, log)

    def _running(self, state: ContainerState, change: Change) -> Running:
        process = ProcessState(
            name=self._server.name,
            running=state.running,
            state=state.state,
            pid=state.pid,
            started_at=state.started_at,
            spec_hash=state.spec_hash,
            log=f"`docker logs {container_name(self._server.name)}`",
        )
        root = f"http://127.0.0.1:{state.published}"
        return Running(self._server.name, root, change, process, state.image, state)


class _Pids:
    """The processes of a container, asked for now and then: each question costs the engine some work."""

    EVERY_S = 2.0

    def __init__(self, ask: Callable[[], tuple[int, ...]]) -> None:
        self._ask = ask
        self._known: tuple[int, ...] = ()
        self._asked = 0.0

    def __call__(self) -> tuple[int, ...]:
        if time.monotonic() - self._asked > self.EVERY_S:
            try:
                self._known = self._ask()
            except EngineError:
                self._known = ()
            self._asked = time.monotonic()
        return self._known


def _image(server: PlannedServer) -> Image:
    if server.image is None:
        raise ServeError(
            f"the plan names no image for {server.name}",
            "nothing was started",
            "report this: it is an error of the planner",
        )
    return server.image
