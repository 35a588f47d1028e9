"""PulledModel -> ModelServer: start what is missing, keep what runs as wanted, wait until it answers.

prepare   bring up a server through which weights come, before they do (Ollama)
serve     bring up the server of a model whose weights are here, and load it
promote   once its answers are right: let the front point to it, stop the one of before
remove    stop what an earlier plan wanted and this one does not
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

from tasks.contracts import Change, ContainerState, ModelServer, PlannedModel, PulledModel, VerifiedServer
from tasks.effects.containers import EngineError
from tasks.serve.context import Containers, Running, ServeContext
from tasks.serve.hosts import container, host_of
from tasks.serve.hosts.telling import engine_failed
from tasks.serve.ledger import BEFORE, NEXT, container_name
from tasks.serve.sweep import sweep

__all__ = [
    "ServeContext",
    "fetch_image",
    "prepare",
    "promote",
    "pulls_itself",
    "recover",
    "remove_unplanned",
    "serve",
]


def pulls_itself(planned: PlannedModel) -> bool:
    """Tell whether a model's server must run before its weights can come."""
    return not planned.external and container.takes(planned) and container.speaks(planned).pulls_itself


def fetch_image(server: str, ctx: ServeContext) -> str:
    """Pull the image of a server that will need it, while its weights still come; return its pinned name.

    Raises:
        ServeError: it cannot be had.
        StoppedError: the run was asked to stop.
    """
    return "" if ctx.containers is None else container.fetch_image(server, ctx.containers, ctx)


def prepare(planned: PlannedModel, ctx: ServeContext) -> str:
    """Bring up a server through which weights come; return its address.

    Raises:
        ServeError, StoppedError: see `serve`.
    """
    return container.ensure(planned, ctx).root_url


def serve(pulled: PulledModel, ctx: ServeContext) -> ModelServer:
    """Bring up the server of one model, or keep it, wait until its health path answers 200, and load it.

    Raises:
        PortTakenError: somebody else listens on the planned port.
        ServeError: it does not start, does not stay up or does not answer in time.
        StoppedError: the run was asked to stop.
    """
    begun = time.monotonic()
    planned = pulled.planned
    host = host_of(planned)
    speaks = host.speaks(planned)
    running = host.bring_up(pulled, ctx)
    # A server that was kept had loaded its model before this run.
    came_up_s = time.monotonic() - begun if running.change.kind != "keep" else 0.0
    load_s = came_up_s + host.load(running, pulled, ctx)
    return ModelServer(
        planned=planned,
        name=running.name,
        base_url=f"{running.root_url}/v1",
        process=running.process,
        change=running.change,
        seconds=time.monotonic() - begun,
        model_id=speaks.asked_as(pulled),
        container=running.container.name if running.container else "",
        image=running.image,
        rerank_api=speaks.rerank_api,
        load_s=load_s,
    )


def promote(verified: tuple[VerifiedServer, ...], ctx: ServeContext) -> tuple[VerifiedServer, ...]:
    """Put a verified server in the place of the one before it; all its models at once.

    Returns:
        The same servers at their stable address.

    Raises:
        ServeError, PortTakenError: the front or the engine does not do it.
    """
    return tuple(_promoted(one, ctx) for one in verified)


def _promoted(one: VerifiedServer, ctx: ServeContext) -> VerifiedServer:
    server, containers = one.server, ctx.containers
    if containers is None or not server.container:
        return one
    planned = containers.servers[server.name]
    running = containers.running[server.name]
    try:
        with containers.lock_of(server.name):
            _settle(running, planned.port, containers, ctx)
    except EngineError as error:
        raise engine_failed(server.name, error, "cannot be put in the place of the one before it") from error
    name = container_name(server.name)
    stable = dataclasses.replace(server, base_url=f"http://127.0.0.1:{planned.port}/v1", container=name)
    return dataclasses.replace(one, server=stable)


def _settle(running: Running, port: int, containers: Containers, ctx: ServeContext) -> None:
    entry = containers.ledger.entries.get(running.name)
    if entry is None or entry.new is None or entry.promoted:
        return
    ctx.end_process(port)
    containers.ledger.promote(entry, port)


def remove_unplanned(ctx: ServeContext) -> tuple[Change, ...]:
    """Stop servers that an earlier plan wanted and this one does not; they go when the run has ended well.

    Raises:
        ServeError: the engine does not do it.
    """
    containers = ctx.containers
    if containers is None:
        return ()
    made: list[Change] = []
    for name, state in sorted(_listed(containers).items()):
        if state.server in containers.servers or name != container_name(state.server):
            continue
        try:
            containers.ledger.retire(state.server, state)
        except EngineError as error:
            raise engine_failed(state.server, error, "cannot be stopped") from error
        made.append(Change(f"container {name}", "remove", "the plan no longer has this server"))
    for server in sorted(set(containers.front.backends()) - set(containers.servers)):
        containers.front.drop(server)
        made.append(Change(f"port of {server}", "remove", "the plan no longer has this server"))
    return tuple(made)


def _listed(containers: Containers) -> Mapping[str, ContainerState]:
    try:
        return containers.listed()
    except EngineError as error:
        raise engine_failed("the list of containers", error, "cannot be had") from error


def recover(ctx: ServeContext) -> None:
    """Remove what a run that was killed left behind.

    Raises:
        ServeError: the engine does not do it.
    """
    containers = ctx.containers
    if containers is None:
        return
    found = _listed(containers).values()
    over = [
        one for one in found if one.name in {f"{container_name(one.server)}{end}" for end in (NEXT, BEFORE)}
    ]
    if not over:
        return
    try:
        left = sweep(containers.engine, found, mend=containers.ledger.mend)
    except EngineError as error:
        raise engine_failed("what an earlier run left behind", error, "cannot be removed") from error
    finally:
        containers.forget()
    for name in left:
        ctx.say(name, "removed: a run that was killed had left it behind")
