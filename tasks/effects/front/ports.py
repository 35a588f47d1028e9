"""One stable port: its listener, the backend that gets new requests, and those that end theirs."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from tasks.effects.forwarding.forward import forward, send_error
from tasks.effects.forwarding.headers import is_local, target
from tasks.effects.forwarding.server import Server, listen
from tasks.effects.forwarding.upstream import HOST, Upstream
from tasks.effects.front.counting import Tallies, Tally, Watched
from tasks.effects.front.status import Flight
from tasks.effects.front.table import Row

OWNER = "the front"


class StablePort:
    """A port that stays while backends come and go. It is an ASGI application and runs its own server."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.closing = False
        self._current = _upstream(row)
        self._retiring: dict[int, Upstream] = {}
        self._server = Server(self)
        self._serving: asyncio.Task[None] | None = None
        self._watching: set[asyncio.Task[None]] = set()
        self._tallies = Tallies()

    # --- requests ------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from the backend that serves as it begins."""
        if not is_local(scope):
            message = f"only requests to 127.0.0.1, localhost or [::1] are answered; use http://{HOST}:"
            await send_error(send, 403, f"{message}{self.row.port}", kind="invalid_request_error")
        elif not target(scope).startswith((b"/", b"*")):
            message = "this is no proxy: ask for a path, not for a whole address"
            await send_error(send, 400, message, kind="invalid_request_error")
        elif not _open_to(self.row, scope):
            message = f"{scope['path']} is not served here; {' and '.join(self.row.paths)} are"
            await send_error(send, 404, message, kind="invalid_request_error")
        elif self.row.mark:
            await self._counted(scope, receive, send)
        else:
            await forward(self._current, scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        backend, answer = self.row.backend, Watched(send, self.row.mark)
        try:
            await forward(self._current, scope, receive, answer)
        finally:
            if answer.status:
                self._tallies.add(backend, answer.word, answer.status)

    # --- the life of the port ------------------------------------------------------------------

    async def open(self) -> None:
        """Take the port and answer on it.

        Raises:
            PortTakenError: somebody else has it.
        """
        listener = listen(self.row.port, OWNER)
        self._serving = asyncio.create_task(self._server.serve([listener]))

    def point(self, row: Row) -> None:
        """Send new requests to the backend of `row`; those in flight end where they began."""
        self.row = row
        if row.backend_port == self._current.port:
            self._current.name = _name(row)
            return
        before, again = self._current, self._retiring.get(row.backend_port)
        if again is not None:
            del self._retiring[row.backend_port]
            again.open()
        self._current = again or _upstream(row)
        self._retiring[before.port] = before
        self._watch(before)

    def close(self) -> None:
        """Accept nothing new; `ended` returns when what runs has ended."""
        self.closing = True
        self._server.stop()

    async def ended(self) -> None:
        """Return after the last request of a port that closes."""
        if self._serving is not None:
            await asyncio.wait((self._serving,))
        self._current.close()

    def cut_off(self) -> None:
        """Cancel what still runs."""
        self._server.cut_off()

    # --- looking -------------------------------------------------------------------------------

    @property
    def retiring(self) -> tuple[Flight, ...]:
        """The backends before, as long as a request is in flight there."""
        return tuple(Flight(port, one.in_flight) for port, one in self._retiring.items() if one.in_flight)

    @property
    def counts(self) -> tuple[Tally, ...]:
        """How requests ended, where the row says by which word they are counted."""
        return self._tallies.all()

    @property
    def in_flight(self) -> int:
        """Requests in flight on the backend that gets new ones."""
        return self._current.in_flight

    @property
    def trouble(self) -> str:
        """Why the last request failed that found no answer, "" when none did."""
        return self._current.trouble

    def _watch(self, before: Upstream) -> None:
        task = asyncio.create_task(self._retire(before))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _retire(self, before: Upstream) -> None:
        """Forget a backend after its last request, unless it gets new ones again by then."""
        before.close()
        await before.idle.wait()
        if self._retiring.get(before.port) is before:
            del self._retiring[before.port]


def _open_to(row: Row, scope: Scope) -> bool:
    """Whether a path is one that the row answers. Dots in it could lead past that, and are refused."""
    path: str = scope["path"]
    return not row.paths or (path.startswith(row.paths) and ".." not in path and "//" not in path)


def _upstream(row: Row) -> Upstream:
    return Upstream(row.backend_port, _name(row), OWNER)


def _name(row: Row) -> str:
    return f"{row.server}, which serves on {HOST}:{row.backend_port},"
