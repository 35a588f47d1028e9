"""What the stages of a run returned so far, and the record that is made of it, also when it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefect.runtime import flow_run

from flows.evidence import markdown_run
from flows.host_run import HostRun, changed
from flows.settings import Settings
from tasks.contracts import Change, HostFacts, Plan, PulledModel, Route, RunRecord, ServerLog, VerifiedServer
from tasks.errors import WrongHostError
from tasks.record import history
from tasks.record.task import record as publish


@dataclass
class Seen:
    """What the stages returned so far, for the record of a run that may yet fail."""

    facts: HostFacts | None = None
    plan: Plan | None = None
    pulled: tuple[PulledModel, ...] = ()
    verified: tuple[VerifiedServer, ...] = ()
    route: Route | None = None
    changes: tuple[Change, ...] = ()
    died: Sequence[ServerLog] = ()


def record_of(
    run: HostRun, seen: Seen, error: BaseException | None, wanted: str, *, dry_run: bool = False
) -> RunRecord:
    """Return the record of a run as far as it came; `error` is what ended it."""
    made = run.record(error=error, flow_run=str(flow_run.get_id() or ""), wanted=wanted)
    calm = error is None and not changed(seen.changes)
    return replace(
        made,
        outcome="dry run" if dry_run and error is None else "nothing to do" if calm else made.outcome,
        facts=seen.facts,
        plan=seen.plan,
        changes=seen.changes,
        pulled=seen.pulled,
        verified=seen.verified,
        route=seen.route,
        logs=tuple(seen.died),
    )


def journal_of(settings: Settings, *, dry_run: bool) -> str:
    """Return where the run is written down; a dry run leaves no line."""
    return "" if dry_run else str(history.journal(settings.state, settings.host))


def keep(run: HostRun, seen: Seen, error: BaseException, wanted: str) -> None:
    """Write down a run that failed; the failure itself must not be hidden by this."""
    made = record_of(run, seen, error, wanted)
    with contextlib.suppress(OSError):
        history.append(history.journal(run.settings.state, run.settings.host), made)
    if isinstance(error, Exception):
        with contextlib.suppress(Exception):
            publish(made, "", markdown_run(made))


def end(run: HostRun, seen: Seen, wanted: str, *, dry_run: bool = False) -> RunRecord:
    """Write down a run that ended well, and return its record."""
    made = record_of(run, seen, None, wanted, dry_run=dry_run)
    return publish(made, journal_of(run.settings, dry_run=dry_run), markdown_run(made))


def refuse_other_host(host: str, settings: Settings) -> None:
    """Refuse to run anywhere but on the host that a run is for.

    Raises:
        WrongHostError: this is another one.
    """
    if host and host != settings.host:
        raise WrongHostError(
            f"this run is for host {host} and was started on {settings.host}",
            "nothing was changed",
            f"start it on the queue {host}, or leave the host empty",
        )
