"""The front in memory, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.effects.front.control import INTACT, Backend, Backends, refuse_wrong, table_text
from tasks.errors import PortTakenError


@dataclass(slots=True)
class MemoryFront:
    """A front that only notes what it is told.

    `taken` are ports of strangers, `busy` servers with a request that never ends.
    """

    table: dict[str, Backend] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    did: list[str] = field(default_factory=list)

    def backends(self) -> Backends:
        """Return what was pointed where."""
        return dict(self.table)

    def point(self, server: str, port: int, backend_port: int) -> None:
        """Note where a server is."""
        if port in self.taken:
            raise PortTakenError(f"port {port} is taken", INTACT, "free it")
        refuse_wrong(table_text({**self.table, server: Backend(port, backend_port)}))
        self.did.append(f"point {server} {port} -> {backend_port}")
        self.table[server] = Backend(port, backend_port)

    def drop(self, server: str) -> None:
        """Forget a server."""
        if self.table.pop(server, None):
            self.did.append(f"drop {server}")

    def drained(self, server: str, timeout_s: float) -> bool:  # noqa: ARG002  # no time passes in memory
        """Whether the server is not busy."""
        self.did.append(f"drained {server}")
        return server not in self.busy

    def snapshot(self) -> Backends:
        """Return what was pointed where."""
        return dict(self.table)

    def restore(self, snapshot: Backends) -> None:
        """Go back to that."""
        self.did.append("restore")
        self.table = dict(snapshot)
