"""What of the planned routes can be served now: by servers that were verified, and by known clouds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tasks.contracts import CloudModel, PlannedRoute, Role, RouteTier, Routing, VerifiedServer


def served(
    routes: tuple[PlannedRoute, ...], verified: tuple[VerifiedServer, ...], routing: Routing
) -> tuple[PlannedRoute, ...]:
    """Return every route, by name, with the tiers that can answer; what was lost is said in `left_out`.

    A route that keeps only premium tiers keeps none: requests that are not marked as complex would fail.
    """
    clouds = {one.name: one for one in routing.models}
    return tuple(_kept(route, verified, clouds) for route in sorted(routes, key=lambda route: route.function))


def server_of(by: str, role: Role, verified: tuple[VerifiedServer, ...]) -> VerifiedServer | None:
    """Return the verified server that plays a role with the model `by`."""
    return next(
        (
            one
            for one in verified
            if one.server.planned.model == by and role in {one.server.planned.role, *one.server.planned.also}
        ),
        None,
    )


def _kept(
    route: PlannedRoute, verified: tuple[VerifiedServer, ...], clouds: Mapping[str, CloudModel]
) -> PlannedRoute:
    lost: dict[str, None] = {}

    def known(tier: RouteTier) -> bool:
        if tier.tier == "local":
            there, why = server_of(tier.by, route.role, verified) is not None, "no verified server has it"
        else:
            there, why = tier.by in clouds, "the catalogue does not have it"
        if not there:
            lost[f"{tier.by} is left out, because {why}"] = None
        return there

    tiers = tuple(filter(known, route.tiers))
    difficult = tuple(filter(known, route.complex_tiers))
    premium = any(tier.tier == "premium" for tier in difficult)
    return replace(
        route,
        tiers=tiers,
        complex_tiers=difficult if tiers and premium else (),
        left_out=tuple(dict.fromkeys((*route.left_out, *lost))),
    )
