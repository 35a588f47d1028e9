"""Which clouds may answer for one need of a service, and why others do not. Pure.

A prompt leaves this host for a cloud when three agree: the service says that it may (`may_leave`), the
operator did not forbid it, and the provider's key is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.contracts import Catalogue, CloudModel, Provider, Role, RouteTier, Routing, Use
from tasks.wording import listed

MayLeave = frozenset[str] | None
"""What the operator says: None is as the services say, an empty set is nothing at all, and a set of
functions is those too."""


@dataclass(frozen=True, slots=True)
class Ways:
    """The clouds behind one function, in the order of the fallbacks; `left_out` says which are not."""

    affordable: tuple[RouteTier, ...] = ()
    premium: tuple[RouteTier, ...] = ()
    left_out: tuple[str, ...] = ()


def leaves(use: Use, may_leave: MayLeave) -> bool:
    """Whether the prompts of a use may leave the host."""
    if may_leave is None:
        return use.may_leave
    return bool(may_leave) and (use.may_leave or use.function in may_leave)


def ways(use: Use, routing: Routing, cloud: tuple[str, ...], may_leave: MayLeave) -> Ways:
    """Return the clouds that may answer for a use.

    Args:
        use: what a service needs; without a function, the gateway has no way to a cloud for it.
        routing: the clouds that there are.
        cloud: providers that have a key.
        may_leave: what the operator says.
    """
    named = tuple(one.cloud for one in use.fallbacks if one.cloud)
    if not named or use.function is None:
        return Ways()
    if not leaves(use, may_leave):
        are = "are" if len(named) > 1 else "is"
        return Ways(
            left_out=(f"prompts of {use.function} stay in the house, so {listed(named)} {are} left out",)
        )
    models = {one.name: one for one in routing.models}
    providers = {one.name: one for one in routing.providers}
    tiers: list[RouteTier] = []
    left_out: list[str] = []
    for name in named:
        model, provider = models.get(name), providers.get(name.partition("/")[0])
        if model is None or provider is None:
            left_out.append(f"{name} is not in the catalogue")
        elif why := _refused(use, model, provider, cloud):
            left_out.append(why)
        else:
            tiers.append(RouteTier(provider.tier, provider.name, name))
    return Ways(
        tuple(tier for tier in tiers if tier.tier != "premium"),
        tuple(tier for tier in tiers if tier.tier == "premium"),
        tuple(left_out),
    )


def reached(role: Role, catalogue: Catalogue, cloud: tuple[str, ...], may_leave: MayLeave) -> tuple[str, ...]:
    """Return the providers that answer for a role when this host has no model for it."""
    found = {
        tier.name
        for service in catalogue.services.values()
        for use in service.uses
        if use.role == role
        for tier in ways(use, catalogue.routing, cloud, may_leave).affordable
    }
    return tuple(name for name in cloud if name in found)


def _refused(use: Use, model: CloudModel, provider: Provider, cloud: tuple[str, ...]) -> str:
    if use.role not in model.roles:
        does = "reads no images" if use.role == "vision" else f"is no model for {use.role}"
        return f"{model.name} {does}, so it is left out"
    if provider.name not in cloud:
        what = "answer what is marked as complex" if provider.tier == "premium" else "take over"
        return f"{model.name} would {what}, but {provider.key} is not set"
    return ""
