"""`pmoves profile …`: which hardware profiles there are, which fits, which is current."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows import report
from flows.cli_plan import Json, print_plan, seen
from flows.printing import hint, out
from flows.settings import load
from flows.wants import Wants
from tasks import catalogue
from tasks.errors import UnknownProfileError
from tasks.plan.match import fits
from tasks.plan.request import AUTO
from tasks.wording import meant

profiles = typer.Typer(help="Hardware profiles: what fits, what is current.", no_args_is_help=True)


@profiles.command("list")
def profile_list(*, as_json: Json = False) -> None:
    """List every profile."""
    from flows import chosen  # noqa: PLC0415  # small, but only these commands need it

    shelf = catalogue.load(load().profiles)
    current = chosen.read(load().home)
    text = report.format_profiles(shelf, current)
    out(tuple(shelf.profiles.values()), lambda: text, as_json=as_json)


@profiles.command("show")
def profile_show(
    name: Annotated[str, typer.Argument(help="A profile's name.")], *, as_json: Json = False
) -> None:
    """Show what a profile is for, and what it wishes for."""
    shelf = catalogue.load(load().profiles)
    profile = shelf.profiles[_known(name, shelf.profiles)]
    out(profile, lambda: report.format_profile(profile), as_json=as_json)


@profiles.command("detect")
def profile_detect(*, as_json: Json = False) -> None:
    """Show which profiles fit this host, best first, and why the others do not."""
    found = fits(catalogue.load(load().profiles), seen(load()))
    out(found, lambda: report.format_fits(found), as_json=as_json)
    hint(f"Next: pmoves profile apply {next((one.profile for one in found if one.fits), AUTO)}")


@profiles.command("apply")
def profile_apply(
    name: Annotated[str, typer.Argument(help="A profile's name.")], *, as_json: Json = False
) -> None:
    """Make a profile the current one, for PMOVES' own tools too, and plan it."""
    from flows import chosen  # noqa: PLC0415  # small, but only these commands need it
    from flows.planning import past, planned  # noqa: PLC0415  # the same

    settings = load()
    shelf = catalogue.load(load().profiles)
    _known(name, shelf.profiles)
    made = planned(settings, seen(settings), Wants(name), records=past(settings))
    path = chosen.write(settings.home, name)
    print_plan(made, Wants(name), as_json=as_json)
    hint(f"{report.shown(path, settings.home)} now names {name}. Next: pmoves provision {name}")


@profiles.command("current")
def profile_current(*, as_json: Json = False) -> None:
    """Print the current profile's name."""
    from flows import chosen  # noqa: PLC0415  # small, but only these commands need it

    name = chosen.read(load().home)
    out({"profile": name}, lambda: name or "-", as_json=as_json)
    if name is None:
        hint("No profile is applied. Next: pmoves profile detect")


def _known(name: str, names: Any) -> str:  # noqa: ANN401  # any collection of names
    if name in names:
        return name
    hint_text = meant(name, tuple(names), quote="")
    raise UnknownProfileError(
        f"there is no profile {name!r}{hint_text}", "nothing was changed", "see `pmoves profile list`"
    )
