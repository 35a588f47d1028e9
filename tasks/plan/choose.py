"""HostFacts and a profile become a Plan: each role kept, changed or dropped, each with its reason.

Nothing is downgraded in silence: a role's wish is tried in order, every model that is passed over
leaves its reason in the decision, and `strict` refuses instead of stepping down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from tasks.contracts import (
    Catalogue,
    Decision,
    HostFacts,
    Model,
    Plan,
    PlannedModel,
    Profile,
    RuntimeName,
    RuntimeOffer,
    StoreView,
    Unknown,
    Wish,
)
from tasks.errors import HardwareMissingError, NoRoomError, RefusedError, UnknownProfileError
from tasks.plan.match import Fit, fit, fits
from tasks.wording import gib, listed

AUTO = "auto"
EMBEDDED = "embedded"
DISK_MARGIN_BYTES = 512 << 20
"""Room left over on the store's disk; chosen, so that logs and the run history still fit."""

NOTHING_CHANGED = "nothing was changed"


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for."""

    profile: str = AUTO
    strict: bool = False
    first_port: int = 7990


Offers = Mapping[RuntimeName, RuntimeOffer]


def make_plan(
    facts: HostFacts,
    catalogue: Catalogue,
    *,
    offers: Offers,
    store: StoreView,
    request: Request,
) -> Plan:
    """Place the bundle of the wanted profile on the host.

    Raises:
        UnknownProfileError: there is no such profile.
        HardwareMissingError: the named profile's hardware is not here.
        NoRoomError: the store's disk cannot hold what is still missing.
        RefusedError: with `strict`, a role would be changed or dropped; or no role is left.
    """
    profile, profile_why = _profile(facts, catalogue, request.profile)
    budget = _Budget(facts)
    rows = [_decide(wish, catalogue, offers=offers, budget=budget) for wish in profile.bundle]
    decisions = tuple(decision for decision, _ in rows)
    chosen = [(decision, model) for decision, model in rows if model is not None]
    models = tuple(
        _place(decision, model, port=request.first_port + index, store=store, offers=offers)
        for index, (decision, model) in enumerate(chosen)
    )
    _refuse_if(strict=request.strict, profile=profile, decisions=decisions, models=models)
    download = sum(model.download_bytes for model in models)
    plan = Plan(
        host=facts.host,
        profile=profile.name,
        profile_why=profile_why,
        models=models,
        decisions=decisions,
        download_bytes=download,
        disk_needed_bytes=2 * download + DISK_MARGIN_BYTES if download else 0,
        disk_free_bytes=next(disk.free_bytes for disk in facts.disks if disk.purpose == "store"),
        store=store.path,
        advice=_advice(facts, catalogue, profile),
    )
    _refuse_full_disk(plan)
    return plan


def _profile(facts: HostFacts, catalogue: Catalogue, name: str) -> tuple[Profile, str]:
    if name == AUTO:
        return _automatic(facts, catalogue)
    profile = catalogue.profiles.get(name)
    if profile is None:
        names = [AUTO, *catalogue.profiles]
        near = get_close_matches(name, names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UnknownProfileError(
            f"there is no profile {name!r}{hint}", NOTHING_CHANGED, f"choose one of {listed(names)}"
        )
    verdict = fit(profile, facts)
    if not verdict.fits:
        raise HardwareMissingError(
            f"profile {name} does not fit this host: {verdict.why}",
            NOTHING_CHANGED,
            "see what fits with `pmoves profile detect`, or take profile auto",
        )
    return profile, f"named; it fits: {verdict.why}"


def _automatic(facts: HostFacts, catalogue: Catalogue) -> tuple[Profile, str]:
    best = _best(facts, catalogue)
    silent = [
        f"no {one.name} answers ({one.detail})"
        for one in (facts.container_engine, facts.hub)
        if not one.answers
    ]
    if silent and EMBEDDED in catalogue.profiles:
        hardware = f"; by its hardware this host is {best.profile}" if best else ""
        return catalogue.profiles[EMBEDDED], f"auto: {listed(silent)}, so the embedded profile{hardware}"
    if best is None:
        raise HardwareMissingError(
            "no profile fits this host", NOTHING_CHANGED, "see why with `pmoves profile detect`"
        )
    return catalogue.profiles[best.profile], f"auto: the most specific profile that fits: {best.why}"


def _best(facts: HostFacts, catalogue: Catalogue) -> Fit | None:
    """Return the most specific profile that fits, other than the embedded one where there is one."""
    found = [one for one in fits(catalogue, facts) if one.fits]
    return next((one for one in found if one.profile != EMBEDDED), found[0] if found else None)


class _Budget:
    """Main memory that the models of this plan may still take; None when it is not known."""

    def __init__(self, facts: HostFacts) -> None:
        available = facts.memory.available_bytes
        self.left_bytes = None if isinstance(available, Unknown) else available

    def why_not(self, model: Model) -> str:
        if self.left_bytes is None or model.memory.value_bytes <= self.left_bytes:
            return ""
        return f"{model.name} takes {gib(model.memory.value_bytes)} and {gib(self.left_bytes)} are left"

    def take(self, model: Model) -> str:
        """Reserve a model's memory; return the clause with both numbers."""
        if self.left_bytes is None:
            return f"{_size(model)}; how much memory is available is not known"
        before = self.left_bytes
        self.left_bytes -= model.memory.value_bytes
        return f"{_size(model)} of the {gib(before)} available"


def _size(model: Model) -> str:
    kind = "" if model.memory.measured else " (estimated)"
    return f"{gib(model.memory.value_bytes)}{kind}"


def _decide(
    wish: Wish, catalogue: Catalogue, *, offers: Offers, budget: _Budget
) -> tuple[Decision, Model | None]:
    if not wish.models:
        return Decision(wish.role, "dropped", "none", None, wish.reason or "the profile wants none"), None
    first, passed_over = wish.models[0], []
    for name in wish.models:
        model = catalogue.models[name]
        why_not = _no_runtime(model, offers) or budget.why_not(model)
        if why_not:
            passed_over.append(why_not)
            continue
        runtime = _runtime(model, offers)
        clause = f"{runtime} runtime on the CPU, {budget.take(model)}"
        if not passed_over:
            return Decision(wish.role, "kept", first, name, clause), model
        return Decision(
            wish.role, "changed", first, name, f"{'; '.join(passed_over)}; {name}: {clause}"
        ), model
    return Decision(wish.role, "dropped", first, None, "; ".join(passed_over)), None


def _runtime(model: Model, offers: Offers) -> RuntimeName | None:
    if model.weights is None:
        return None
    return next((name for name in model.runtimes if name in offers and offers[name].available), None)


def _no_runtime(model: Model, offers: Offers) -> str:
    if _runtime(model, offers):
        return ""
    reasons = dict.fromkeys(offers[name].reason for name in model.runtimes if name in offers)
    return f"{model.name} needs {' or '.join(model.runtimes)}: {listed(list(filter(None, reasons)))}"


def _place(decision: Decision, model: Model, *, port: int, store: StoreView, offers: Offers) -> PlannedModel:
    runtime = _runtime(model, offers)
    if runtime is None or model.weights is None:
        raise AssertionError(f"{model.name} was chosen without a runtime")
    return PlannedModel(
        role=decision.role,
        model=model.name,
        runtime=runtime,
        residency="cpu",
        device="cpu",
        port=port,
        memory_bytes=model.memory.value_bytes,
        memory_measured=model.memory.measured,
        download_bytes=store.missing_bytes.get(model.name, model.weights.size_bytes),
        weights=model.weights,
        dimensions=model.dimensions,
        max_tokens=model.max_tokens,
    )


def _refuse_if(
    *, strict: bool, profile: Profile, decisions: tuple[Decision, ...], models: tuple[PlannedModel, ...]
) -> None:
    off = [one for one in decisions if one.verdict != "kept" and one.wish != "none"]
    if strict and off:
        raise RefusedError(
            f"with --strict, profile {profile.name} is refused: {off[0].role} would be {off[0].verdict}"
            f" ({off[0].why})",
            NOTHING_CHANGED,
            "leave out --strict to take what fits",
        )
    if not models:
        raise RefusedError(
            f"no role of profile {profile.name} can be served on this host ({decisions[0].why})",
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


def _advice(facts: HostFacts, catalogue: Catalogue, profile: Profile) -> tuple[str, ...]:
    """Say what is not here, and what it would add."""
    best = _best(facts, catalogue)
    hardware = catalogue.profiles[best.profile] if best else profile
    wishes = [f"{wish.role} ({wish.models[0]})" for wish in hardware.bundle if wish.models]
    lines = []
    if not facts.container_engine.answers:
        lines.append(
            f"A container engine is not here ({facts.container_engine.detail}). It is what the bundle of"
            f" {hardware.name} needs: {listed(wishes)}. This version does not start containers yet, so"
            " installing one adds these roles only with a later version."
        )
    if not facts.hub.answers:
        lines.append(
            f"The Hugging Face Hub does not answer ({facts.hub.detail}). Weights come from the package"
            " index instead, which carries only some models."
        )
    return tuple(lines)
