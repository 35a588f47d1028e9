"""The flow `rollback`: one host, back to the models and the very gateway config of an earlier good run.

    history -choose-> record -what is still here?-> weights -> serve -> verify -> route (its config) -> record

The same line as `provision` from the plan on, and undone in the same way when it fails.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows import routing, weights
from flows import settings as settings_module
from flows.host_run import HostRun
from flows.hub_secret import secret_values, with_secrets
from flows.line import Goal, begin, bring_up, fetch_first, resolved, with_pins
from flows.planning import shelf, where
from flows.ports import refuse_foreign_ports
from flows.progress import ProgressArtifact
from flows.rollback_choice import WANTED, Target, choose, refuse_gone, refuse_leaving, refuse_lost
from flows.routing_keys import refuse_keyless
from flows.run_form import BackTo, RollbackDryRun, RollbackHost, RollbackWait
from flows.run_record import Seen, end, keep, refuse_other_host
from flows.settings import Settings
from flows.wants import Wants
from tasks.contracts import HostFacts, Plan, RunRecord
from tasks.detect.task import detect
from tasks.errors import ProvisionError
from tasks.pull.resolve.lock import Pins
from tasks.pull.sources.job import PullContext
from tasks.record import history


def run_name() -> str:
    """Name a run after the host that it runs on and the run that it goes back to."""
    to = flow_run.parameters.get("to") or "before"
    return f"{settings_module.load().host}-rollback-{to}"


@flow(
    name="rollback",
    flow_run_name=run_name,
    description="Take one host back to the models and routes of an earlier run.",
)
def rollback(
    host: RollbackHost = "",
    to: BackTo = "",
    dry_run: RollbackDryRun = False,  # noqa: FBT002  # a run form's parameter
    wait_minutes: RollbackWait = 60,
) -> RunRecord | State[RunRecord]:
    """Go back to an earlier good run of this host.

    Its models are served and verified again, then the gateway gets its whole config as it was, in the same
    way as at any rollout: the routes in use answer throughout, and stay where anything fails.

    Args:
        host: The host this run is for; it refuses to run elsewhere. Empty means wherever it runs.
        to: The run to go back to, or the beginning of its name. Empty takes the newest good run that served
            something else than the last good one.
        dry_run: Look whether what the run needs is still here, and change nothing.
        wait_minutes: How many minutes to wait for another run on this host; 0 refuses at once.
    """
    settings = with_secrets(settings_module.load())
    run, artifact = begin(settings, wait_minutes=wait_minutes, changes_host=not dry_run)
    seen, wanted = Seen(), f"{WANTED}{to or 'the run before'}"
    try:
        with run:
            refuse_other_host(host, settings)
            target = _target(settings, to)
            wanted = target.wanted
            _line(run, seen, target, artifact, dry_run=dry_run)
    except ProvisionError as error:
        keep(run, seen, error, wanted)
        # A returned state shows the sentence alone, where a raised error shows two tracebacks.
        return Failed(message=str(error), data=error)
    except BaseException as error:
        keep(run, seen, error, wanted)
        raise
    return end(run, seen, wanted, dry_run=dry_run)


def _target(settings: Settings, to: str) -> Target:
    return choose(history.read(history.journal(settings.state, settings.host)), to, settings.host)


def _line(run: HostRun, seen: Seen, target: Target, artifact: ProgressArtifact, *, dry_run: bool) -> None:
    """Look at what the earlier run needs, all of it before anything is changed; then do as it did."""
    run.say("plan", "rollback", f"to run {target.record.run} of {target.record.started_at}")
    with run.timed("detect", run.settings.host):
        seen.facts = facts = detect(where(run.settings))
    refuse_gone(target, facts)
    refuse_foreign_ports(target.plan, run.settings, run.supervisor)
    routing.refuse_early(run.settings, facts, target.plan, run.supervisor, target.route)
    refuse_leaving(target, shelf(run.settings), run.settings.gateway.may_leave)
    refuse_keyless(run.settings, target.plan, target.route, secrets=secret_values)
    fetching = _fetching(run, facts, target.plan)
    found = resolved(run, target.plan, _pins(run.settings), fetching)
    elsewhere = bool(fetching.mirrors or fetching.folders)
    refuse_lost(target, (one.planned for one in found if one.missing_bytes), facts, elsewhere=elsewhere)
    seen.plan = plan = _planned(with_pins(target.plan, found), target)
    if dry_run:
        return
    with artifact if plan.download_bytes else contextlib.nullcontext():
        fetch_first(run, plan, fetching)
        bring_up(run, seen, Goal(facts, plan, fetching, back=target.route))


def _pins(settings: Settings) -> Pins:
    """Return no pins: a record has its own, and what `pmoves lock --update` moved since it did not serve."""
    nowhere = settings.state / "rollback.no-lock.json"
    return Pins(nowhere, nowhere)


def _fetching(run: HostRun, facts: HostFacts, plan: Plan) -> PullContext:
    downloads = weights.downloads_of(run.settings, plan.profile)
    return weights.context(run.settings, Wants(), downloads, hub=facts.hub, sink=run.sink, stop=run.stop)


def _planned(plan: Plan, target: Target) -> Plan:
    """Return the plan of that time, which says where it comes from; what was to be said then is past."""
    why = f"run {target.record.run} of {target.record.started_at} had it"
    return replace(
        plan, profile_why=why, advice=(), warnings=(), routes=target.route.functions or plan.routes
    )
