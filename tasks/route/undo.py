"""A rollout that failed → everything as it was before it, or a sentence that says what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tasks.errors import ProvisionError
from tasks.route import journal as journals
from tasks.route.context import RouteContext
from tasks.route.gateways.contract import Instance
from tasks.route.generations import Store, digest
from tasks.route.merge.services_file import ServicesFile
from tasks.route.proxy.contract import Target
from tasks.route.retire import retire, running

REPAIRS = "start the run again, which repairs that"


@dataclass(frozen=True, slots=True)
class Before:
    """What there is to go back to.

    `blue` is the gateway in use, `target` where the proxy led if it ran, `services` what `pmoves.env` held.
    """

    blue: Instance | None
    target: Target | None
    old_ran: bool
    services: str | None

    @classmethod
    def of(cls, blue: Instance | None, ctx: RouteContext) -> Self:
        """Look at what there is."""
        target = ctx.proxy.active() if ctx.proxy.runs() else None
        old_ran = ctx.old is not None and ctx.old.runs()
        return cls(blue, target, old_ran, ServicesFile(ctx.env_file).text())


@dataclass(frozen=True, slots=True)
class Undo:
    """A rollout that ended well: its generation, and what was before it, its keys included."""

    green: str
    before: Before
    keys: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Back:
    """What is intact, where the config that was given up can be read, and what to do next, if known."""

    intact: str
    rejected: Path | None = None
    then: str = ""


def go_back(green: str, text: str | None, before: Before, ctx: RouteContext) -> Back:
    """Undo what a rollout did, as far as it came; `text` is the config to keep for reading.

    Nothing of the new gateway ends before the one in use has the requests again. What cannot be undone now is
    left to the next repair: the journal stays.
    """
    ctx.say("going back to the config in use" if before.blue else "undoing what was done")
    stays = _lead_back(green, before, ctx)
    if stays:
        return Back(f"the new config still gets the requests, because {stays}", then=REPAIRS)
    store, kept = Store(ctx.folder), list[Path]()

    def put_away() -> None:
        if text is not None:
            kept.append(store.reject(green) or store.reject_text(text))
        store.forget(green)

    steps = (
        lambda: _end(green, ctx),
        lambda: ServicesFile(ctx.env_file).put_back(before.services),
        lambda: store.disprove(green),
        put_away,
    )
    failures = sum(not _done(step, ctx) for step in steps)
    failures = failures or 1 - _done(lambda: journals.settle(ctx.folder), ctx)
    return Back(_intact(before, ctx), kept[0] if kept else None, REPAIRS if failures else "")


def _done(step: Callable[[], object], ctx: RouteContext) -> bool:
    try:
        step()
    except (ProvisionError, OSError) as error:
        ctx.say(f"left to the next run: {error.what if isinstance(error, ProvisionError) else error}")
        return False
    return True


def _end(green: str, ctx: RouteContext) -> None:
    for one in ctx.gateways.instances():
        if one.generation == green and not retire(one, ctx):
            raise ProvisionError(f"the gateway of {green} still runs", "it gets no requests", REPAIRS)


def _lead_back(green: str, before: Before, ctx: RouteContext) -> str:
    """Give the requests back to the gateway in use; return why that failed, "" if not."""
    try:
        active = ctx.proxy.active()
        if active is None or active.name != green:
            return ""
        if before.blue is not None:
            blue = running(ctx).get(before.blue.generation) or _again(before.blue.generation, ctx)
            ctx.proxy.point(Target(blue.generation, blue.port))
        elif before.target is not None:
            ctx.proxy.point(before.target)
        else:
            ctx.proxy.stop()
    except ProvisionError as error:
        return f"there is no way back ({error.what})"
    return ""


def _again(name: str, ctx: RouteContext) -> Instance:
    """Start the gateway in use, which ended meanwhile.

    Raises:
        ServeError: it does not start.
        RouteError: the same.
    """
    return ctx.gateways.start(Store(ctx.folder).generation(name), deadline_s=ctx.start_s)


def _intact(before: Before, ctx: RouteContext) -> str:
    """Say what serves now, after a look."""
    if before.old_ran:
        runs = ctx.old is not None and ctx.old.runs()
        name = "the gateway of the earlier version"
        return f"{name} serves as before" if runs else f"{name} is ended, and no routes are served"
    if before.blue is None:
        return "no gateway serves, as before"
    name = before.blue.generation
    config = f"the config in use (sha256 {digest(Store(ctx.folder).text(name) or '')[:8]})"
    try:
        there, active = running(ctx), ctx.proxy.active()
        leads = active is not None and active.name == name and ctx.proxy.runs()
    except ProvisionError as error:
        return f"{config} is as before, and nobody tells whether it serves ({error.what})"
    if name not in there:
        return f"{config} is as before, but its gateway does not run"
    return (
        f"{config} serves as before" if leads else f"{config} is as before, but the proxy does not lead to it"
    )
