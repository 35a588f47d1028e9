"""What the gateway's functions are, and who answers them: local first, then clouds in their order. Pure."""

from __future__ import annotations

from tasks.contracts import (
    Catalogue,
    PlannedModel,
    PlannedRoute,
    RouteTier,
    ServedUse,
    ServicePlan,
    Use,
)
from tasks.plan.clouds import MayLeave, Ways, ways

LOCAL = "local"
"""What the variant of this host's own model is called in every function."""


def routes(
    catalogue: Catalogue,
    models: tuple[PlannedModel, ...],
    services: tuple[ServicePlan, ...],
    cloud: tuple[str, ...],
    *,
    may_leave: MayLeave = None,
) -> tuple[PlannedRoute, ...]:
    """Return a route for every use that has a function, in the order of the services.

    One that nobody can answer has no tier, and says why.

    Args:
        catalogue: its services and clouds.
        models: what the plan places.
        services: by what each service is served.
        cloud: providers that have a key.
        may_leave: what the operator lets leave this host.
    """
    return tuple(
        _route(plan.service, use, got, models=models, clouds=ways(use, catalogue.routing, cloud, may_leave))
        for plan in services
        for use, got in zip(catalogue.services[plan.service].uses, plan.uses, strict=True)
        if use.function is not None
    )


def _route(
    service: str, use: Use, got: ServedUse, *, models: tuple[PlannedModel, ...], clouds: Ways
) -> PlannedRoute:
    here = any(one.model == got.by and use.role in {one.role, *one.also} for one in models)
    local = (RouteTier("local", LOCAL, got.by),) if here else ()
    tiers = (*local, *clouds.affordable)
    difficult = (*clouds.premium, *clouds.affordable, *local) if tiers and clouds.premium else ()
    alone = tuple(
        f"{tier.by} answers what is marked as complex, and nobody would answer the rest"
        for tier in clouds.premium
        if not tiers
    )
    return PlannedRoute(
        function=use.function or "",
        service=service,
        role=use.role,
        purpose=use.purpose,
        tiers=tiers,
        complex_tiers=difficult,
        left_out=(*(() if here else (f"this host has no model for {use.role}",)), *clouds.left_out, *alone),
        temperature=use.temperature,
        top_p=use.top_p,
        max_tokens=use.max_tokens or 0,
    )
