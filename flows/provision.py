"""The flow `provision`: one host, from what it is to a verified and routed local AI stack.

    detect -> plan -> pull -> serve -> verify -> route -> record

The line is not a row of barriers: each model is served as soon as its own weights are there and
verified as soon as its server answers; only the gateway waits for all.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.states import Failed

from flows import servers, weights
from flows import settings as settings_module
from flows.chains import Chains
from flows.evidence import markdown_run
from flows.host_run import HostRun, refuse_foreign_ports
from flows.hub_secret import with_token
from flows.planning import past, planned, where
from flows.progress import ProgressArtifact
from flows.run_form import (
    AcceptRisk,
    DryRun,
    Host,
    LimitRate,
    Overrides,
    Profile,
    Ram,
    Strict,
    Verify,
    Vram,
    WaitMinutes,
    WeightsFrom,
)
from flows.run_record import Seen, journal_of, record_of
from flows.settings import Settings
from flows.wants import Wants
from flows.watch import WATCHER, both, to_log
from tasks.contracts import (
    Change,
    HostFacts,
    Plan,
    PulledModel,
    RunRecord,
)
from tasks.detect.task import detect
from tasks.effects.http import Http, Httpx
from tasks.errors import ProvisionError, WrongHostError
from tasks.plan.request import AUTO
from tasks.pull.resolve.verdict import demands, require
from tasks.pull.sources.job import PullContext
from tasks.pull.task import resolve
from tasks.record import history
from tasks.record.task import record as publish
from tasks.route.process import RouteContext
from tasks.serve.apply import recover, remove_unplanned

PATIENCE_S = 30.0
"""How long a run that was stopped waits for its own threads before it undoes what they did."""


def run_name() -> str:
    """Name a run after the host that it runs on and the profile that was asked for."""
    return f"{settings_module.load().host}-{flow_run.parameters.get('profile', AUTO)}"


@flow(
    name="provision",
    flow_run_name=run_name,
    description="Take one host to a verified, routed local AI stack.",
)
def provision(  # noqa: PLR0913, PLR0917  # a run form's parameters
    profile: Profile = AUTO,
    host: Host = "",
    dry_run: DryRun = False,  # noqa: FBT002  # a run form's parameter
    strict: Strict = False,  # noqa: FBT002  # the same
    accept_risk: AcceptRisk = False,  # noqa: FBT002  # the same
    overrides: Overrides | None = None,
    vram: Vram = "",
    ram: Ram = "",
    limit_rate: LimitRate = "",
    weights_from: WeightsFrom = "",
    verify: Verify = False,  # noqa: FBT002  # the same
    wait_minutes: WaitMinutes = 60,
) -> RunRecord | State[RunRecord]:
    """Provision one host.

    A second run on a healthy host changes nothing and says so. A run that fails goes back to the
    processes and the routes of before.

    Args:
        profile: Which hardware profile to apply. auto takes the one that fits the host.
        host: The host this run is for; it refuses to run elsewhere. Empty means wherever it runs.
        dry_run: Detect and plan only, and change nothing.
        strict: Refuse instead of changing or dropping a role of the bundle.
        accept_risk: Take a profile whose hardware is not here, and leave no margin of memory.
        overrides: What you decide yourself, one each: llm.context=16384, vision.residency=cpu.
        vram: Use no more of each card, for example 20GiB. Empty means all that is free.
        ram: Use no more of main memory, for example 16GiB. Empty means all that is free.
        limit_rate: Fetch no faster than this, in bytes a second over all downloads: 20MB.
        weights_from: A folder on the host that holds an export; nothing is fetched from a network then.
        verify: Read every byte of the weights again, also of those that were verified before.
        wait_minutes: How many minutes to wait for another run on this host; 0 refuses at once.
    """
    settings = with_token(settings_module.load())
    watcher, log = WATCHER.get(), to_log(get_run_logger())
    artifact = ProgressArtifact(settings.host)
    sink = both(both(watcher, log) if watcher else log, artifact)
    run = HostRun(settings, sink, wait_s=60 * wait_minutes, changes_host=not dry_run)
    seen = Seen()
    wants = Wants(
        profile, strict, accept_risk, tuple(overrides or ()), vram, ram, limit_rate, weights_from, verify
    )
    try:
        with run:
            _refuse_other_host(host, settings)
            _line(run, seen, wants, artifact, dry_run=dry_run)
    except ProvisionError as error:
        _keep(run, seen, error, profile)
        # A returned state shows the sentence alone, where a raised error shows two tracebacks.
        return Failed(message=str(error), data=error)
    except BaseException as error:
        _keep(run, seen, error, profile)
        raise
    made = record_of(run, seen, None, profile, dry_run=dry_run)
    return publish(made, journal_of(settings, dry_run=dry_run), markdown_run(made))


def _line(run: HostRun, seen: Seen, wants: Wants, artifact: ProgressArtifact, *, dry_run: bool) -> None:
    """Run the stages in order; what each returns is kept in `seen`."""
    with run.timed("detect", run.settings.host):
        seen.facts = facts = detect(where(run.settings))
    with run.timed("plan", wants.profile):
        seen.plan = plan = planned(run.settings, facts, wants, records=past(run.settings))
    run.say("plan", plan.profile, plan.profile_why)
    if dry_run:
        return
    refuse_foreign_ports(plan, run.settings, run.supervisor)
    fetching = weights.context(
        run.settings,
        wants,
        weights.downloads_of(run.settings, plan.profile),
        hub=facts.hub,
        sink=run.sink,
        stop=run.stop,
    )
    seen.plan = plan = _resolved(run, plan, wants, fetching)
    with artifact if plan.download_bytes else contextlib.nullcontext():
        _bring_up(run, seen, facts, plan, fetching)


def _resolved(run: HostRun, plan: Plan, wants: Wants, fetching: PullContext) -> Plan:
    """Pin what the plan wants, and hold the whole against the disks, before byte one."""
    with run.timed("plan", "pins"):
        own = any(one.runtime == "ollama" and one.image is not None for one in plan.servers)
        pins, places = weights.pins(run.settings, wants), weights.places(run.settings, own=own)
        found = resolve(plan.models, pins, places, fetching)
        require(demands(found))
        pins.save()
    models = tuple(one.planned for one in found)
    return replace(plan, models=models, download_bytes=sum(one.download_bytes for one in models))


def _bring_up(run: HostRun, seen: Seen, facts: HostFacts, plan: Plan, fetching: PullContext) -> None:
    """Pull, serve and verify every model, each chain at its own pace; then route to all of them."""
    http = Httpx()
    found = servers.containers(
        run.settings, facts, plan, supervisor=run.supervisor, run=run.run, sink=run.sink
    )
    if found is not None:
        run.ledger, seen.died = found.ledger, found.died
    serving = servers.context(
        run.settings, run.supervisor, http, containers=found, stop=run.stop, sink=run.sink
    )
    recover(serving)
    chains = Chains(run, plan, fetching=fetching, serving=serving, routing=_routing(run, http))
    try:
        chains.start()
        seen.verified = tuple(one for future in chains.promoted for one in future.result())
        seen.route = chains.route(seen.verified).result()
    except BaseException as ended:
        run.stop.set()
        wait(chains.futures, timeout=PATIENCE_S)
        if isinstance(ended, Exception) and (cause := chains.failure()) is not None:
            raise cause from ended
        raise
    finally:
        seen.pulled = _results(chains.pulled)
    seen.changes = (
        *(one.change for one in seen.pulled),
        *dict.fromkeys(one.server.change for one in seen.verified),
        seen.route.change,
        *_remove_unplanned(run, plan),
        *remove_unplanned(serving),
    )


def _routing(run: HostRun, http: Http) -> RouteContext:
    return RouteContext(
        supervisor=run.supervisor,
        http=http,
        python=sys.executable,
        folder=run.settings.state / "gateway",
        port=run.settings.gateway_port,
        stop=run.stop,
        sink=run.sink,
    )


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


def _refuse_other_host(host: str, settings: Settings) -> None:
    if host and host != settings.host:
        raise WrongHostError(
            f"this run is for host {host} and was started on {settings.host}",
            "nothing was changed",
            f"start it on the queue {host}, or leave the host empty",
        )


def _keep(run: HostRun, seen: Seen, error: BaseException, wanted: str) -> None:
    """Write down a run that failed; the failure itself must not be hidden by this."""
    made = record_of(run, seen, error, wanted)
    with contextlib.suppress(OSError):
        history.append(history.journal(run.settings.state, run.settings.host), made)
    if isinstance(error, Exception):
        with contextlib.suppress(Exception):
            publish(made, "", markdown_run(made))
