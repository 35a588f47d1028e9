"""What a rollback would do, as text. Pure."""

from __future__ import annotations

from flows.picture import clean
from flows.report_plan import format_difference
from flows.rollback_choice import WANTED
from tasks.contracts import PlanChange, Route, RunRecord
from tasks.plan.difference import difference
from tasks.record.history import History

HASH_SHOWN = 8


def format_going_back(looked: RunRecord, runs: History) -> str:
    """Write what a rollback that was only looked at would do, each resource with its reason.

    Args:
        looked: the record of the look: its plan has the bytes that are missing now.
        runs: the runs of the host.
    """
    if looked.plan is None:
        return looked.error
    now = runs.last_good()
    name = looked.profile_wanted.removeprefix(WANTED)
    target = next((one.route for one in runs.records if one.run == name), None)
    changes = (*difference(looked.plan, now), *_gateway(target, now.route if now else None))
    return f"{clean(looked.plan.profile_why)}\n\n{format_difference(changes)}"


def _gateway(target: Route | None, now: Route | None) -> tuple[PlanChange, ...]:
    """Return what becomes of the gateway's config."""
    if target is None:
        return ()
    then = target.config_hash[:HASH_SHOWN]
    if now is None:
        return (PlanChange("gateway", "create", f"config sha256 {then}"),)
    serves = now.config_hash[:HASH_SHOWN]
    if serves == then:
        return (PlanChange("gateway", "keep", f"config sha256 {then} is in use"),)
    return (PlanChange("gateway", "replace", f"config sha256 {serves} to {then}"),)
