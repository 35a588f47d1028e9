"""The flow `provision`: one host, from what it is to a verified and routed local AI stack.

    detect -> plan -> pull -> serve -> verify -> route -> record

The line is not a row of barriers: each model is served as soon as its own weights are there and
verified as soon as its server answers; only the gateway waits for all.
"""

from __future__ import annotations

import contextlib

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows import routing, weights
from flows import settings as settings_module
from flows.host_run import HostRun
from flows.hub_secret import with_secrets
from flows.line import Goal, begin, bring_up, resolved, with_pins
from flows.planning import past, planned, where
from flows.ports import refuse_foreign_ports
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
from flows.run_record import Seen, end, keep, refuse_other_host
from flows.wants import Wants
from tasks.contracts import RunRecord
from tasks.detect.task import detect
from tasks.errors import ProvisionError
from tasks.plan.request import AUTO


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
    settings = with_secrets(settings_module.load())
    run, artifact = begin(settings, wait_minutes=wait_minutes, changes_host=not dry_run)
    seen = Seen()
    wants = Wants(
        profile, strict, accept_risk, tuple(overrides or ()), vram, ram, limit_rate, weights_from, verify
    )
    try:
        with run:
            refuse_other_host(host, settings)
            _line(run, seen, wants, artifact, dry_run=dry_run)
    except ProvisionError as error:
        keep(run, seen, error, profile)
        # A returned state shows the sentence alone, where a raised error shows two tracebacks.
        return Failed(message=str(error), data=error)
    except BaseException as error:
        keep(run, seen, error, profile)
        raise
    return end(run, seen, profile, dry_run=dry_run)


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
    routing.refuse_early(run.settings, facts, plan, run.supervisor)
    fetching = weights.context(
        run.settings,
        wants,
        weights.downloads_of(run.settings, plan.profile),
        hub=facts.hub,
        sink=run.sink,
        stop=run.stop,
    )
    seen.plan = plan = with_pins(plan, resolved(run, plan, weights.pins(run.settings, wants), fetching))
    with artifact if plan.download_bytes else contextlib.nullcontext():
        bring_up(run, seen, Goal(facts, plan, fetching))
