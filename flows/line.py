"""The line from a plan on, for each flow that changes a host: pull, serve, verify, route, and what it did.

plan -> pins -> (pull -> serve -> verify, each model at its own pace) -> route -> what no longer is planned
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from prefect import get_run_logger
from prefect.futures import PrefectFuture, wait

from flows import routing, servers, weights
from flows.chains import Chains
from flows.host_run import HostRun
from flows.hub_secret import secret_values
from flows.progress import ProgressArtifact
from flows.routing_records import end_unwanted
from flows.run_record import Seen
from flows.settings import Settings
from flows.watch import WATCHER, both, to_log
from tasks.contracts import Change, HostFacts, Plan, PulledModel, Route
from tasks.effects.http import Http, Httpx
from tasks.pull.resolve.lock import Pins
from tasks.pull.resolve.resolve import Resolved
from tasks.pull.resolve.verdict import demands, require
from tasks.pull.sources.job import PullContext
from tasks.pull.task import pull, resolve
from tasks.route.revert import revert
from tasks.route.undo import Undo
from tasks.serve.apply import recover, remove_unplanned

PATIENCE_S = 30.0
"""How long a run that was stopped waits for its own threads before it undoes what they did."""

ROLLOUT_S = 150.0
"""The same for a rollout that undoes itself: it may start the gateway of before again (60 s), let the last
requests of the new one end (15 s), and end it (30 s)."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a run is to bring about. With `back`, the very gateway config of that route is served again."""

    facts: HostFacts
    plan: Plan
    fetching: PullContext
    back: Route | None = None


def begin(
    settings: Settings, *, wait_minutes: int, changes_host: bool = True
) -> tuple[HostRun, ProgressArtifact]:
    """Return a run that a person, Prefect's log and an artifact watch."""
    watcher, log = WATCHER.get(), to_log(get_run_logger())
    artifact = ProgressArtifact(settings.host)
    sink = both(both(watcher, log) if watcher else log, artifact)
    return HostRun(settings, sink, wait_s=60 * wait_minutes, changes_host=changes_host), artifact


def resolved(run: HostRun, plan: Plan, pins: Pins, fetching: PullContext) -> tuple[Resolved, ...]:
    """Pin what the plan wants, and hold the whole against the disks, before byte one."""
    with run.timed("plan", "pins"):
        own = any(one.runtime == "ollama" and one.image is not None for one in plan.servers)
        found = resolve(plan.models, pins, weights.places(run.settings, own=own), fetching)
        require(demands(found))
        pins.save()
    return found


def with_pins(plan: Plan, found: tuple[Resolved, ...]) -> Plan:
    """Return the plan with the files of its models, and the bytes that are missing of them."""
    models = tuple(one.planned for one in found)
    return replace(plan, models=models, download_bytes=sum(one.download_bytes for one in models))


def fetch_first(run: HostRun, plan: Plan, fetching: PullContext) -> None:
    """Fetch what is missing before a server is touched, all but what an Ollama of ours has to pull itself.

    Raises:
        PullError: a source that should have had it does not give it.
    """
    missing = [one for one in plan.models if one.download_bytes and one.weights is not None]
    places, server = weights.places(run.settings), weights.server(run.settings)
    begun = [
        pull.submit(one, places, server, fetching, run.timed) for one in missing if one.runtime != "ollama"
    ]
    for future in begun:
        future.result()


def bring_up(run: HostRun, seen: Seen, goal: Goal) -> None:
    """Pull, serve and verify every model, each chain at its own pace; then route to all of them."""
    http = Httpx()
    found = servers.containers(
        run.settings, goal.facts, goal.plan, supervisor=run.supervisor, run=run.run, sink=run.sink
    )
    if found is not None:
        run.ledger, seen.died = found.ledger, found.died
    serving = servers.context(
        run.settings, run.supervisor, http, containers=found, stop=run.stop, sink=run.sink
    )
    recover(serving)
    chains = Chains(run, goal.plan, fetching=goal.fetching, serving=serving)
    with _told(run, seen, chains):
        chosen = chains.gateway(lambda: _chosen(run, goal, http, run.stop))
        chains.start()
        seen.verified = tuple(one for future in chains.promoted for one in future.result())
        order = routing.order(run.settings, goal.plan, seen.verified, goal.back)
        ctx = routing.with_keys(
            chosen.result().ctx, run.settings, goal.plan, goal.back, secrets=secret_values
        )
        # Before the rollout begins: one that goes on while the run is stopped has to be undone as well.
        run.revert = lambda: _reverted(run, goal, ctx.undo)
        seen.route = replace(chains.route(order, ctx).result(), chosen=chosen.result().why)
    seen.changes = (
        *(one.change for one in seen.pulled),
        *dict.fromkeys(one.server.change for one in seen.verified),
        *chosen.result().changes,
        seen.route.change,
        *end_unwanted(run.settings, goal.facts, goal.plan, goal.back),
        *_remove_unplanned(run, goal.plan),
        *remove_unplanned(serving),
    )


def _chosen(run: HostRun, goal: Goal, http: Http, stop: threading.Event) -> routing.Chosen:
    return routing.chosen(run, goal.facts, goal.plan, http, back=goal.back, secrets=secret_values, stop=stop)


def _reverted(run: HostRun, goal: Goal, undo: list[Undo]) -> str:
    """Undo the rollout of a run that failed later; return what serves now, "" where none ended well.

    Nothing stops it any more.
    """
    if not undo:
        return ""
    with contextlib.closing(Httpx()) as http:
        return revert(undo[-1], _chosen(run, goal, http, threading.Event()).ctx)


@contextlib.contextmanager
def _told(run: HostRun, seen: Seen, chains: Chains) -> Iterator[None]:
    """Let what ends the chains be the first cause, after all of them ended; keep what was pulled."""
    try:
        yield
    except BaseException as ended:
        run.stop.set()
        wait(chains.rollout, timeout=ROLLOUT_S)
        wait(chains.futures, timeout=PATIENCE_S)
        if isinstance(ended, Exception) and (cause := chains.failure()) is not None:
            raise cause from ended
        raise
    finally:
        seen.pulled = _results(chains.pulled)


def _results(futures: list[PrefectFuture[PulledModel]]) -> tuple[PulledModel, ...]:
    """Return what was pulled, also when something later failed."""
    return tuple(future.result() for future in futures if future.state.is_completed())


def _remove_unplanned(run: HostRun, plan: Plan) -> tuple[Change, ...]:
    """Stop processes that an earlier plan wanted and this one does not; the gateway left them already."""
    wanted = {f"model-{one.model}" for one in plan.models if one.runtime == "embedded"}
    there = {name for name in run.supervisor.states() if name.startswith(servers.MODEL)}
    # One that was in a container's way was ended already.
    extra = sorted((there | run.servers_before) - wanted)
    for name in extra:
        run.supervisor.stop(name)
    return tuple(Change(f"process {name}", "remove", "the plan no longer has this model") for name in extra)
