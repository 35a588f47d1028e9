"""`pmoves routes` and `pmoves rollback`: who answers what, and the way back to an earlier run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from flows import report
from flows.cli_plan import Json, given
from flows.printing import hint, out
from flows.settings import load


def routes(
    *,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print what was counted as Prometheus reads it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show each function of the gateway: who answers, in which order, what is up, and who answered lately."""
    from flows import routing_kinds  # noqa: PLC0415  # other commands need none of it
    from flows.report_metrics import format_metrics  # noqa: PLC0415  # the same
    from flows.report_routes import format_routes  # noqa: PLC0415  # the same
    from flows.routes_now import last_routes, look  # noqa: PLC0415  # the same
    from tasks.effects.http import Httpx  # noqa: PLC0415  # the same

    settings = load()
    record, route = last_routes(settings)
    with Httpx() as http:
        proxy = routing_kinds.proxy_there(settings)
        found, counts = look(settings, record, route, proxy=proxy, http=http, now=datetime.now(UTC))
    out(
        found,
        lambda: format_metrics(found, counts) if metrics else format_routes(found),
        as_json=as_json and not metrics,
    )
    if metrics:
        return
    for line in found.trouble:
        hint(f"pmoves: {line}.")
    hint("Next: pmoves provision" if found.trouble else "Next: pmoves routes --metrics")


def rollback(
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="RUN", help="The run to go back to, or the beginning of its name."),
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look whether what it needs is still here; change nothing.")
    ] = False,
    wait: Annotated[int, typer.Option(min=0, max=1440, help="Minutes to wait for another run.")] = 0,
    as_json: Json = False,
) -> None:
    """Go back to the models and routes of an earlier good run; those in use answer until then."""
    from flows.local import roll_back_here  # noqa: PLC0415  # imports Prefect

    settings, name = load(), given(to, "--to")
    record = roll_back_here(settings, name, dry_run=dry_run, wait_minutes=wait, quiet=as_json)
    if dry_run:
        from flows.report_rollback import format_going_back  # noqa: PLC0415  # only here
        from tasks.record import history  # noqa: PLC0415  # the same

        runs = history.read(history.journal(settings.state, settings.host))
        out(record, lambda: format_going_back(record, runs), as_json=as_json)
        hint("Next: pmoves rollback" + (f" --to {name}" if name else ""))
        return
    guarded = bool(settings.gateway.token_sha256)
    out(
        record,
        lambda: report.format_run(record, settings.prefect_ui_url, guarded=guarded),
        as_json=as_json,
    )
    hint("Next: pmoves routes")
