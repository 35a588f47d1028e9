"""A new container beside the old one where there is room for both, and in its place where there is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.contracts import ContainerSpec, ContainerState, PlannedServer, Unknown
from tasks.effects.containers import EngineError
from tasks.effects.containers.engine import NameTakenError
from tasks.effects.files import write_atomic
from tasks.effects.network import listener
from tasks.errors import PortTakenError, ServeError
from tasks.serve import gpu, room
from tasks.serve.context import Containers, ServeContext
from tasks.serve.ledger import BEFORE, DRAIN_S, NEXT, Entry, alive
from tasks.serve.runtimes import CONTAINERS

OFFSETS = range(10_000, 20_000, 100)
"""A container's own port lies this far from its server's stable one: two are needed in turns. Those of usual
stable ports lie below the ports that Linux gives to clients (32,768 and up), so that none is taken when the
host comes up."""

LAST_PORT = 65_535
EVERYBODY_ENTERS, EVERYBODY_READS = 0o755, 0o644
INTACT = "what ran before still runs"


def start(
    spec: ContainerSpec,
    actual: ContainerState | None,
    *,
    wanted: Mapping[str, int],
    stays: Callable[[ContainerState], bool],
    ctx: ServeContext,
) -> tuple[Entry, ContainerState, str]:
    """Start a new container of a server; what fails leaves everything as it was.

    Returns:
        What can be undone, the new container, and how it went ("; beside the one that serves").

    Raises:
        EngineError: the engine does not make or start it.
    """
    containers = ctx.containers
    assert containers is not None  # noqa: S101  # who calls has an engine
    ctx.refuse_stop(spec.server)
    _refuse_strangers(spec.name, containers)
    entry = containers.ledger.open(spec.server, actual)
    try:
        how = _make_room(spec, entry, wanted=wanted, stays=stays, ctx=ctx)
        ctx.refuse_stop(spec.server)
        waiting = dataclasses.replace(spec, name=spec.name + NEXT)
        entry.new = containers.engine.create(waiting, host_port=_reserved_port(spec, containers))
        containers.engine.start(entry.new.id)
        state = containers.engine.inspect(entry.new.id) or entry.new
        entry.new = dataclasses.replace(state, published=entry.new.published or state.published)
    except BaseException:
        give_up(entry, ctx)
        raise
    return entry, entry.new, how


def give_up(entry: Entry, ctx: ServeContext) -> None:
    """Undo what was done for a server that failed; what the engine does not do is left to the rollback."""
    containers = ctx.containers
    assert containers is not None  # noqa: S101  # as above
    try:
        containers.ledger.discard(entry)
    except EngineError as error:
        ctx.say(entry.server, f"what was begun could not be undone yet ({error})")
    with containers.lock:
        containers.claimed.pop(entry.server, None)


def _refuse_strangers(name: str, containers: Containers) -> None:
    """Refuse a name that somebody else's container has, before anything is stopped for it."""
    listed = containers.listed()
    for one in (name, name + NEXT, name + BEFORE):
        if one not in listed and (there := containers.engine.find(one)) is not None:
            whose = f"belongs to {there.owner}" if there.owner else "was not made by this program"
            raise NameTakenError(f"the container {one} {whose}")


def _make_room(
    spec: ContainerSpec,
    entry: Entry,
    *,
    wanted: Mapping[str, int],
    stays: Callable[[ContainerState], bool],
    ctx: ServeContext,
) -> str:
    """Stop what must not run beside the new container; say so."""
    containers = ctx.containers
    assert containers is not None  # noqa: S101  # as above
    said = ""
    with containers.making_room:
        listed = [one for one in containers.listed().values() if one.server != spec.server]
        kept = [one.server for one in listed if stays(one)]
        others = list(room.holders(list(wanted), listed, gpu.named(containers.facts), kept=kept))
        while not (verdict := _verdict(wanted, containers)).fits:
            if (spare := _spare(wanted, containers)) is not None:
                ctx.say(spare.server, f"its container of before stops, for {spec.server}: {verdict.why}")
                containers.front.drained(spare.server, DRAIN_S)
                containers.ledger.stop(spare, first=True)
            elif alive(entry.old) and not entry.stopped:
                said = f"; stopped first: {verdict.why}"
                ctx.say(spec.server, f"stops before it is replaced: {verdict.why}")
                containers.ledger.stop(entry, first=True)
            elif others:
                other = others.pop(0)
                ctx.say(other.server, f"stops, for {spec.server}: {verdict.why}")
                containers.ledger.stop(containers.ledger.open(other.server, other), first=True)
            else:
                break
        with containers.lock:
            containers.claimed[spec.server] = dict(wanted)
    beside = alive(entry.old) and not entry.stopped
    return "; started beside it, and put in its place once it answered right" if beside else said


def _spare(wanted: Mapping[str, int], containers: Containers) -> Entry | None:
    """Return a server whose old container only waits for the end of the run, on one of these devices."""
    with containers.lock:
        entries = [
            one
            for one in containers.ledger.entries.values()
            if one.promoted and alive(one.old) and not one.stopped
        ]
    for entry in entries:
        old = () if entry.old is None else (entry.old,)
        if room.holders(list(wanted), old, gpu.named(containers.facts), kept=()):
            return entry
    return None


def _verdict(wanted: Mapping[str, int], containers: Containers) -> room.Verdict:
    devices = containers.devices()
    facts = containers.facts
    if not isinstance(devices, Unknown):
        facts = dataclasses.replace(facts, accelerators=devices)
    claimed: dict[str, int] = {}
    with containers.lock:
        shared = [dict(one) for one in containers.claimed.values()]
    for shares in shared:
        for device, size in shares.items():
            claimed[device] = claimed.get(device, 0) + size
    return room.room(wanted, gpu.named(facts), main_bytes=containers.available_bytes(), claimed=claimed)


def _reserved_port(spec: ContainerSpec, containers: Containers) -> int:
    """Choose a port, and keep it from the servers that are brought up at the same time."""
    with containers.lock:
        port = free_port(spec, containers)
        containers.ports.add(port)
    return port


def free_port(spec: ContainerSpec, containers: Containers) -> int:
    """Return a port of the host for a new container: near its server's stable one, and nobody's.

    Raises:
        PortTakenError: all of them are somebody's.
    """
    stable = containers.servers[spec.server].port
    used = {one.published for one in containers.listed().values()} | containers.ports
    used |= {one.port for one in containers.servers.values()}
    for one in containers.front.backends().values():
        used |= {one.port, one.backend_port}
    for offset in OFFSETS:
        port = stable + offset if stable + offset <= LAST_PORT else stable - offset
        if port > 0 and port not in used and not listener(port):
            return port
    raise PortTakenError(
        f"every port of {len(OFFSETS)} on 127.0.0.1 that {spec.server} could have behind {stable} is taken",
        INTACT,
        "end the programs that listen there (`ss -ltn` shows them) or set PMOVES_MODEL_PORT",
    )


def lay_out(server: PlannedServer, containers: Containers) -> None:
    """Make the folders and small files that a server is shown: engines do not mount what is not there.

    What they are decides whom the container runs as, so they are made before its spec.

    Raises:
        ServeError: one of them cannot be written.
    """
    runtime = next(one for one in CONTAINERS if one.name == server.runtime)
    wanted = runtime.wanted(server, containers.members(server.name), containers.places)
    try:
        if wanted.writes:
            Path(wanted.writes).mkdir(parents=True, exist_ok=True)
        for path, text in wanted.files:
            for folder in reversed(path.relative_to(containers.places.state).parents[:-1]):
                _open_folder(containers.places.state / folder)
            _place(path, text)
    except OSError as error:
        raise ServeError(
            f"{error.filename}, which {server.name} needs, cannot be written ({error.strerror})",
            INTACT,
            "give this user the right to write there, then run `pmoves provision` again",
        ) from error


def _open_folder(folder: Path) -> None:
    """Make a folder that everybody may read, whatever the umask: a container may run as nobody."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 != EVERYBODY_ENTERS:
        folder.chmod(EVERYBODY_ENTERS)


def _place(path: Path, text: str) -> None:
    """Write a file, or a link where the text begins with "-> "; what is right already is left alone."""
    target = text.removeprefix("-> ")
    if target != text:
        if not (path.is_symlink() and str(path.readlink()) == target):
            path.unlink(missing_ok=True)
            path.symlink_to(target)
        return
    if path.is_symlink() or not path.exists() or path.read_text() != text:
        write_atomic(path, text, mode=EVERYBODY_READS)
    path.chmod(EVERYBODY_READS)
