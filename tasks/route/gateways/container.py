"""Gateways in containers: each TensorZero's own image with one config, on the host's network.

All that is known of them is kept by the engine: the label `ai.pmoves.server` has the generation, the label
`ai.pmoves.port` the port.

Its `/status` names the config by a hash of its own, of the normalised TOML, that cannot be computed here. So
that it serves that very config is known from how it was made: of that generation's folder, read-only. And it
is seen that it names another config than the gateways beside it do.
"""

from __future__ import annotations

import contextlib
import os
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.contracts import ContainerSpec, ContainerState, Mount, ProcessState, Sink, ToolImage, silent
from tasks.effects.containers import EngineError, pins
from tasks.effects.containers.engine import Engine
from tasks.effects.http import Http
from tasks.errors import RouteError
from tasks.route.gateways.contract import CONFIG, Generation, Instance
from tasks.route.gateways.ports import free_port
from tasks.route.gateways.said import cause, readable
from tasks.route.gateways.waiting import INTACT, Patience, status
from tasks.route.observability import SERVER as DATABASE
from tasks.route.proxy.contract import PROGRAM

SERVER = "gateway-"
NAME = "pmoves-gateway-"
OTHERS = (PROGRAM, DATABASE)
"""What is called like a gateway, and is the proxy before it or the database behind it."""
FINISH_S = 25
FOLDER, KEYS = "/config", "gateway.env"
START = f'set -a; . /run/secrets/{KEYS}; set +a; exec gateway "$@"'
"""The image's entrypoint is `gateway`, and it takes keys from its environment alone. The engine shows the
environment that it gave a container to everybody who may ask it, so this shell reads them from a file."""

MEMORY_BYTES = 2 << 30
"""To save the host, not to enforce an estimate. The wheel, with Python around it, takes 71 MiB, and 133 MiB
with 16 requests of 1 MB at once: some 4 MB for each MB that is on its way, so this holds 500 MB. Chosen."""

PIDS = 1024
"""Threads. Tokio starts one for each core, and up to 512 for what blocks
(docs.rs/tokio, runtime::Builder::max_blocking_threads). Chosen above both."""

TMPFS = "/tmp:size=64m"  # noqa: S108  # inside the container
LOG_LINES = 200
OURS = ("running", "restarting", "created")


class ContainerGateways:
    """Gateways that are containers of an engine on this host.

    Args:
        engine: runs them.
        http: asks them for their status.
        image: what they are made of.
        pins: the file that keeps the digests of images.
        stop: ends a pull, and the wait for a gateway, when it is set.
        sink: hears how far a pull is.
        finish_s: how long requests may run on when a gateway is stopped. What runs longer, an endless stream
            for one, is cut off: whoever stops a gateway waits first until the proxy has no request there.
    """

    kind = "container"

    def __init__(  # noqa: PLR0913  # what they are made of, and who watches
        self,
        engine: Engine,
        http: Http,
        image: ToolImage,
        pins: Path,
        *,
        stop: threading.Event | None = None,
        sink: Sink = silent,
        finish_s: int = FINISH_S,
    ) -> None:
        self._engine = engine
        self._http = http
        self._image = image
        self._pins = pins
        self._stop = stop
        self._sink = sink
        self._finish_s = finish_s

    def prepare(self) -> None:
        """Pull the image where it is not here, and pin it.

        Raises:
            ServeError: it cannot be had.
        """
        reference = pins.pinned(self._image, self._engine, self._pins)
        pins.fetch(self._image, reference, self._engine, self._pins, sink=self._sink, stop=self._stop)

    def instances(self) -> tuple[Instance, ...]:
        """Return every gateway that the engine has.

        Raises:
            RouteError: the engine does not answer.
        """
        with _engine("does not tell which gateways there are"):
            all_ours = self._engine.containers()
            found = [one for one in all_ours if one.server.startswith(SERVER) and one.server not in OTHERS]
            return tuple(instance_of(self._engine.inspect(one.id) or one) for one in found)

    def start(self, generation: Generation, *, deadline_s: float) -> Instance:
        """Start a gateway, in place of one of that very generation; return once it serves its config.

        Raises:
            RouteError, ServeError: see `Gateways`.
            StoppedError: the run was asked to stop.
        """
        _refuse_address(generation)
        image = pins.pinned(self._image, self._engine, self._pins)
        ports = {one.generation: one.port for one in self.instances()}
        # A proxy may still point there.
        port = ports.get(generation.name) or free_port(ports.values())
        spec = container_spec(generation, image, port, finish_s=self._finish_s)
        self.stop(generation.name)
        with _engine("does not start the gateway"):
            made = self._engine.create(spec, host_port=port)
            try:
                self._engine.start(made.id)
                return self._wait(generation, made, port, deadline_s)
            except BaseException:
                with contextlib.suppress(EngineError):
                    self._engine.remove(made.id)
                raise

    def stop(self, generation: str) -> None:
        """End a gateway and remove its container; its requests may run on for `finish_s`.

        Raises:
            RouteError: the engine does not do so.
        """
        with _engine("does not stop the gateway"):
            found = self._found(generation)
            if found is None:
                return
            if found.state in OURS:
                self._engine.stop(found.id, timeout_s=self._finish_s)
            self._engine.remove(found.id)

    def log_tail(self, generation: str) -> str:
        """Return its last lines; nothing where the engine does not give them."""
        with contextlib.suppress(EngineError):
            found = self._found(generation)
            if found is not None:
                return readable(self._engine.logs(found.id, lines=5)) or "empty log"
        return "no log"

    def _found(self, generation: str) -> ContainerState | None:
        ours = self._engine.containers()
        return next((one for one in ours if one.server == SERVER + generation), None)

    def _wait(self, generation: Generation, made: ContainerState, port: int, deadline_s: float) -> Instance:
        up = Patience(deadline_s, self._stop).until(lambda: self._up(generation, made, port))
        if up is None:
            tail = readable(self._engine.logs(made.id, lines=5)) or "nothing"
            what = f"the gateway of generation {generation.name} does not serve within {deadline_s:g} s"
            raise RouteError(f"{what} (last output: {tail})", INTACT, "run `pmoves provision` again")
        return up

    def _up(self, generation: Generation, made: ContainerState, port: int) -> Instance | None:
        """Return the gateway once it serves; None while it may still come to that."""
        told = status(self._http, port)
        now = self._engine.inspect(made.id)
        if now is None or not now.running or now.restarts:
            why = cause(now, self._engine.logs(made.id, lines=LOG_LINES))
            raise RouteError(why, INTACT, f"correct {generation.config}, or what it is made of")
        if told is None or told.get("status") != "ok":
            return None
        self._refuse_double(generation, told.get("config_hash"))
        return instance_of(now)

    def _refuse_double(self, generation: Generation, config_hash: object) -> None:
        """Refuse a gateway that names the config of another one, whose config is not the same."""
        config = _parsed(generation.config)
        for other in self.instances():
            if other.generation == generation.name or not other.running:
                continue
            told = status(self._http, other.port)
            theirs = _parsed(generation.folder.parent / other.generation / CONFIG)
            known = config is not None and theirs is not None
            if known and config != theirs and told and told.get("config_hash") == config_hash:
                what = f"the gateway of generation {generation.name} serves the config of {other.generation}"
                raise RouteError(what, INTACT, "run `pmoves provision` again")


def container_spec(
    generation: Generation, image: str, port: int, *, finish_s: int = FINISH_S
) -> ContainerSpec:
    """Return the container of a generation. It runs as this user, who alone may read its keys."""
    return ContainerSpec(
        name=NAME + generation.name,
        server=SERVER + generation.name,
        image=image,
        # One file: a pattern such as `*.toml` would take in what lies beside it.
        command=("--config-file", f"{FOLDER}/{CONFIG}", "--log-format", "json"),
        environment=(
            ("TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS", "1"),
            ("TENSORZERO_GATEWAY_BIND_ADDRESS", f"127.0.0.1:{port}"),
        ),
        port=port,
        mounts=(Mount(str(generation.folder), FOLDER),),
        tmpfs=(TMPFS,),
        secrets=((KEYS, str(generation.environment)),),
        user=f"{os.getuid()}:{os.getgid()}",
        memory_bytes=MEMORY_BYTES,
        pids=PIDS,
        health=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{port}/health"),
        stop_timeout_s=finish_s,
        host_network=True,
        entrypoint=("sh", "-c", START, "gateway"),
    )


def instance_of(state: ContainerState) -> Instance:
    """Return the gateway that a container is."""
    process = ProcessState(
        name=state.name,
        running=state.running,
        state=state.state,
        pid=state.pid,
        started_at=state.started_at,
        spec_hash=state.spec_hash,
        log="",
    )
    return Instance(state.server.removeprefix(SERVER), state.published, process, state.name)


def _refuse_address(generation: Generation) -> None:
    config = _parsed(generation.config) or {}
    gateway = config.get("gateway")
    if isinstance(gateway, dict) and "bind_address" in gateway:
        raise RouteError(
            f"{CONFIG} has gateway.bind_address = {gateway['bind_address']!r}, but each gateway gets a "
            "port of its own, and the proxy before it has the one for clients",
            INTACT,
            "take that line out, and set PMOVES_GATEWAY_PORT where clients need another port",
        )


def _parsed(config: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _engine(what: str) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        raise RouteError(
            f"the container engine {what} ({error})",
            INTACT,
            "check the engine, then run `pmoves provision` again",
        ) from error
