"""Which earlier run a rollback goes back to, and whether what it needs is still here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.contracts import Catalogue, HostFacts, Plan, PlannedModel, Route, RunRecord
from tasks.errors import ProvisionError, RefusedError, UsageError
from tasks.plan.clouds import MayLeave, leaves
from tasks.record.history import GOOD, History
from tasks.serve.gpu import MAIN, named
from tasks.wording import listed, plural

NOTHING = "nothing was changed"
LIST = "`pmoves history` lists the runs"
MOST_NAMED = 3
WANTED = "rollback to "
"""How the record of a rollback begins to say what was asked for."""


@dataclass(frozen=True, slots=True)
class Target:
    """An earlier run with all that a rollback needs of it. `now` is the last good run, if it is another."""

    record: RunRecord
    plan: Plan
    route: Route
    now: RunRecord | None

    @property
    def wanted(self) -> str:
        """What the record of the rollback says was asked for."""
        return f"{WANTED}{self.record.run}"


def choose(history: History, to: str, host: str) -> Target:
    """Return the run to go back to.

    Args:
        history: the runs of this host.
        to: the name of a run, or a beginning that no other has; "" takes the newest good run that served
            something else than the last good one.
        host: this host's name.

    Raises:
        UsageError: there is no such run, or it is none to go back to.
        RefusedError: nothing is named, and there is no other run to go back to.
    """
    now = history.last_good()
    record = _named(history, to) if to else _before(history.records, now)
    why = _unfit(record, host)
    if why or record.plan is None or record.route is None:
        raise UsageError(f"run {record.run} {why}", NOTHING, f"take another one: {LIST}")
    return Target(record, record.plan, record.route, None if now is record else now)


def _named(history: History, to: str) -> RunRecord:
    """Return the run of that name, or the one that begins so.

    Raises:
        UsageError: there is none, or more than one, or its line cannot be read.
    """
    exact = [one for one in history.records if one.run == to]
    found = exact or [one for one in history.records if one.run.startswith(to)]
    unread = [run for run in history.unread if run.startswith(to)]
    if len(found) == 1 and (exact or not unread):
        return found[0]
    if found:
        names = [*(one.run for one in found), *unread]
        more = ", …" if len(names) > MOST_NAMED else ""
        what = f"{plural(len(names), 'run')} begin with {to!r} ({', '.join(names[:MOST_NAMED])}{more})"
        raise UsageError(what, NOTHING, "write more of its name")
    if unread:
        what = f"run {unread[0]} was written by a version whose records this one cannot read"
        raise UsageError(what, NOTHING, f"go back to it with that version, or take another one: {LIST}")
    raise UsageError(f"there is no run {to!r} on this host", NOTHING, LIST)


def _before(records: Sequence[RunRecord], now: RunRecord | None) -> RunRecord:
    """Return the newest good run that served something else than the last good one.

    Raises:
        RefusedError: there is none.
    """
    if now is None:
        raise RefusedError("no run of this host ended well yet", NOTHING, "run `pmoves provision` first")
    usable = (one for one in reversed(records) if not _unfit(one, now.host))
    found = next((one for one in usable if serves(one) != serves(now)), None)
    if found is None:
        raise RefusedError(
            f"no earlier good run of this host served anything else than run {now.run} does",
            "it still serves",
            f"name a run with --to to serve it again: {LIST}",
        )
    return found


def _unfit(record: RunRecord, host: str) -> str:
    """Say why nobody can go back to a run; "" where one can."""
    if record.host != host:
        return f"is one of host {record.host}, and this is {host}"
    if record.outcome not in GOOD:
        return f"ended as {record.outcome!r}, so nobody has seen what it planned serve"
    if record.plan is None:
        return "has no plan in its record"
    if record.route is None or not record.route.config:
        return "has no gateway config in its record"
    return ""


def serves(record: RunRecord) -> tuple[object, ...]:
    """Return what tells one run's servers and routes from another's: no estimate, no measurement."""
    plan, route = record.plan, record.route
    models = sorted(repr(_model(one)) for one in plan.models) if plan else []
    servers = sorted(
        repr((one.name, one.runtime, one.models, one.port, one.settings, one.image, one.external))
        for one in (plan.servers if plan else ())
    )
    return (tuple(models), tuple(servers), route.config if route else "")


def _model(one: PlannedModel) -> tuple[object, ...]:
    origin = one.weights or one.ollama or one.repo
    place = (one.residency, tuple(share.device for share in one.devices) or one.device, one.port, one.server)
    shape = (one.context, one.kv_type, one.parallel, one.settings, one.external)
    return (one.role, one.model, one.quantisation, one.runtime, *place, *shape, origin)


# --- what is still here --------------------------------------------------------------------------


def refuse_gone(target: Target, facts: HostFacts) -> None:
    """Refuse a plan whose engine or devices this host does not have any more.

    Raises:
        RefusedError: with what is missing.
    """
    contained = [one.name for one in target.plan.servers if one.image is not None]
    engine = facts.container_engine
    if contained and not engine.answers:
        raise _gone(
            target,
            f"served {listed(contained)} in containers, and no container engine answers ({engine.detail})",
            "start the engine",
        )
    here = named(facts)
    gone = sorted(_devices(target.plan) - {*here, MAIN})
    if gone:
        there = listed(sorted(here)) or "no such device"
        raise _gone(target, f"used {listed(gone)}, and this host has {there} now", "run `pmoves detect`")


def _devices(plan: Plan) -> set[str]:
    servers = {device for one in plan.servers for device in one.devices}
    models = {share.device for one in plan.models for share in one.devices}
    return {name for name in servers | models if name.startswith("gpu")}


def refuse_lost(
    target: Target, missing: Iterable[PlannedModel], facts: HostFacts, *, elsewhere: bool
) -> None:
    """Refuse weights that are neither here nor to be had.

    Args:
        target: the run to go back to.
        missing: its models whose files are not whole here.
        facts: what answers.
        elsewhere: whether mirrors or folders may have them.

    Raises:
        RefusedError: it names them.
    """
    lost = [one for one in missing if not elsewhere and not _source(one, facts)]
    if lost:
        names = listed(list(dict.fromkeys(one.model for one in lost)))
        reach = facts.ollama_library if _from_library(lost[0]) else facts.hub
        raise _gone(
            target,
            f"needs weights that are not here any more ({names}), and {reach.name} does not answer",
            "connect this host, or name a folder that has them in PMOVES_WEIGHTS_FROM",
        )


def _from_library(one: PlannedModel) -> bool:
    return one.ollama is not None and one.weights is None


def _source(one: PlannedModel, facts: HostFacts) -> bool:
    if _from_library(one):
        return facts.ollama_library.answers
    return facts.hub.answers or (one.weights is not None and one.weights.wheel is not None)


def _gone(target: Target, what: str, then: str) -> ProvisionError:
    serving = f"what run {target.now.run} left still serves" if target.now else NOTHING
    return RefusedError(f"run {target.record.run} {what}", serving, f"{then}, or take another run: {LIST}")


def refuse_leaving(target: Target, catalogue: Catalogue, may_leave: MayLeave) -> None:
    """Refuse a config that sends prompts to a cloud which are to stay in the house now.

    Raises:
        RefusedError: names the functions and the clouds.
    """
    uses = {use.function: use for service in catalogue.services.values() for use in service.uses}
    gone = {
        route.function: [tier.by for tier in (*route.tiers, *route.complex_tiers) if tier.tier != "local"]
        for route in target.route.functions
        if (use := uses.get(route.function)) is None or not leaves(use, may_leave)
    }
    sent = {function: clouds for function, clouds in gone.items() if clouds}
    if not sent:
        return
    clouds = listed(sorted({cloud for found in sent.values() for cloud in found}))
    raise RefusedError(
        f"the config of run {target.record.run} may send prompts of {listed(sorted(sent))} to {clouds},"
        " and they are to stay in the house now",
        NOTHING,
        "allow it with PMOVES_CLOUD, or take another run",
    )
