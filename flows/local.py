"""Runs that this process starts itself, against a Prefect server that it brings up.

Ctrl-C, at any moment, leaves nothing running that did not run before.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from flows.control_plane import (
    POOL,
    SERVER,
    WORKER,
    answers,
    ensure_server,
    project_folder,
    worker_spec,
)
from flows.host_run import command_lock, refuse_foreign_ports, refuse_unwritable
from flows.planning import past, planned, where
from flows.settings import Settings, apply_to_libraries
from flows.wants import Wants
from flows.watch import watching
from tasks import catalogue
from tasks.contracts import Event, ProcessState, RunRecord
from tasks.detect.look import look
from tasks.effects.http import Httpx
from tasks.effects.processes import spec_hash
from tasks.effects.supervisord import Supervisord
from tasks.errors import ControlPlaneError

DEPLOY_TIMEOUT_S = 180
AFTER = "start this command again when that one is done"


def run_here(settings: Settings, wants: Wants, *, wait_minutes: int, quiet: bool) -> RunRecord:
    """Run the flow `provision` in this process."""
    catalogue.load(settings.profiles)
    refuse_unwritable(settings.state)
    apply_to_libraries(settings)
    supervisor = Supervisord(settings.state)
    alone = command_lock(settings.state, "pmoves provision", wait_s=60 * wait_minutes)
    with alone, watching(quiet=quiet) as sink, _undone_when_interrupted(supervisor):
        supervisor.recover()
        with Httpx() as http:
            if not answers(settings, http):
                refuse_early(settings, supervisor, wants)
            ensure_server(settings, supervisor, http=http, sink=sink, stop=threading.Event())
        return _run(wants, wait_minutes=wait_minutes)


def _run(wants: Wants, *, wait_minutes: int) -> RunRecord:
    # Prefect reads its settings at import.
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: PLC0415

    from flows.provision import provision  # noqa: PLC0415

    # A sync flow waits up to 1 s for its heartbeat thread; whoever types a command sees it end anyway.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        # A flow that ends in a failed state raises its error here.
        record = provision(
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
        return cast("RunRecord", record)


def refuse_early(settings: Settings, supervisor: Supervisord, wants: Wants) -> None:
    """Refuse what the run would refuse, before a server is started for it."""
    refuse_unwritable(settings.store)
    plan = planned(settings, look(where(settings)), wants, records=past(settings))
    refuse_foreign_ports(plan, settings, supervisor)


@contextmanager
def _undone_when_interrupted(supervisor: Supervisord) -> Iterator[None]:
    before = supervisor.snapshot()
    try:
        yield
    except KeyboardInterrupt:
        supervisor.restore(before)
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
