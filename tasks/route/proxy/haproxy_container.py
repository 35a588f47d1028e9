"""HAProxy in a container: the same files and sockets, in a folder that is mounted.

It has the host's network, since gateways listen on 127.0.0.1, and the user of this program, who alone may
open the sockets.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import ContainerSpec, ContainerState, Mount, Sink, ToolImage, silent
from tasks.effects.containers import EngineError, pins
from tasks.effects.containers.engine import Engine, PortBusyError, spec_hash
from tasks.errors import PortTakenError, RouteError
from tasks.route.proxy.contract import PROGRAM
from tasks.route.proxy.haproxy_config import CONFIG, INTACT
from tasks.route.proxy.haproxy_files import digest
from tasks.route.proxy.haproxy_starter import arguments

NAME = f"pmoves-{PROGRAM}"
FOLDER = "/proxy"
CERTIFICATE = "certificate.pem"
SECRETS = "/run/secrets"
MEMORY_BYTES = 1 << 30
"""To save the host. 2000 connections with two buffers of 64 KiB each are 256 MB. Chosen above that."""
STOP_S = 10
LOG_LINES = 5


@dataclass(frozen=True, slots=True)
class ContainerStarter:
    """A container of the engine on this host.

    Args:
        folder: Where HAProxy's files are; it is mounted.
        engine: Runs it.
        image: What it is made of.
        pins: The file that keeps the digests of images.
        stop_pull: Ends a pull when it is set.
        sink: Hears how far a pull is.
    """

    folder: Path
    engine: Engine
    image: ToolImage
    pins: Path
    stop_pull: threading.Event | None = None
    sink: Sink = silent

    def certificate(self, path: Path) -> str:  # noqa: ARG002  # any file is seen there
        """Return where the certificate is inside."""
        return f"{SECRETS}/{CERTIFICATE}"

    def objection(self, config: str) -> str:  # noqa: ARG002  # the program is in the image
        """Say nothing: HAProxy objects as it starts, and keeps its old config where it reloads."""
        return ""

    def running(self) -> bool:
        """Ask the engine."""
        with contextlib.suppress(EngineError):
            found = self._found()
            return found is not None and found.running
        return False

    def fits(self, certificate: Path | None) -> bool:
        """Compare what it was made of. A renewed certificate counts: what is mounted is the old one."""
        with _engine("does not tell what runs"):
            found = self._found()
            return found is not None and found.spec_hash == spec_hash(self._spec(certificate))

    def start(self, certificate: Path | None) -> None:
        """Get the image where it is not here, and make the container anew."""
        reference = pins.pinned(self.image, self.engine, self.pins)
        pins.fetch(self.image, reference, self.engine, self.pins, sink=self.sink, stop=self.stop_pull)
        with _engine("does not start the proxy"):
            self._remove()
            made = self.engine.create(self._spec(certificate), host_port=self.image.port)
            self.engine.start(made.id)

    def stop(self) -> None:
        """Remove the container."""
        with _engine("does not stop the proxy"):
            self._remove()

    def log_tail(self) -> str:
        """Return its last lines."""
        with contextlib.suppress(EngineError):
            found = self._found()
            if found is not None:
                lines = self.engine.logs(found.id, lines=LOG_LINES).splitlines()
                return " | ".join(line.strip() for line in lines if line.strip()) or "empty log"
        return "no log"

    def _remove(self) -> None:
        found = self._found()
        if found is not None:
            if found.running:
                self.engine.stop(found.id, timeout_s=STOP_S)
            self.engine.remove(found.id)

    def _found(self) -> ContainerState | None:
        return next((one for one in self.engine.containers() if one.server == PROGRAM), None)

    def _spec(self, certificate: Path | None) -> ContainerSpec:
        reference = pins.pinned(self.image, self.engine, self.pins)
        mounted = str(certificate.absolute()) if certificate else ""
        return ContainerSpec(
            name=NAME,
            server=PROGRAM,
            image=reference,
            command=arguments(FOLDER),
            environment=(),
            port=self.image.port,
            mounts=(Mount(str(self.folder.absolute()), FOLDER, read_only=False),),
            secrets=((CERTIFICATE, mounted),) if mounted else (),
            secrets_digest=digest(certificate) if certificate else "",
            user=f"{os.getuid()}:{os.getgid()}",
            memory_bytes=MEMORY_BYTES,
            stop_timeout_s=STOP_S,
            host_network=True,
            entrypoint=("haproxy",),
        )


@contextlib.contextmanager
def _engine(what: str) -> Iterator[None]:
    try:
        yield
    except PortBusyError as error:
        raise PortTakenError(
            f"the engine cannot start the proxy ({error})", INTACT, "free the port, or choose another one"
        ) from error
    except EngineError as error:
        raise RouteError(
            f"the container engine {what} ({error})", INTACT, f"check the engine; {CONFIG} is what it reads"
        ) from error
