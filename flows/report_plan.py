"""A plan as text for a terminal: what goes where, its picture, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from flows.picture_text import blocks
from flows.report import Rows, columns
from tasks.contracts import (
    Catalogue,
    Decision,
    Model,
    Plan,
    PlanChange,
    PlannedModel,
    RuntimeName,
    ServicePlan,
    Variant,
)
from tasks.wording import gib, listed, plural

PLAN_HEAD = (
    "ROLE",
    "VERDICT",
    "MODEL",
    "RUNTIME",
    "RESIDENCY",
    "ON",
    "MEMORY",
    "CONTEXT",
    "SPEED",
    "DOWNLOAD",
)
WIDTH = 100
SOURCES: tuple[RuntimeName, ...] = ("ollama", "tei")
"""One runtime for each kind of origin that a variant can have."""


def plan_rows(plan: Plan) -> Rows:
    """Return a row a role."""
    placed = {role: model for model in plan.models for role in (model.role, *model.also)}
    return [_row(one, placed.get(one.role)) for one in plan.decisions]


def plan_table(plan: Plan) -> tuple[list[str], Rows]:
    """Return head and rows without contexts, speeds and downloads where there are none."""
    rows = plan_rows(plan)
    used = [
        at
        for at, name in enumerate(PLAN_HEAD)
        if name not in {"CONTEXT", "SPEED", "DOWNLOAD"} or any(row[at] for row in rows)
    ]
    return [PLAN_HEAD[at] for at in used], [[row[at] for at in used] for row in rows]


def _row(one: Decision, model: PlannedModel | None) -> tuple[str, ...]:
    if model is None:
        return (one.role, one.verdict, "", "", one.residency, "", "", "", "", "")
    shared = model.role != one.role
    memory = gib(model.memory_bytes) + ("" if model.memory_measured else " est.")
    cache = "" if model.need is None or not model.need.kv_bytes else f"{model.context} {model.kv_type}"
    speed = (
        ""
        if model.speed is None
        else f"{model.speed.per_s:g} {model.speed.unit}" + ("" if model.speed.measured else " est.")
    )
    return (
        one.role,
        one.verdict,
        f"{model.model} {model.quantisation}".strip(),
        model.runtime,
        model.residency,
        model.device,
        f"with {model.role}" if shared else memory,
        cache,
        speed,
        gib(model.download_bytes) if model.download_bytes and not shared else "",
    )


def plan_summary(plan: Plan) -> str:
    """Write what a plan would download, in one line."""
    count = sum(model.download_bytes > 0 for model in plan.models)
    if not count:
        return f"nothing to download; {gib(plan.disk_free_bytes)} free in the store"
    return (
        f"{plural(count, 'model')} to download ({gib(plan.download_bytes)}); disk:"
        f" {gib(plan.disk_needed_bytes)} needed, {gib(plan.disk_free_bytes)} free in {plan.store}"
    )


def format_plan(plan: Plan, *, explain: bool = False, width: int = WIDTH) -> str:
    """Write a plan.

    Args:
        plan: the plan.
        explain: write every step of every role's ladder, not the decision alone.
        width: columns of the terminal.
    """
    head, rows = plan_table(plan)
    apply = f"pmoves provision {plan.profile}" + (", on such a host" if plan.assumed else "")
    parts = [
        _wrapped(f"{plan.profile}   {plan.host}: {plan.profile_why}", width),
        columns(head, rows),
        "",
        blocks(plan, max(60, min(width, 200))) if plan.devices else "",
        "",
        *(line for one in plan.decisions for line in _why(one, explain=explain, width=width)),
        *_services(plan.services, explain=explain, width=width),
        *(_wrapped(line, width) for line in (*plan.marks, *(f"Assumed: {one}." for one in plan.assumed))),
        _wrapped(f"{plan_summary(plan)}. Apply: {apply}", width),
        *(_wrapped(line, width) for line in plan.advice),
    ]
    return "\n".join(parts)


def _why(one: Decision, *, explain: bool, width: int) -> list[str]:
    if not explain or not one.steps:
        return [_wrapped(f"{one.role}: {one.verdict}: {one.why}", width)]
    steps = [_wrapped(f"{'+' if step.taken else '-'} {step.text}", width, indent="  ") for step in one.steps]
    return [f"{one.role}: {one.verdict}", *steps]


def service_rows(services: Sequence[ServicePlan]) -> Rows:
    """Return a row a service: whether it is served, and by what; a star marks what it is not made for."""
    return [
        (
            one.title,
            "yes" if one.served else "no",
            ", ".join(
                dict.fromkeys(f"{use.role} {use.by or '-'}{'' if use.as_wished else '*'}" for use in one.uses)
            ),
        )
        for one in services
    ]


def _services(services: Sequence[ServicePlan], *, explain: bool, width: int) -> list[str]:
    if not services:
        return []
    if explain:
        return ["", *(_wrapped(service_line(one), width) for one in services), ""]
    starred = any(not use.as_wished for one in services for use in one.uses)
    note = ["* not as the service asks; what that changes: pmoves plan --explain"] if starred else []
    return ["", columns(("SERVICE", "SERVED", "BY"), service_rows(services)), *note, ""]


def service_line(one: ServicePlan) -> str:
    """Return what one service gets."""
    uses = [
        f"{use.purpose} by {use.by}" + (f" ({use.why})" if use.why else "")
        if use.by
        else f"no {use.purpose} ({use.why})"
        for use in one.uses
    ]
    return f"{one.title}: {'served' if one.served else 'not served'}; {'; '.join(uses)}."


def _wrapped(text: str, width: int, *, indent: str = "") -> str:
    lines = wrap(text, max(width, 40), initial_indent=indent, subsequent_indent=indent + "  ",
                 break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return "\n".join(lines)


# --- differences and models ----------------------------------------------------------------------


def format_difference(changes: Sequence[PlanChange]) -> str:
    """Write what a run would do, like a plan of an infrastructure tool."""
    signs = {"create": "+", "replace": "~", "remove": "-", "keep": " "}
    rows = [(f"{signs[one.kind]} {one.resource}", one.kind, one.reason) for one in changes]
    fetched = sum(one.download_bytes for one in changes)
    kinds = ("create", "replace", "remove", "keep")
    counts = [f"{sum(one.kind == kind for one in changes)} to {kind}" for kind in kinds]
    total = f"{listed(counts)}; {gib(fetched)} to fetch" if fetched else f"{listed(counts)}; nothing to fetch"
    return columns(("RESOURCE", "CHANGE", "WHY"), rows) + f"\n{total}"


def format_models(catalogue: Catalogue, role: str) -> str:
    """Write the catalogue, a row a variant."""
    rows = [
        (
            model.name if first else "",
            ", ".join(model.roles) or "none",
            variant.name,
            ", ".join(variant.runtimes) or "none",
            gib(max(variant.size_bytes(name) for name in SOURCES)),
            _marks(model) if first else "",
        )
        for model in catalogue.models.values()
        if not role or role in model.roles
        for first, variant in _firsts(model)
    ]
    return columns(("MODEL", "ROLES", "VARIANT", "RUNTIMES", "SIZE", "LICENCE AND MARKS"), rows)


def _firsts(model: Model) -> list[tuple[bool, Variant]]:
    return [(at == 0, variant) for at, variant in enumerate(model.variants)]


def _marks(model: Model) -> str:
    marks = [model.licence]
    marks += ["non-commercial"] if model.non_commercial else []
    marks += ["gated"] if model.gated else []
    marks += [f"not served here: {model.unserved}"] if model.unserved else []
    return ", ".join(marks)
