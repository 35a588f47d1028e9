"""`pmoves …`: data to standard output, hints and progress to standard error.

Exit codes: 0 done, 1 internal error, 2 wrong request or file, 3 refused by this host, 4 another run holds the
host, 5 a stage failed, 130 stopped. Prefect is imported by `provision`, `rollback` and `worker` alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from flows import report
from flows.cli_plan import (
    AcceptRisk,
    Json,
    Overrides,
    ProfileName,
    Ram,
    Strict,
    Vram,
    given,
    models,
    plan,
    seen,
    show,
)
from flows.cli_profile import profiles
from flows.cli_routes import rollback, routes
from flows.cli_weights import (
    From,
    LimitRate,
    Verify,
    export,
    gc,
    lock,
    pull,
    seed,
    weights,
)
from flows.printing import hint, never_fail_to_encode, out
from flows.settings import load
from flows.wants import Wants
from tasks.errors import ProvisionError, RefusedError, StoppedError, UsageError
from tasks.plan.request import AUTO

app = typer.Typer(
    help="Take this host to a verified local AI stack, and keep it there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(profiles, name="profile")

LEAVE_S = 2.0


@app.command()
def detect(*, as_json: Json = False) -> None:
    """Look at this host: hardware, disks, and what answers."""
    from flows.report_facts import format_facts  # noqa: PLC0415  # `plan` need not wait for it

    facts = seen(load())
    out(facts, lambda: format_facts(facts), as_json=as_json)
    hint("Next: pmoves plan")


@app.command()
def doctor(
    *,
    capture: Annotated[
        Path | None, typer.Option(help="Write what was read to a file for a bug report, without names.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what each probe saw, with the raw values."""
    from flows import doctor as surgery  # noqa: PLC0415  # shares its name with the command

    found, root = surgery.examine(load())
    out(found, lambda: surgery.format_examination(found), as_json=as_json)
    if capture is not None:
        surgery.write_capture(capture, found, root)
        hint(f"{capture} holds this look; it can be attached to a report, or put into tests/cases/hosts/.")


app.command()(routes)
app.command()(rollback)
app.command()(plan)
app.command()(models)
app.command()(pull)
app.command()(lock)
app.command()(weights)
app.command()(gc)
app.command()(export)
app.command()(seed)


@app.command()
def provision(  # noqa: PLR0913  # its options
    profile: ProfileName = AUTO,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as `pmoves plan`.")] = False,
    strict: Strict = False,
    accept_risk: AcceptRisk = False,
    overrides: Overrides = None,
    vram: Vram = None,
    ram: Ram = None,
    limit_rate: LimitRate = None,
    weights_from: From = None,
    verify: Verify = False,
    wait: Annotated[int, typer.Option(min=0, max=1440, help="Minutes to wait for another run.")] = 0,
    as_json: Json = False,
) -> None:
    """Take this host to a verified, routed local AI stack; a healthy host is left as it is."""
    caps = given(vram, "--vram"), given(ram, "--ram")
    limit, folder = given(limit_rate, "--limit-rate"), given(weights_from, "--from")
    wants = Wants(profile, strict, accept_risk, tuple(overrides or ()), *caps, limit, folder, verify)
    if dry_run:
        show(load(), wants, as_json=as_json)
        return

    from flows.local import run_here  # noqa: PLC0415  # imports Prefect

    settings = load()
    record = run_here(settings, wants, wait_minutes=wait, quiet=as_json)
    guarded = bool(settings.gateway.token_sha256)
    text = partial(report.format_run, record, settings.prefect_ui_url, guarded=guarded)
    out(record, text, as_json=as_json)
    hint("Next: pmoves status")


@app.command()
def status(*, as_json: Json = False) -> None:
    """Show what runs on this host."""
    from flows.running import running  # noqa: PLC0415  # XML-RPC and the engine's client, 0.3 s
    from tasks.record import history as journals  # noqa: PLC0415  # shares its name with a command

    settings = load()
    found = running(settings)
    good = journals.read(journals.journal(settings.state, settings.host)).last_good()
    addresses = {"prefect-server": settings.prefect_ui_url, **report.addresses(good)}
    text = report.format_status(
        found.processes, addresses, found.supervisor_pid, time.time(), found.containers
    )
    out((*found.processes, *found.containers), lambda: text, as_json=as_json)
    if found.unseen:
        hint(f"pmoves: {found.unseen}; what runs is untouched; start the engine, or look with `docker ps`.")
    hint("Next: pmoves down" if found.processes or found.containers else "Next: pmoves provision")


@app.command()
def history(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many runs to list.")] = 20,
    as_json: Json = False,
) -> None:
    """List the runs of this host, newest first."""
    from tasks.record import history as journals  # noqa: PLC0415  # shares its name with the command

    settings = load()
    found = journals.read(journals.journal(settings.state, settings.host))
    out(found.records[-limit:][::-1], lambda: report.format_history(found, limit), as_json=as_json)
    if not found.records:
        hint("No run yet. Next: pmoves provision")


@app.command()
def down(*, as_json: Json = False) -> None:
    """Stop every process and remove every container that was started on this host. State and weights stay."""
    from flows.host_run import host_lock  # noqa: PLC0415  # with supervisord's XML-RPC, 0.1 s
    from flows.running import stop_containers  # noqa: PLC0415  # the same
    from tasks.effects.supervisord import Supervisord  # noqa: PLC0415  # the same

    settings = load()
    state = settings.state
    then = "stop that run first (Ctrl-C, or cancel it in Prefect), or wait for it"
    with host_lock(state, "pmoves down", then=then) if state.exists() else contextlib.nullcontext():
        removed, left = stop_containers(settings) if state.exists() else ((), "")
        stopped = removed + Supervisord(state).shutdown()
    if left:
        hint(f"pmoves: {left}; weights and state stay; start the engine, then `pmoves down` again.")
    out(stopped, lambda: f"stopped: {', '.join(stopped)}" if stopped else "nothing ran", as_json=as_json)
    hint("Next: pmoves provision")


@app.command()
def worker(*, as_json: Json = False) -> None:
    """Register the Prefect deployments and start a worker that takes this host's runs."""
    from flows.local import start_worker  # noqa: PLC0415  # imports Prefect

    settings = load()
    states = start_worker(settings, quiet=as_json)
    text = report.format_status(states, {"prefect-server": settings.prefect_ui_url}, 0, time.time())
    out(states, lambda: text, as_json=as_json)
    hint(
        f"Next: .venv/bin/prefect deployment run provision/embedded, or the form at {settings.prefect_ui_url}"
    )


def main() -> None:
    """Run a command; every foreseen failure is one sentence and an exit code."""
    never_fail_to_encode()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        code = app(standalone_mode=False)
    except ProvisionError as error:
        hint(f"pmoves: {error}")
        code = error.exit_code
    except OSError as error:
        what = f"{error.filename or 'a file or socket'}: {error.strerror or error}"
        hint(f"pmoves: {what}; what ran before still runs; mend that and start this command again.")
        code = RefusedError.exit_code
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        # A usage error of click's, whichever click it is that typer carries.
        hint(f"pmoves: {error.format_message()} See `pmoves --help`.")
        code = UsageError.exit_code
    if code == StoppedError.exit_code:
        hint("pmoves: stopped; what ran before this command still runs; start it again when you like.")
        _leave_soon(code)
    sys.exit(code)


def _leave_soon(code: int) -> None:
    """Bound the time that Prefect's threads take to tell a server that may be gone by now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    timer = threading.Timer(LEAVE_S, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
