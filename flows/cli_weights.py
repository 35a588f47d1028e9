"""`pmoves pull`, `lock`, `weights`, `gc`, `export` and `seed`: weights without a run. No Prefect."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_plan import Json, given, seen
from flows.printing import hint, out
from flows.settings import Settings, load
from flows.wants import Wants
from tasks.errors import UsageError

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="Models (name or name:variant) or profiles; else this host's plan."
    ),
]
LimitRate = Annotated[
    str | None,
    typer.Option("--limit-rate", metavar="RATE", help="Bytes a second of all downloads, for example 20MB."),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="DIR", help="Take weights from an export there, and ask no network."),
]
Verify = Annotated[bool, typer.Option("--verify", help="Read every byte that is there again.")]


def pull(
    names: Names = None,
    *,
    limit_rate: LimitRate = None,
    weights_from: From = None,
    verify: Verify = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show files, bytes and disks only.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch weights, verified and resumable, without serving them."""
    from flows import report_weights as report  # noqa: PLC0415  # commands that do not need it stay quick
    from flows.fetching import Fetch  # noqa: PLC0415  # the same
    from flows.watch import watching  # noqa: PLC0415  # the same

    settings, wants = load(), _wants(limit_rate, weights_from, verify=verify)
    facts = seen(settings)
    with watching(quiet=as_json) as sink:
        made = Fetch(settings, facts, wants, names or (), sink)
        resolved = made.resolved(keep=not dry_run)
        if dry_run:
            text = report.format_resolved(resolved, made.demands(resolved))
            out([one.planned for one in resolved], lambda: text, as_json=as_json)
            return
        pulled = made.pull(resolved)
    out(pulled, lambda: report.format_pulled(pulled), as_json=as_json)
    hint("Next: pmoves weights")


def lock(
    names: Names = None,
    *,
    update: Annotated[
        bool, typer.Option("--update", help="Move the pins to what the sources have now.")
    ] = False,
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Write profiles/weights.lock.json, for every host.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show which bytes are pinned, or move the pins and show what moved."""
    from flows import report_weights as report  # noqa: PLC0415  # as above
    from flows.fetching import Fetch  # noqa: PLC0415  # the same
    from flows.watch import watching  # noqa: PLC0415  # the same

    settings = load()
    with watching(quiet=as_json) as sink:
        made = Fetch(settings, seen(settings), _wants(None, None), names or (), sink)
        if update:
            moved = made.update(shipped=shipped)
            out(moved, lambda: report.format_moved(moved), as_json=as_json)
            return
        pinned = made.pinned()
    out(pinned, lambda: report.format_pinned(pinned), as_json=as_json)
    hint("Next: pmoves lock --update")


def weights(*, verify: Verify = False, as_json: Json = False) -> None:
    """List the weights on disk: what uses them, and what is orphaned or was broken off."""
    from flows import report_weights as report  # noqa: PLC0415  # as above
    from flows.planning import past  # noqa: PLC0415  # the same
    from flows.weights import kept, known_files, users  # noqa: PLC0415  # the same
    from tasks.pull.inventory import inventory  # noqa: PLC0415  # the same

    settings = load()
    by = users(past(settings), kept(settings))
    faults = known_files(settings, past(settings), rehash=verify)
    found = inventory(settings.store, by)
    tags = _tags(settings)
    text = report.format_inventory(found, faults, tags, home=settings.home)
    out({"store": found, "damaged": faults, "ollama": tags}, lambda: text, as_json=as_json)
    if faults:
        hint("Next: pmoves pull")
    elif any(not one.used_by and one.ours for one in found.held) or found.broken:
        hint("Next: pmoves gc")


def gc(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed.")] = False,
    parts: Annotated[bool, typer.Option("--parts", help="Downloads that were broken off too.")] = False,
    as_json: Json = False,
) -> None:
    """Show what no record needs, and with --yes remove it; never what others put there."""
    from flows import report_weights as report  # noqa: PLC0415  # as above
    from flows.host_run import command_lock  # noqa: PLC0415  # the same
    from flows.planning import past  # noqa: PLC0415  # the same
    from flows.weights import kept, users  # noqa: PLC0415  # the same
    from tasks.pull.inventory import collect, collectable  # noqa: PLC0415  # the same

    settings = load()
    with command_lock(settings.state, "pmoves gc"):
        found = collectable(settings.store, users(past(settings), kept(settings)), parts=parts)
        freed = collect(settings.store, found) if yes else 0
    text = report.format_removals(found, freed=freed if yes else None, home=settings.home)
    out({"removals": found, "removed": yes, "freed_bytes": freed}, lambda: text, as_json=as_json)
    if found and not yes:
        hint("Nothing was removed. Next: pmoves gc --yes" + (" --parts" if parts else ""))


def export(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A profile, a model, or model:variant.")],
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A folder, for example on a USB disk.")],
    *,
    as_json: Json = False,
) -> None:
    """Write verified weights to a folder, to provision a host without a network from it."""
    from flows import report_weights as report  # noqa: PLC0415  # as above
    from flows.fetching import Fetch, exported, interruptible  # noqa: PLC0415  # the same
    from flows.watch import watching  # noqa: PLC0415  # the same
    from tasks.pull.export import export as write  # noqa: PLC0415  # shares its name with the command

    settings = load()
    with watching(quiet=as_json) as sink:
        made = Fetch(settings, seen(settings), _wants(None, None), (bundle,), sink)
        items = exported(made.pinned_models())
        stop = threading.Event()
        made_report = interruptible(
            stop,
            lambda: write(items, settings.store, settings.ollama_models, target, stop=stop, sink=sink),
        )
    out(made_report, lambda: report.format_export(made_report), as_json=as_json)
    hint(f"Next, on the other host: pmoves provision --from {target}")


def seed(
    *,
    bind: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on; it is asked for.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8790,
) -> None:
    """Serve this host's verified weights to its neighbours, read-only, until Ctrl-C."""
    from flows.planning import past  # noqa: PLC0415  # as above
    from flows.weights import known_files  # noqa: PLC0415  # the same
    from tasks.pull.seed import serve  # noqa: PLC0415  # a web server, which no other command needs

    settings = load()
    if not settings.seed_token:
        raise UsageError(
            "PMOVES_SEED_TOKEN is not set, and weights are not served without a token",
            "nothing was started",
            "set it to a long random text here, and to the same on the hosts that fetch",
        )
    known_files(settings, past(settings), rehash=False)  # what was not verified since the machine started
    hint(f"Neighbours fetch with PMOVES_MIRRORS=http://{bind}:{port} and the same PMOVES_SEED_TOKEN.")
    serve(
        settings.store, bind, port, token=settings.seed_token, ollama_models=settings.ollama_models, log=hint
    )


def _wants(limit_rate: str | None, weights_from: str | None, *, verify: bool = False) -> Wants:
    return Wants(
        limit_rate=given(limit_rate, "--limit-rate"),
        weights_from=given(weights_from, "--from"),
        verify=verify,
    )


def _tags(settings: Settings) -> dict[str, str]:
    """Return what Ollama holds, by tag; nothing where it does not answer."""
    from tasks.errors import ProvisionError  # noqa: PLC0415  # as above
    from tasks.pull.ollama.api import Api  # noqa: PLC0415  # the same

    try:
        with Api(settings.ollama, "tags", threading.Event(), quiet_s=5.0, answer_s=5.0) as api:
            return dict(sorted(api.tags().items()))
    except ProvisionError:
        return {}
