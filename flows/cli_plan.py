"""`pmoves plan` and `pmoves models`: what would be done, and what it could be done with."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import typer

from flows import report_plan
from flows.printing import hint, out, writes_blocks
from flows.settings import Settings, load
from flows.wants import Wants
from tasks.contracts import HostFacts, Plan, Role
from tasks.errors import UsageError
from tasks.plan.advice import NO_ENGINE
from tasks.plan.request import AUTO
from tasks.wording import gib, meant

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ProfileName = Annotated[str, typer.Argument(help="A profile's name, or auto.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse instead of changing or dropping a role.")]
AcceptRisk = Annotated[
    bool,
    typer.Option("--accept-risk", help="Take a profile whose hardware is not here, and leave no margin."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="ROLE.KEY=VALUE", help="Decide something yourself: llm.context=16384."),
]
Vram = Annotated[
    str | None, typer.Option("--vram", metavar="SIZE", help="Use no more of each card, for example 20GiB.")
]
Ram = Annotated[str | None, typer.Option("--ram", metavar="SIZE", help="Use no more of main memory.")]
As = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="PROFILE|FILE", help="Plan for a host that is not here: a profile's, or a capture's."
    ),
]


def seen(settings: Settings) -> HostFacts:
    """Look at this host, without Prefect."""
    from flows.planning import where  # noqa: PLC0415  # commands that do not look stay quick
    from tasks.detect.look import look  # noqa: PLC0415  # the same

    return look(where(settings))


def plan(  # noqa: PLR0913  # its options
    profile: ProfileName = AUTO,
    *,
    elsewhere: As = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what would change since the last good run.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every step that was taken or refused.")
    ] = False,
    all_runtimes: Annotated[
        bool,
        typer.Option(
            "--all-runtimes", help="Plan as if a container engine answered, with every cloud that has a key."
        ),
    ] = False,
    svg: Annotated[Path | None, typer.Option("--svg", help="Write the memory picture to a file.")] = None,
    strict: Strict = False,
    accept_risk: AcceptRisk = False,
    overrides: Overrides = None,
    vram: Vram = None,
    ram: Ram = None,
    as_json: Json = False,
) -> None:
    """Show what provisioning would do, and why, without doing it."""
    settings = load()
    wants = Wants(
        profile,
        strict,
        accept_risk,
        tuple(overrides or ()),
        given(vram, "--vram"),
        given(ram, "--ram"),
    )
    there = given(elsewhere, "--as")
    made = _elsewhere(settings, there, wants) if there else _here(settings, wants, everything=all_runtimes)
    if svg is not None:
        write_svg(svg, made)
    if diff:
        _print_difference(settings, made, elsewhere=there, as_json=as_json)
        return
    print_plan(made, wants, explain=explain, as_json=as_json)
    _hint(made, wants, explain=explain, limited=any(line.startswith(NO_ENGINE) for line in made.advice))


def show(settings: Settings, wants: Wants, *, as_json: bool) -> None:
    """Plan this host and print the plan."""
    print_plan(_here(settings, wants, everything=False), wants, explain=False, as_json=as_json)


def print_plan(made: Plan, wants: Wants, *, explain: bool = False, as_json: bool) -> None:
    """Print a plan, as wide as the terminal; a table is broken up only where a person reads it."""
    sheet = report_plan.Sheet(
        width=shutil.get_terminal_size((report_plan.WIDTH, 24)).columns,
        narrow=sys.stdout.isatty(),
        ascii_only=not writes_blocks(),
    )
    text = partial(
        report_plan.format_plan, made, explain=explain, sheet=sheet, apply=wants.words(made.profile)
    )
    out(made, text, as_json=as_json)


def given(text: str | None, option: str) -> str:
    """Return an option's text, or an empty one where it is left out.

    Raises:
        UsageError: it is there, and empty.
    """
    if text is not None and not text.strip():
        raise UsageError(f"{option} is empty", "nothing was changed", "give it a value, or leave it out")
    return text or ""


def _hint(made: Plan, wants: Wants, *, explain: bool, limited: bool) -> None:
    if not explain and any(one.verdict != "kept" and one.steps for one in made.decisions):
        hint("Every step that was taken or refused: pmoves plan --explain")
    if limited:
        hint(f"As if a container engine answered: pmoves plan {wants.profile} --all-runtimes")


def _here(settings: Settings, wants: Wants, *, everything: bool) -> Plan:
    from flows.planning import past, planned  # noqa: PLC0415  # a plan for elsewhere needs neither

    return planned(settings, seen(settings), wants, records=past(settings), everything=everything)


def _elsewhere(settings: Settings, what: str, wants: Wants) -> Plan:
    """Plan for the example host of a profile, or for a captured one."""
    from flows.planning import ANSWERING, shelf, simulated  # noqa: PLC0415  # other commands need none
    from tasks.detect.example import ASSUMED_FREE_BYTES, RESERVE, from_example  # noqa: PLC0415  # the same

    store = f"its store is empty, with {gib(ASSUMED_FREE_BYTES)} free"
    profiles = shelf(settings).profiles
    if what in profiles:
        profile = what if wants.profile == AUTO else wants.profile
        facts = from_example(profiles[what], host=what)
        chosen = Wants(profile, wants.strict, wants.accept_risk, wants.overrides, wants.vram, wants.ram)
        own = any(not one.unified for one in profiles[what].example.devices)
        host = f"the host is the example of profile {what}" + (f", and {RESERVE}" if own else "")
        assumed = (host, ANSWERING, store)
        return simulated(settings, facts, chosen, assumed=assumed)
    path = Path(what)
    if not path.exists() and os.sep not in what and not what.endswith(".json"):
        refuse_name(what, profiles)
    from tasks.detect.replay import read_case, replay  # noqa: PLC0415  # a profile needs no probes

    facts = replay(read_case(path), host=path.stem)
    return simulated(settings, facts, wants, assumed=(ANSWERING, store))


def refuse_name(what: str, profiles: Mapping[str, object]) -> None:
    """Refuse a name that is neither a profile nor a file.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"--as {what}: there is no profile and no file of that name{meant(what, profiles, quote='')}",
        "nothing was changed",
        "name a profile (`pmoves profile list`) or a file that `pmoves doctor --capture` wrote",
    )


def write_svg(path: Path, made: Plan) -> None:
    """Write a plan's memory picture.

    Raises:
        UsageError: the file cannot be written.
    """
    from flows.picture_svg import svg as drawn  # noqa: PLC0415  # only here

    try:
        path.write_text(drawn(made), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror})", "nothing was changed", "name another file"
        ) from error
    hint(f"{path} holds the memory picture.")


def _print_difference(settings: Settings, made: Plan, *, elsewhere: str, as_json: bool) -> None:
    from flows.planning import past  # noqa: PLC0415  # only here
    from tasks.plan.difference import difference  # noqa: PLC0415  # the same
    from tasks.record.history import History  # noqa: PLC0415  # the same

    last = None if elsewhere else History(past(settings), 0).last_good()
    changes = difference(made, last)
    out(changes, lambda: report_plan.format_difference(changes), as_json=as_json)
    if last is None:
        hint("There is no earlier good run to compare with, so everything is new.")
    else:
        hint(f"Compared with run {last.run} of {last.started_at}.")


def models(
    role: Annotated[str, typer.Argument(help="Only models that play this role.")] = "",
    *,
    as_json: Json = False,
) -> None:
    """List the catalogue: every model with its variants, sizes, runtimes and licence."""
    from flows.planning import shelf  # noqa: PLC0415  # the same

    if role and role not in get_args(Role):
        raise UsageError(
            f"there is no role {role!r}", "nothing was changed", f"take one of {', '.join(get_args(Role))}"
        )
    found = shelf(load())
    listed = tuple(one for one in found.models.values() if not role or role in one.roles)
    out(listed, lambda: report_plan.format_models(found, role), as_json=as_json)
    if not as_json and sys.stderr.isatty():
        hint("Next: pmoves plan --set llm.model=NAME")
