"""A Docker engine, over the SDK's low-level client.

docker_client.py   the client, and its exceptions → errors of the seam (faults.py)
docker_pull.py     the stream of a pull
docker_spec.py     ContainerSpec → what the engine is asked for
docker_state.py    what the engine answers → ContainerState
docker_network.py  the network
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tasks.contracts import ContainerSpec, ContainerState
from tasks.effects.containers.docker_pull import follow, local_tag, wake
from tasks.effects.containers.docker_spec import container_body, has_init, unfit
from tasks.effects.containers.docker_state import holds, inspected, listed, owner_in, processes
from tasks.effects.containers.engine import (
    LABEL,
    ContainerGoneError,
    EngineGoneError,
    ImageDamagedError,
    ImageMissingError,
    NoGpuError,
    OnBytes,
    not_ours,
    taken_by,
)
from tasks.effects.containers.faults import NotRunningError, RemovingError
from tasks.effects.containers.info import EngineError, EngineInfo, parse_info

if TYPE_CHECKING:
    from docker.api.client import APIClient

    from tasks.effects.containers.docker_client import PullClient

TIMEOUT_S = 60.0
MOST_LOG_BYTES = 256 * 1024
REMOVAL_POLL_S = 0.1
SPARE_S = 5.0


class Docker:
    """A Docker engine at an address ("unix:///var/run/docker.sock", "tcp://…").

    Nothing is asked before the first method is called. Its methods may be called from several threads.

    Args:
        address: Where the engine answers.
        owner: Whose containers these are (`owner_of`).
        timeout_s: How long one answer may take.
    """

    def __init__(self, address: str, owner: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._address = address
        self._owner = owner
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._client: APIClient | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return self._address

    def info(self) -> EngineInfo:
        """Return what it says of itself."""
        with self._asking() as client:
            return parse_info(client.version(), client.info())

    def digest_of(self, reference: str) -> str:
        """Return the digest that a registry has for "repository:tag" now; nothing is pulled.

        Raises:
            ImageMissingError: the registry does not have it.
            EngineGoneError: engine or registry do not answer.
        """
        with self._asking() as client:
            said: dict[str, Any] = client.inspect_distribution(reference)  # type: ignore[no-untyped-call]
        digest = str((said.get("Descriptor") or {}).get("digest"))
        if not digest.startswith("sha256:"):
            raise EngineError(f"the registry names {reference} by {digest[:80]!r}, which is no sha256 digest")
        return digest

    def has_image(self, image: str) -> bool:
        """Tell whether the pinned image is here."""
        try:
            with self._asking() as client:
                return holds(client.inspect_image(image), image)  # type: ignore[no-untyped-call]
        except ImageMissingError:
            return False

    def pull(
        self, image: str, *, on_bytes: OnBytes, stop: threading.Event | None = None, quiet_s: float = 120.0
    ) -> None:
        """Pull the pinned image and tag it locally; see `Engine`."""
        opened: list[PullClient] = []
        progress = follow(
            lambda: self._stream(image, opened, quiet_s),
            lambda: _leave(opened),
            on_bytes=on_bytes,
            stop=stop,
            quiet_s=quiet_s,
        )
        wanted = image.partition("@")[2]
        if progress.digest not in ("", wanted):
            raise ImageDamagedError(f"the engine pulled {progress.digest} where {wanted} was asked for")
        if not self.has_image(image):
            # Podman names no digest in the end; of Docker this means that its stream was cut.
            raise EngineGoneError("the engine ended the pull before the image was there")
        repository, tag = local_tag(image)
        with self._asking() as client:
            client.tag(image, repository, tag)

    def containers(self) -> tuple[ContainerState, ...]:
        """Return this owner's containers, in any state."""
        with self._asking() as client:
            found = client.containers(all=True, filters={"label": [f"{LABEL}.owner={self._owner}"]})
            return tuple(listed(one) for one in found)

    def find(self, name: str) -> ContainerState | None:
        """Return the container of that name; another whose id begins so does not count."""
        found = self.inspect(name)
        return found if found is not None and found.name == name else None

    def inspect(self, container_id: str) -> ContainerState | None:
        """Return all that is known of one container; None when it is gone."""
        answer = self._inspect(container_id)
        return None if answer is None else inspected(answer)

    def create(self, spec: ContainerSpec, *, host_port: int) -> ContainerState:
        """Make a container; see `Engine`."""
        with self._asking() as client:
            answer = client.info()
            info = parse_info(client.version(), answer)
        reason = unfit(spec.gpu, info)
        if reason:
            raise NoGpuError(reason)
        self._refuse_taken(spec.name)
        body = container_body(spec, owner=self._owner, host_port=host_port, init=has_init(answer, info))
        try:
            with self._asking() as client:
                from tasks.effects.containers.docker_network import (  # noqa: PLC0415  # the same
                    ensure_network,
                    unambiguous,
                )

                if not spec.host_network:
                    ensure_network(client, self._owner)
                made: dict[str, Any] = unambiguous(
                    client,
                    self._owner,
                    lambda: client.create_container_from_config(body, spec.name),  # type: ignore[no-untyped-call]
                )
                return inspected(client.inspect_container(str(made["Id"])))
        except EngineGoneError:
            self._remove_half_made(spec.name)
            raise

    def start(self, container_id: str) -> None:
        """Start it; see `Engine`."""
        with self._changing(container_id) as (client, ours):
            from tasks.effects.containers.docker_network import start  # noqa: PLC0415  # loads the SDK

            start(client, ours, self._owner)

    def stop(self, container_id: str, *, timeout_s: int) -> None:
        """Stop it; it is killed after `timeout_s`."""
        with self._changing(container_id) as (client, ours):
            client.stop(ours, timeout=timeout_s)

    def remove(self, container_id: str) -> None:
        """Remove it with the volumes that its image made for it. Nothing happens when it is gone."""
        try:
            with self._changing(container_id) as (client, ours):
                client.remove_container(ours, v=True, force=True)
        except ContainerGoneError:
            return
        except RemovingError:
            self._await_removal(container_id)

    def rename(self, container_id: str, name: str) -> None:
        """Give it another name."""
        with self._changing(container_id) as (client, ours):
            self._refuse_taken(name)
            client.rename(ours, name)

    def logs(self, container_id: str, *, lines: int = 200) -> str:
        """Return the last lines that it printed."""
        try:
            with self._asking() as client:
                told = client.logs(container_id, stdout=True, stderr=True, tail=max(lines, 1), follow=False)
        except ContainerGoneError:
            return ""
        return (
            bytes(told)[-MOST_LOG_BYTES:].decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        )

    def pids(self, container_id: str) -> tuple[int, ...]:
        """Return its processes as the host numbers them; empty when it does not run."""
        seen = self.inspect(container_id)
        if seen is None or not seen.running:
            return ()
        try:
            with self._asking() as client:
                found = processes(client.top(container_id))
                # Podman numbers them as the container does, until it is asked for the host's.
                return found or processes(client.top(container_id, ps_args="hpid"))
        except (ContainerGoneError, NotRunningError):
            return ()

    def close(self) -> None:
        """Close all connections; the next method that is called opens one again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[APIClient]:
        """Hand out the client, and turn what goes wrong into errors of the seam."""
        from tasks.effects.containers.docker_client import classified, connect  # noqa: PLC0415  # loads the SDK

        try:
            with classified():
                with self._lock:
                    if self._client is None:
                        self._client = connect(self._address, timeout_s=self._timeout_s)
                    client = self._client
                yield client
        except EngineGoneError:
            # The engine that comes back may be another release: agree on a version again.
            self.close()
            raise

    @contextlib.contextmanager
    def _changing(self, container_id: str) -> Iterator[tuple[APIClient, str]]:
        """Hand out the client and the full id of a container that is ours."""
        answer = self._inspect(container_id)
        if answer is None:
            raise ContainerGoneError(f"there is no container {container_id[:64]}")
        if owner_in(answer) != self._owner:
            raise not_ours(inspected(answer).name, self._owner)
        with self._asking() as client:
            yield client, str(answer["Id"])

    def _inspect(self, container_id: str) -> dict[str, Any] | None:
        try:
            with self._asking() as client:
                return dict(client.inspect_container(container_id))
        except ContainerGoneError:
            return None

    def _refuse_taken(self, name: str) -> None:
        other = self.find(name)
        if other is not None:
            raise taken_by(name, other, self._owner)

    def _remove_half_made(self, name: str) -> None:
        """Remove what a request made whose answer did not come; nobody had the name before it."""
        with contextlib.suppress(EngineError):
            made = self.find(name)
            if made is not None and made.owner == self._owner and made.state == "created":
                self.remove(made.id)

    def _await_removal(self, container_id: str) -> None:
        ends = time.monotonic() + self._timeout_s
        while self.inspect(container_id) is not None:
            if time.monotonic() > ends:
                raise EngineError("the container is being removed, and is still there")
            time.sleep(REMOVAL_POLL_S)

    def _stream(self, image: str, opened: list[PullClient], quiet_s: float) -> Iterable[bytes]:
        """Begin a pull on a connection of its own; `opened` tells which, so that it can be ended."""
        from tasks.effects.containers.docker_client import PullClient, classified  # noqa: PLC0415  # loads the SDK

        repository, _, digest = image.partition("@")
        with classified():
            client = PullClient(base_url=self._address, version="auto", timeout=self._timeout_s)  # type: ignore[arg-type]
            client.silent_s = quiet_s + SPARE_S  # the clock of `follow` comes first
            opened.append(client)
            client.pull(repository, tag=digest, stream=True)
            if client.response is not None:
                yield from client.response.iter_content(chunk_size=None)


def _leave(opened: list[PullClient]) -> None:
    """End a pull: wake who reads it, and let the connections go."""
    for client in opened:
        if client.response is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                wake(client.response.raw.fileno())
        client.close()
