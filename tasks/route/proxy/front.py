"""The front as the proxy: what owns the port where there is no HAProxy. It knows neither tokens nor TLS.

<folder>/table.json, front.sock …   see tasks/effects/front
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tasks.effects.front.control import Backend, Front
from tasks.effects.front.status import PortStatus
from tasks.effects.processes import Supervisor
from tasks.errors import PortTakenError, RefusedError, RouteError, ServeError
from tasks.route.proxy.contract import PATHS, PROGRAM, Count, Door, Target
from tasks.route.proxy.words import MARK, function_and_variant

SERVER = "gateway"
INTACT = "the routes in use are unchanged"
POLL_S = 0.05
LOCAL = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """A front of its own, with one port. `door` has neither a token nor a certificate."""

    door: Door
    folder: Path
    supervisor: Supervisor
    python: str
    kind: str = "front"

    @property
    def _front(self) -> Front:
        return Front(self.folder, self.supervisor, self.python, name=PROGRAM)

    def active(self) -> Target | None:
        """Return what the table says."""
        try:
            backend = self._front.backends().get(SERVER)
        except ServeError:
            return None
        return Target(backend.backend, backend.backend_port) if backend else None

    def runs(self) -> bool:
        """Whether the front answers, and has the port."""
        found = self._port()
        return found is not None and found.state == "open" and found.port == self.door.port

    def point(self, target: Target) -> None:
        """Write the table, and wait until the front follows."""
        refuse_door(self.door)
        backend = Backend(self.door.port, target.port, target.name, MARK, PATHS)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._front.lead(SERVER, backend)
        except PortTakenError as error:
            raise PortTakenError(error.what, INTACT, error.then) from error
        except ServeError as error:
            raise RouteError(error.what, INTACT, error.then) from error

    def drained(self, target: Target, timeout_s: float) -> bool:
        """Ask the front again and again. One that is gone has no requests."""
        deadline = time.monotonic() + timeout_s
        while (found := self._port()) is not None:
            busy = [one.in_flight for one in found.retiring if one.backend_port == target.port]
            if not sum(busy):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def counts(self) -> tuple[Count, ...]:
        """Return what the front counted since it began."""
        found = self._port()
        if found is None:
            return ()
        return tuple(
            Count(one.hour, one.backend, *function_and_variant(one.word), one.status, one.requests)
            for one in found.counts
        )

    def stop(self) -> None:
        """Give up the port, which ends the front."""
        try:
            self._front.drop(SERVER)
        except ServeError as error:
            raise RouteError(error.what, INTACT, error.then) from error

    def _port(self) -> PortStatus | None:
        status = self._front.status()
        ports = status.ports if status else ()
        return next((one for one in ports if one.server == SERVER and one.state != "closing"), None)


def refuse_door(door: Door) -> None:
    """Refuse what only HAProxy can do.

    Raises:
        RefusedError: a token, TLS or another address than this host's own is asked for.
    """
    asked = [
        name
        for name, wanted in (
            ("an access token", bool(door.token_sha256)),
            ("a certificate", door.certificate is not None),
            (f"the address {door.bind}", door.bind != LOCAL),
        )
        if wanted
    ]
    if asked:
        raise RefusedError(
            f"the gateway is to have {' and '.join(asked)}, which needs HAProxy, and none is here",
            INTACT,
            "install it (`apt install haproxy`), or leave these settings out",
        )
