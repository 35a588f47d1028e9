"""What a stage may ask of a container engine. One real implementation, and one in memory for tests.

Everything that this program makes carries labels, and nothing that lacks them is ever changed:

    ai.pmoves.owner         who made it: a host's state folder, as `owner_of` names it
    ai.pmoves.server        the server of the plan that it is
    ai.pmoves.spec-hash     `spec_hash` of the wanted spec, image digest included
    ai.pmoves.spec-version  of the shape of the spec
    ai.pmoves.image         the pinned reference that it was made of
    ai.pmoves.devices       the devices of the plan that it was made for, with blanks between them
    ai.pmoves.port          where it is published on 127.0.0.1; a listing says that of running ones alone

    EngineError             (info.py) it does not work, and trying again does not help
    |- ImageMissingError
    |- ImageDamagedError
    |- NameTakenError
    |- PortBusyError
    |- NoGpuError
    |- NotOursError
    |- ContainerGoneError
    `- EngineGoneError      another try may help
       `- RegistryAwayError
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from tasks.contracts import ContainerSpec, ContainerState
from tasks.effects.containers.info import EngineError, EngineInfo

LABEL = "ai.pmoves"
SPEC_VERSION = 1
LATER: Mapping[str, object] = {"host_network": False, "entrypoint": ()}
"""Fields that the spec did not always have: unset, they leave the digest of older containers as it was, so
that none of these is replaced for a field that says nothing of it."""

NETWORK, HOST = "pmoves", "host"

OnBytes = Callable[[int, int], None]
"""Hears how many bytes of an image are here, and how many there are as far as they are known."""


class ImageMissingError(EngineError):
    """Raised when a registry does not have an image, or an engine does not hold it."""


class ImageDamagedError(EngineError):
    """Raised when an image's bytes are not what its digest says."""


class NameTakenError(EngineError):
    """Raised when another container has the name; the text says whether that one is a stranger's."""


class PortBusyError(EngineError):
    """Raised when the port on 127.0.0.1 is taken."""


class NoGpuError(EngineError):
    """Raised when the engine cannot hand out the devices that were asked for."""


class EngineGoneError(EngineError):
    """Raised when the engine does not answer, or stopped answering; another try may help."""


class RegistryAwayError(EngineGoneError):
    """Raised when the engine answers, and a registry does not; another try may help."""


class ContainerGoneError(EngineError):
    """Raised when a container that would be changed is not there (any more)."""


class NotOursError(EngineError):
    """Raised when a container or a network without this owner's label would be changed."""


class Engine(Protocol):
    """A container engine. Every method raises EngineError, or the subclass that says which kind it is."""

    @property
    def address(self) -> str:
        """Where it answers."""

    def info(self) -> EngineInfo:
        """Return what it says of itself."""

    def digest_of(self, reference: str) -> str:
        """Return the digest ("sha256:…") that a registry has for "repository:tag" now; nothing is pulled."""

    def has_image(self, image: str) -> bool:
        """Tell whether the pinned image "repository@sha256:…" is here."""

    def pull(
        self, image: str, *, on_bytes: OnBytes, stop: threading.Event | None = None, quiet_s: float = 120.0
    ) -> None:
        """Pull the pinned image, and tag it locally, so that a prune does not take it.

        Args:
            image: "repository@sha256:…".
            on_bytes: hears of the progress.
            stop: ends the pull when it is set.
            quiet_s: how long the stream may show no progress.

        Raises:
            ImageMissingError: the registry does not have it, or wants a login.
            ImageDamagedError: its bytes are wrong.
            EngineGoneError: engine or registry do not answer, or nothing moved for `quiet_s`.
            StoppedError: `stop` was set.
        """

    def containers(self) -> tuple[ContainerState, ...]:
        """Return this owner's containers, in any state, as one request to the engine lists them."""

    def find(self, name: str) -> ContainerState | None:
        """Return the container of that name, whoever it belongs to; `owner` is empty for a stranger's."""

    def inspect(self, container_id: str) -> ContainerState | None:
        """Return all that is known of one container; None when it is gone."""

    def create(self, spec: ContainerSpec, *, host_port: int) -> ContainerState:
        """Make a container, published on 127.0.0.1:`host_port`, and do not start it.

        The network is made when it is not there. One with the host's network is not published: `host_port`
        is where it listens itself. A container that could not be made leaves nothing behind.

        Raises:
            ImageMissingError: the image is not here; nothing is pulled.
            NameTakenError, NoGpuError: see there.
        """

    def start(self, container_id: str) -> None:
        """Start it. One that does not start stays, for its log; remove it.

        Raises:
            PortBusyError, NoGpuError: see there; engines tell only now.
        """

    def stop(self, container_id: str, *, timeout_s: int) -> None:
        """Stop it; it is killed when it has not ended after `timeout_s`. It stays stopped."""

    def remove(self, container_id: str) -> None:
        """Remove it, running or not. Nothing happens when it is gone."""

    def rename(self, container_id: str, name: str) -> None:
        """Give it another name."""

    def logs(self, container_id: str, *, lines: int = 200) -> str:
        """Return the last lines that it printed, both streams in order; "" when there are none."""

    def pids(self, container_id: str) -> tuple[int, ...]:
        """Return its processes as the host numbers them; empty when it does not run."""

    def close(self) -> None:
        """Close all connections."""


def owner_of(host: str, state: Path) -> str:
    """Return the owner's name of one state folder on one host."""
    return f"{host}-{hashlib.sha256(str(state).encode()).hexdigest()[:12]}"


def spec_hash(spec: ContainerSpec) -> str:
    """Return a digest of everything that is wanted of a container; equal specs have equal digests.

    Its name is no part of it: while a server is swapped, two containers of one spec may have two names. Nor
    is its limit of main memory: it follows from what is measured, which differs from run to run, and a server
    that does well is not restarted for another limit.
    """
    wanted = {key: value for key, value in asdict(spec).items() if key not in {"name", "memory_bytes"}}
    for key, unset in LATER.items():
        if wanted[key] == unset:
            del wanted[key]
    text = json.dumps({"version": SPEC_VERSION, **wanted}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def taken_by(name: str, other: ContainerState, owner: str) -> NameTakenError:
    """Return the error for a name that another container has."""
    whose = "this host's own" if other.owner == owner else "somebody else's"
    return NameTakenError(f"the name {name} is taken by {whose} container {other.id[:12]}")


def not_ours(name: str, owner: str) -> NotOursError:
    """Return the error for a container that somebody else made."""
    return NotOursError(f"the container {name} was not made by {owner}, so it is left alone")


def labels(spec: ContainerSpec, owner: str) -> dict[str, str]:
    """Return the labels of a container."""
    return {
        f"{LABEL}.owner": owner,
        f"{LABEL}.server": spec.server,
        f"{LABEL}.spec-hash": spec_hash(spec),
        f"{LABEL}.spec-version": str(SPEC_VERSION),
        f"{LABEL}.image": spec.image,
        f"{LABEL}.devices": " ".join(spec.devices),
    }
