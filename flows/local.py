"""Runs that this process starts itself, against a Prefect server that it brings up.

Ctrl-C, at any moment, leaves nothing running that did not run before.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from flows import routing
from flows.control_plane import (
    POOL,
    SERVER,
    WORKER,
    answers,
    ensure_server,
    project_folder,
    worker_spec,
)
from flows.host_run import command_lock, refuse_unwritable
from flows.planning import past, planned, where
from flows.ports import refuse_foreign_ports
from flows.rollback_choice import choose
from flows.servers import gateway_programs
from flows.settings import Settings, apply_to_libraries
from flows.settings_gateway import refuse_unusable
from flows.wants import Wants
from flows.watch import watching
from tasks import catalogue
from tasks.contracts import Event, ProcessState, RunRecord
from tasks.detect.look import look
from tasks.effects.http import Httpx
from tasks.effects.processes import spec_hash
from tasks.effects.supervisord import Supervisord
from tasks.errors import ControlPlaneError
from tasks.record import history

DEPLOY_TIMEOUT_S = 180
AFTER = "start this command again when that one is done"


def run_here(settings: Settings, wants: Wants, *, wait_minutes: int, quiet: bool) -> RunRecord:
    """Run the flow `provision` in this process."""

    def run() -> object:
        from flows.provision import provision  # noqa: PLC0415  # Prefect reads its settings at import

        return provision(
            profile=wants.profile,
            strict=wants.strict,
            accept_risk=wants.accept_risk,
            overrides=list(wants.overrides),
            vram=wants.vram,
            ram=wants.ram,
            limit_rate=wants.limit_rate,
            weights_from=wants.weights_from,
            verify=wants.verify,
            wait_minutes=wait_minutes,
        )

    catalogue.load(settings.profiles)
    waits = _Waits("pmoves provision", 60.0 * wait_minutes, quiet=quiet)
    return _alone(settings, waits, run, early=lambda supervisor: refuse_early(settings, supervisor, wants))


def roll_back_here(
    settings: Settings, to: str, *, dry_run: bool, wait_minutes: int, quiet: bool
) -> RunRecord:
    """Run the flow `rollback` in this process."""

    def run() -> object:
        from flows.rollback import rollback  # noqa: PLC0415  # Prefect reads its settings at import

        return rollback(to=to, dry_run=dry_run, wait_minutes=wait_minutes)

    choose(history.read(history.journal(settings.state, settings.host)), to, settings.host)
    waits = _Waits("pmoves rollback", 60.0 * wait_minutes, quiet=quiet)
    return _alone(settings, waits, run, early=lambda _: refuse_unusable(settings.gateway))


@dataclass(frozen=True, slots=True)
class _Waits:
    """How long a command waits for another run, and whether it is silent."""

    command: str
    wait_s: float
    quiet: bool


def _alone(
    settings: Settings, waits: _Waits, run: Callable[[], object], *, early: Callable[[Supervisord], None]
) -> RunRecord:
    """Hold the host, bring the Prefect server up and run a flow; `early` refuses before the server starts."""
    refuse_unwritable(settings.state)
    apply_to_libraries(settings)
    supervisor = Supervisord(settings.state)
    alone = command_lock(settings.state, waits.command, wait_s=waits.wait_s)
    with alone, watching(quiet=waits.quiet) as sink, _undone_when_interrupted(supervisor):
        supervisor.recover()
        with Httpx() as http:
            if not answers(settings, http):
                early(supervisor)
            ensure_server(settings, supervisor, http=http, sink=sink, stop=threading.Event())
        return _run(run)


def _run(run: Callable[[], object]) -> RunRecord:
    # Prefect reads its settings at import.
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: PLC0415

    # A sync flow waits up to 1 s for its heartbeat thread; whoever types a command sees it end anyway.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        # A flow that ends in a failed state raises its error here.
        return cast("RunRecord", run())


def refuse_early(settings: Settings, supervisor: Supervisord, wants: Wants) -> None:
    """Refuse what the run would refuse, before a server is started for it."""
    refuse_unwritable(settings.store)
    facts = look(where(settings))
    plan = planned(settings, facts, wants, records=past(settings))
    refuse_foreign_ports(plan, settings, supervisor)
    routing.refuse_early(settings, facts, plan, supervisor)


@contextmanager
def _undone_when_interrupted(supervisor: Supervisord) -> Iterator[None]:
    before = supervisor.snapshot()
    try:
        yield
    except KeyboardInterrupt:
        supervisor.restore(before, keep=gateway_programs(before, supervisor.snapshot()))
        raise


def start_worker(settings: Settings, *, quiet: bool) -> tuple[ProcessState, ...]:
    """Register the deployments and keep a worker running on this host."""
    refuse_unwritable(settings.state)
    apply_to_libraries(settings)
    supervisor = Supervisord(settings.state)
    alone = command_lock(settings.state, "pmoves worker", then=AFTER)
    with alone, watching(quiet=quiet) as sink, _undone_when_interrupted(supervisor):
        supervisor.recover()
        with Httpx() as http:
            ensure_server(settings, supervisor, http=http, sink=sink, stop=threading.Event())
        sink(Event("set-up", POOL, "creating the work pool and registering the deployments"))
        create_pool(settings.host)
        _deploy()
        spec = worker_spec(settings)
        known = supervisor.states().get(WORKER)
        if known is None or not known.running or known.spec_hash != spec_hash(spec):
            supervisor.start(spec)
    states = supervisor.states()
    return tuple(states[name] for name in (SERVER, WORKER) if name in states)


def create_pool(host: str) -> None:
    """Create or update the process pool, and the queue of this host.

    The pool's template is locked: it runs our flows and nothing else. A worker that polls a queue
    which is not there gets 404 from the server and says nothing, so the queue is made first.
    """
    # Prefect reads its settings at import.
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.actions import WorkPoolCreate  # noqa: PLC0415
    from prefect.exceptions import ObjectAlreadyExists  # noqa: PLC0415

    template = json.loads((project_folder() / "deployments/worker/pool.json").read_text())
    with get_client(sync_client=True) as client:
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", base_job_template=template), overwrite=True
        )
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_queue(name=host, work_pool_name=POOL)


def _deploy() -> None:
    command = (sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all")
    done = subprocess.run(
        command, cwd=project_folder(), capture_output=True, text=True, timeout=DEPLOY_TIMEOUT_S, check=False
    )
    if done.returncode:
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise ControlPlaneError(
            f"the deployments could not be registered ({' '.join(last)})",
            "the Prefect server stays up",
            "run `.venv/bin/prefect deploy --all` in the project's folder to see why",
        )
