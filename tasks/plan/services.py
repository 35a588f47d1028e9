"""Which PMOVES services the bundle serves, by what, and what takes over where it does not. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.contracts import (
    Catalogue,
    Decision,
    PlannedModel,
    Role,
    ServedUse,
    Service,
    ServicePlan,
    Use,
)
from tasks.plan.clouds import MayLeave, Ways, ways
from tasks.wording import listed


def services(
    catalogue: Catalogue,
    models: tuple[PlannedModel, ...],
    decisions: tuple[Decision, ...],
    cloud: tuple[str, ...],
    *,
    may_leave: MayLeave = None,
) -> tuple[ServicePlan, ...]:
    """Return what each service gets.

    Args:
        catalogue: its services and models.
        models: what the plan places.
        decisions: what became of each role of the bundle.
        cloud: providers that have a key.
        may_leave: what the operator lets leave this host.
    """
    placed = {role: one for one in models for role in (one.role, *one.also)}
    lost = {one.role: one for one in decisions if one.role not in placed}
    return tuple(
        _service(
            one,
            catalogue=catalogue,
            placed=placed,
            lost=lost,
            clouds=tuple(ways(use, catalogue.routing, cloud, may_leave) for use in one.uses),
        )
        for one in catalogue.services.values()
    )


def _service(
    service: Service,
    *,
    catalogue: Catalogue,
    placed: Mapping[Role, PlannedModel],
    lost: Mapping[Role, Decision],
    clouds: tuple[Ways, ...],
) -> ServicePlan:
    uses = tuple(
        _use(use, placed.get(use.role), lost.get(use.role), catalogue=catalogue, clouds=ways_of)
        for use, ways_of in zip(service.uses, clouds, strict=True)
    )
    served = all(got.by or not use.required for use, got in zip(service.uses, uses, strict=True))
    return ServicePlan(service.name, service.title, served, uses)


def _use(
    use: Use,
    model: PlannedModel | None,
    decision: Decision | None,
    *,
    catalogue: Catalogue,
    clouds: Ways,
) -> ServedUse:
    if model is not None:
        wished = not use.models or model.model in use.models
        notes = [] if wished else [_instead(use, model, catalogue)]
        notes += _short(use, model)
        return ServedUse(use.role, use.purpose, model.model, wished and not notes, "; ".join(notes))
    why = decision.why if decision else f"the bundle has no role {use.role}"
    if clouds.affordable:
        by = clouds.affordable[0].by
        return ServedUse(use.role, use.purpose, by, as_wished=False, why=f"{why}; {by} takes over")
    return ServedUse(use.role, use.purpose, "", as_wished=False, why="; ".join([why, *_could(use, clouds)]))


def _instead(use: Use, model: PlannedModel, catalogue: Catalogue) -> str:
    """Say what stands in for the model that a service is made for, and what that changes."""
    wanted, known = catalogue.models[use.models[0]], catalogue.models.get(model.model)
    text = f"it is made for {listed(list(use.models))}, and {model.model} takes over"
    if use.role != "embeddings" or (known and known.dimensions == wanted.dimensions):
        return text
    if known is None:
        return f"{text}, which is not in the catalogue: what was stored with the other must be embedded again"
    return (
        f"{text} with {known.dimensions} dimensions in place of {wanted.dimensions}:"
        " what was stored with the other must be embedded again"
    )


def _short(use: Use, model: PlannedModel) -> list[str]:
    if use.context and model.context and model.context < use.context:
        return [
            f"it sends up to {use.context} tokens and {model.model} takes {model.context}: cut longer ones"
        ]
    return []


def _could(use: Use, clouds: Ways) -> list[str]:
    """Say what the service does without, and why no cloud takes over."""
    texts = [one.text for one in use.fallbacks if one.text]
    alone = [f"{tier.by} answers only what is marked as complex" for tier in clouds.premium]
    return [*texts, *clouds.left_out, *alone]
