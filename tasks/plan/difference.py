"""A plan against the last good run of the host: what to fetch, start, replace, stop and route. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.contracts import Plan, PlanChange, PlannedModel, PlannedRoute, PlannedServer, Role, RunRecord
from tasks.wording import gib, listed


def difference(plan: Plan, last: RunRecord | None) -> tuple[PlanChange, ...]:
    """Return what a run of `plan` would do to each resource, in the order in which it would be done.

    Args:
        plan: what is wanted now.
        last: the newest good run of the host, or None when there was none.
    """
    before = last.plan if last is not None else None
    old_models = before.models if before else ()
    return (
        *_weights(plan.models, old_models),
        *_servers(plan, before),
        *_routes(plan.models, old_models),
        *_functions(plan.routes, before.routes if before else ()),
    )


def _weights(now: tuple[PlannedModel, ...], before: tuple[PlannedModel, ...]) -> Iterator[PlanChange]:
    old = {_bytes_of(one) for one in before}
    for one in now:
        if one.runtime == "external":
            continue
        name = f"weights {_name(one)}"
        if one.download_bytes:
            why = (
                f"{gib(one.download_bytes)} are missing"
                if _bytes_of(one) in old
                else f"{gib(one.download_bytes)} are new"
            )
            yield PlanChange(name, "create", why, one.download_bytes)
        else:
            yield PlanChange(name, "keep", "on the disk, digests match")
    kept = {_bytes_of(one) for one in now}
    for one in before:
        if one.runtime != "external" and _bytes_of(one) not in kept:
            yield PlanChange(f"weights {_name(one)}", "keep", "no longer planned; they stay on the disk")


def _servers(plan: Plan, before: Plan | None) -> Iterator[PlanChange]:
    old = {one.name: one for one in _servers_of(before)} if before else {}
    now = {one.name: one for one in _servers_of(plan)}
    models = {one.model: one for one in plan.models}
    old_models = {one.model: one for one in before.models} if before else {}
    for name, one in now.items():
        if one.external:
            yield PlanChange(f"server {name}", "keep", f"{one.external} is not ours")
            continue
        if name not in old:
            yield PlanChange(f"server {name}", "create", f"to serve {', '.join(one.models)}")
            continue
        changes = [*_server_changes(one, old[name]), *_model_changes(one, models, old_models)]
        kind, why = ("replace", "; ".join(changes)) if changes else ("keep", "as in the last run")
        yield PlanChange(f"server {name}", kind, why)  # type: ignore[arg-type]  # both are change kinds
    for name, one in old.items():
        if name not in now and not one.external:
            yield PlanChange(f"server {name}", "remove", f"{', '.join(one.models)} is no longer planned")


def _servers_of(plan: Plan) -> tuple[PlannedServer, ...]:
    """Return a plan's servers; records of older versions have a process for each model."""
    return plan.servers or tuple(
        PlannedServer(
            f"model-{one.model}", one.runtime, one.residency, (one.device,), (one.model,), one.port, ()
        )
        for one in plan.models
    )


def _server_changes(now: PlannedServer, before: PlannedServer) -> Iterator[str]:
    for name in ("runtime", "residency", "port"):
        if getattr(now, name) != getattr(before, name):
            yield f"{name} {getattr(before, name)} → {getattr(now, name)}"
    for name in ("devices", "models"):
        if getattr(now, name) != getattr(before, name):
            yield f"{name} {'+'.join(getattr(before, name))} → {'+'.join(getattr(now, name))}"
    then, image = (one.image.reference if one.image else "" for one in (before, now))
    if image != then:
        yield f"image {then or 'none'} → {image or 'none'}"
    old, new = dict(before.settings), dict(now.settings)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield f"{key} {old.get(key, 'unset')} → {new.get(key, 'unset')}"


def _model_changes(
    server: PlannedServer, now: dict[str, PlannedModel], before: dict[str, PlannedModel]
) -> Iterator[str]:
    for name in server.models:
        one, old = now[name], before.get(name)
        if old is None:
            continue
        if old.quantisation and one.quantisation != old.quantisation:
            yield f"{name} {old.quantisation} → {one.quantisation}"
        elif _bytes_of(one) != _bytes_of(old):
            yield f"{name} has other bytes"
        if one.context != old.context and old.context:
            yield f"context of {name} {old.context} → {one.context}"


def _routes(now: tuple[PlannedModel, ...], before: tuple[PlannedModel, ...]) -> Iterator[PlanChange]:
    new, old = _by_role(now), _by_role(before)
    for role, one in new.items():
        if role not in old:
            yield PlanChange(f"route {role}", "create", f"to {one.model}")
        elif old[role].model != one.model:
            yield PlanChange(f"route {role}", "replace", f"{old[role].model} → {one.model}")
        else:
            yield PlanChange(f"route {role}", "keep", f"to {one.model}, as in the last run")
    for role, one in old.items():
        if role not in new:
            yield PlanChange(f"route {role}", "remove", f"{one.model} is no longer planned")


def _functions(now: tuple[PlannedRoute, ...], before: tuple[PlannedRoute, ...]) -> Iterator[PlanChange]:
    new, old = ({one.function: _order(one) for one in some if one.tiers} for some in (now, before))
    for name, order in new.items():
        if name not in old:
            yield PlanChange(f"function {name}", "create", f"to {order}")
        elif order != old[name]:
            yield PlanChange(f"function {name}", "replace", f"{old[name]} → {order}")
        else:
            yield PlanChange(f"function {name}", "keep", f"to {order}, as in the last run")
    for name, order in old.items():
        if name not in new:
            yield PlanChange(f"function {name}", "remove", f"nobody answers in the place of {order}")


def _order(route: PlannedRoute) -> str:
    marked = [tier.by for tier in route.complex_tiers if tier.tier == "premium"]
    first = f" ({listed(marked)} first where marked as complex)" if marked else ""
    return ", ".join(tier.by for tier in route.tiers) + first


def _by_role(models: tuple[PlannedModel, ...]) -> dict[Role, PlannedModel]:
    return {role: one for one in models for role in (one.role, *one.also)}


def _bytes_of(one: PlannedModel) -> tuple[object, ...]:
    """Return what tells two versions of a model's bytes apart."""
    if one.ollama is not None:
        return ("ollama", one.ollama.tag, one.ollama.digest)
    if one.weights is not None:
        return (one.weights.repo, one.weights.revision)
    return ("repo", one.repo.repo if one.repo else one.model, one.quantisation)


def _name(one: PlannedModel) -> str:
    return f"{one.model} {one.quantisation}".strip()
