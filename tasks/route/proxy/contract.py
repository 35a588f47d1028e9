"""What a rollout may ask of the proxy. One file for each kind, and one in memory for tests.

client -> <bind>:<port> (stays) -> 127.0.0.1:<port of a gateway>   the active one gets new requests
`-> 127.0.0.1:<port of a gateway>   the one before, until its last request ends
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

PROGRAM = "gateway-proxy"
"""What the supervisor, or the engine, calls the proxy."""

PATHS = ("/openai/v1/", "/inference", "/feedback", "/status", "/health", "/metrics")
"""What clients may ask for. TensorZero has more (/internal, /mcp, datasets), which is for nobody outside."""


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway behind the proxy: its generation, and its port on 127.0.0.1."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Count:
    """How many requests ended in one way.

    `hour` is UTC ("2026-11-25T17"), `target` the generation that answered. `function` is that of the gateway,
    or the name of the model where a model was asked by name; `variant` names the tier that answered and is
    empty where none did, or where no function was asked.
    """

    hour: str
    target: str
    function: str
    variant: str
    status: int
    requests: int


@dataclass(frozen=True, slots=True)
class Door:
    """How clients come in.

    With `token_sha256` they must send that bearer token. `certificate` is a PEM file with certificate and
    key, and makes it TLS.
    """

    port: int
    bind: str = "127.0.0.1"
    token_sha256: str = field(default="", repr=False)
    certificate: Path | None = None


class Proxy(Protocol):
    """What owns the public port."""

    @property
    def kind(self) -> str:
        """The name of its kind: "haproxy", "front"."""

    def active(self) -> Target | None:
        """Return where new requests go, as the proxy's own files say; None where it was never pointed."""

    def runs(self) -> bool:
        """Whether it is there and takes requests."""

    def point(self, target: Target) -> None:
        """Send new requests to `target`, and start the proxy where it does not run; return once that is so.

        What is in flight ends where it began. What cannot be done leaves everything as it was.

        Raises:
            PortTakenError: somebody else has the public port.
            RouteError: it does not start or does not follow.
        """

    def drained(self, target: Target, timeout_s: float) -> bool:
        """Wait until no request is in flight at `target`, which is not active; whether that came true."""

    def counts(self) -> tuple[Count, ...]:
        """Return what was counted since the proxy started, 25 hours at most; nothing where it is away."""

    def stop(self) -> None:
        """Give up the port. Nothing happens when it does not run."""


def failed(counts: Iterable[Count], target: str) -> tuple[int, int]:
    """Return how many requests `target` answered, and how many of them with 500 or more."""
    mine = [one for one in counts if one.target == target]
    return sum(one.requests for one in mine), sum(one.requests for one in mine if one.status >= SERVER_ERROR)


SERVER_ERROR = 500


@dataclass(slots=True)
class MemoryProxy:
    """The one for tests. `did` lists what it was told; `busy` names targets whose requests never end."""

    kind: str = "memory"
    target: Target | None = None
    up: bool = False
    counted: list[Count] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    did: list[str] = field(default_factory=list)

    def active(self) -> Target | None:
        """Return where it was pointed last."""
        return self.target

    def runs(self) -> bool:
        """Whether it was pointed and not stopped."""
        return self.up

    def point(self, target: Target) -> None:
        """Note the target."""
        self.did.append(f"point {target.name}")
        self.target, self.up = target, True

    def drained(self, target: Target, timeout_s: float) -> bool:  # noqa: ARG002  # no time passes in memory
        """Whether the target is not busy."""
        self.did.append(f"drained {target.name}")
        return target.name not in self.busy

    def counts(self) -> tuple[Count, ...]:
        """Return what a test put there."""
        return tuple(self.counted)

    def stop(self) -> None:
        """Note it."""
        self.did.append("stop")
        self.up = False
