"""The network that all our containers share, on a Docker engine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from docker.errors import APIError, NotFound

from tasks.effects.containers.docker_client import APIClient
from tasks.effects.containers.engine import HOST, LABEL, NETWORK, NotOursError

T = TypeVar("T")
MAKING = threading.Lock()
TRIES, WAIT_S = 5, 0.2
APART = {"com.docker.network.bridge.enable_icc": "false"}
CANNOT_PART = ("restrict inter-container communication", "unsupported", "not supported", "invalid")


def ensure_network(client: APIClient, owner: str) -> None:
    """Make the network when it is not there. In Docker's, our containers do not reach each other.

    Raises:
        NotOursError: somebody else's network has the name.
    """
    # Engines make two networks of one name when two ask at once; servers of one run do.
    with MAKING:
        found = _found(client)
        if len(found) == 1:
            return
        if not found:
            _make_apart(client, owner)
        _keep_one(client)


def unambiguous(client: APIClient, owner: str, act: Callable[[], T]) -> T:
    """Do what names the network; again, when another program has just made a second one of that name."""
    for _ in range(TRIES):
        try:
            return act()
        except APIError as error:
            if "ambiguous" not in str(error.explanation):
                raise
            time.sleep(WAIT_S)
            ensure_network(client, owner)
    return act()


def _make_apart(client: APIClient, owner: str) -> None:
    try:
        _make(client, owner, APART)
    except APIError as error:
        # A host without the kernel's br_netfilter cannot keep them apart; nor can podman, in this way.
        if any(one in str(error.explanation) for one in CANNOT_PART):
            _make(client, owner, {})
        elif not _found(client):
            raise


def start(client: APIClient, container_id: str, owner: str) -> None:
    """Start a container, in the network that there is now; one with the host's network needs none.

    Engines take a network away when nothing runs in it and somebody prunes; one that was made again under
    the same name is another to a container that has run before.
    """
    if client.inspect_container(container_id)["HostConfig"].get("NetworkMode") == HOST:
        client.start(container_id)
        return
    ensure_network(client, owner)
    try:
        unambiguous(client, owner, lambda: client.start(container_id))
    except NotFound as error:
        if "network" not in str(error.explanation):
            raise
        client.connect_container_to_network(container_id, NETWORK)
        client.start(container_id)


def _make(client: APIClient, owner: str, options: dict[str, Any]) -> None:
    client.create_network(
        NETWORK, driver="bridge", options=options, check_duplicate=True, labels={f"{LABEL}.owner": owner}
    )


def _found(client: APIClient) -> list[dict[str, Any]]:
    """Return the networks of that name; engines let two of them be made at once."""
    named = [one for one in client.networks(names=[NETWORK]) if one["Name"] == NETWORK]
    if any(f"{LABEL}.owner" not in (one.get("Labels") or {}) for one in named):
        raise NotOursError(f"the engine has a network {NETWORK} that this program did not make")
    return named


def _keep_one(client: APIClient) -> None:
    """Remove all but the oldest: with two of one name, a container's network is ambiguous."""
    for extra in sorted(_found(client), key=lambda one: (str(one.get("Created")), str(one["Id"])))[1:]:
        with contextlib.suppress(APIError):  # the other client was first
            client.remove_network(extra["Id"])
