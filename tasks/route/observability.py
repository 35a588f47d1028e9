"""ClickHouse beside the gateway, for profiles that want every request and answer kept.

    <state>/gateway/clickhouse/
      data/                  what it keeps; stays when the container goes
      users.xml              its one user, with the sha256 of the password
      password               the password, 0600; the gateway gets it in its environment file

TensorZero makes its tables itself when it starts. What it keeps are prompts and answers in plain text.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tasks.contracts import Change, ContainerSpec, ContainerState, Mount
from tasks.effects.containers.engine import Engine, spec_hash
from tasks.effects.containers.info import EngineError
from tasks.effects.files import write_atomic
from tasks.effects.http import OK, Http, HttpError
from tasks.errors import RouteError, StoppedError

NAME = "pmoves-gateway-clickhouse"
SERVER = "gateway-clickhouse"
IMAGE = "clickhouse"
PORT = 8123
INTACT = "the routes in use are unchanged"
USER = "tensorzero"
IMAGE_USER = 101
"""The user of the image. As root its entry point would want capabilities that it does not get here.

Source: docker/server/Dockerfile.ubuntu and entrypoint.sh in github.com/ClickHouse/ClickHouse.
"""
MEMORY_BYTES = 2 << 30
"""Chosen: the maker advises 4 GiB for production and names no least; a house's gateway writes little."""
PIDS = 4096
STOP_S = 60
DEADLINE_S = 120.0
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where ClickHouse is to be. `image` is pinned, `port` on 127.0.0.1; `uid` and `gid` are ours."""

    folder: Path
    image: str
    port: int
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)

    @property
    def user(self) -> tuple[int, int]:
        """Who it runs as: we ourselves, unless that is root."""
        return (self.uid, self.gid) if self.uid else (IMAGE_USER, IMAGE_USER)


def container_spec(place: Place) -> ContainerSpec:
    """Return the container: without capabilities, its root read-only, its password in no variable."""
    uid, gid = place.user
    return ContainerSpec(
        name=NAME,
        server=SERVER,
        image=place.image,
        command=(),
        environment=(("CLICKHOUSE_DO_NOT_CHOWN", "1"), ("CLICKHOUSE_SKIP_USER_SETUP", "1")),
        port=PORT,
        mounts=(
            Mount(str(place.folder / "data"), "/var/lib/clickhouse", read_only=False),
            Mount(str(place.folder / "users.xml"), "/etc/clickhouse-server/users.d/pmoves.xml"),
        ),
        tmpfs=("/tmp", "/var/log/clickhouse-server", "/etc/clickhouse-server/preprocessed_configs"),  # noqa: S108  # in it
        user=f"{uid}:{gid}",
        memory_bytes=MEMORY_BYTES,
        pids=PIDS,
        health=("wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{PORT}/ping"),
        stop_timeout_s=STOP_S,
    )


def users(password: str) -> str:
    """Return the file of users: one, who may do everything, in place of the one without a password."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return (
        "<clickhouse><users>"
        '<default remove="remove"></default>'
        f"<{USER}><profile>default</profile><quota>default</quota><networks><ip>::/0</ip></networks>"
        f"<password_sha256_hex>{digest}</password_sha256_hex><access_management>1</access_management></{USER}>"
        "</users></clickhouse>\n"
    )


def url(password: str, port: int) -> str:
    """Return what the gateway is told. It holds the password."""
    return f"http://{USER}:{password}@127.0.0.1:{port}/tensorzero"


def ensure(
    place: Place, engine: Engine, http: Http, *, stop: threading.Event | None = None
) -> tuple[str, Change]:
    """Bring ClickHouse up, or leave it as it is; return the gateway's address for it, and what was done.

    Args:
        place: Where it is to be.
        engine: What starts it.
        http: What asks whether it answers.
        stop: Set when the run is to end.

    Raises:
        RouteError: it cannot be started, or does not answer in time; its data is as it was.
        StoppedError: the run was asked to stop.
    """
    password = _kept_password(place)
    spec = container_spec(place)
    try:
        found = engine.find(NAME)
        change, state = _converge(spec, place.port, found, engine)
    except EngineError as error:
        what = f"ClickHouse, where the gateway is to keep its records, cannot be started ({error})"
        raise RouteError(what, INTACT, "mend that, or set `observability: none` in the profile") from error
    _wait(lambda: _answers(http, place.port), lambda: _last_words(engine, state), stop)
    return url(password, place.port), change


def end(engine: Engine) -> Change | None:
    """Stop and remove ClickHouse, where it is and nobody wants it any more; its data stays.

    Raises:
        EngineError: the engine does not do it.
    """
    found = engine.find(NAME)
    if found is None or not found.owner:
        return None
    engine.stop(found.id, timeout_s=STOP_S)
    engine.remove(found.id)
    return Change(f"container {NAME}", "remove", "the profile no longer wants it; its data stays")


def _converge(
    spec: ContainerSpec, port: int, found: ContainerState | None, engine: Engine
) -> tuple[Change, ContainerState]:
    resource = f"container {NAME}"
    if found is not None and found.running and found.spec_hash == spec_hash(spec) and found.published == port:
        return Change(resource, "keep", "it runs as wanted"), found
    if found is not None:
        engine.stop(found.id, timeout_s=spec.stop_timeout_s)
        engine.remove(found.id)
    made = engine.create(spec, host_port=port)
    engine.start(made.id)
    if found is None:
        return Change(resource, "create", "the profile wants what the gateway does to be kept"), made
    why = "it did not run" if not found.running else "it is to run otherwise than it did"
    return Change(resource, "replace", f"{why}; its data stays"), made


def _kept_password(place: Place) -> str:
    try:
        return _password(place)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "a file in it is no text"
        what = (
            f"{place.folder}, where ClickHouse is to have its data and its password, cannot be used ({why})"
        )
        then = "let this user write there, or set `observability: none` in the profile"
        raise RouteError(what, INTACT, then) from error


def _password(place: Place) -> str:
    """Return the password, and make it, the file of users and the folder where they are missing."""
    uid, gid = place.user
    data, kept, listed = place.folder / "data", place.folder / "password", place.folder / "users.xml"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not kept.exists():
        write_atomic(kept, secrets.token_urlsafe(32), mode=0o600)
    password = kept.read_text()
    if not listed.exists() or listed.read_text() != users(password):
        write_atomic(listed, users(password), mode=0o600)
    if place.uid == 0:
        for path in (data, listed):
            os.chown(path, uid, gid)
    return password


def _answers(http: Http, port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/ping", timeout_s=2.0).status == OK
    except HttpError:
        return False


def _last_words(engine: Engine, state: ContainerState) -> str:
    try:
        return f"last output: {engine.logs(state.id, lines=3)}"
    except EngineError as error:
        return f"its output cannot be read: {error}"


def _wait(ready: Callable[[], bool], last_words: Callable[[], str], stop: threading.Event | None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        if stop is not None and stop.is_set():
            raise StoppedError("stopped while ClickHouse came up", INTACT, "start the run again")
        if ready():
            return
        if time.monotonic() > deadline:
            what = f"ClickHouse did not answer within {DEADLINE_S:g} s ({last_words()})"
            raise RouteError(what, f"{INTACT}, and so is its data", f"look with `docker logs {NAME}`")
        time.sleep(POLL_S)
