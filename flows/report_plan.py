"""A plan as text for a terminal: what goes where, its picture, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from flows.picture_text import blocks
from flows.report import Rows, columns
from flows.report_images import images_line, images_table
from flows.report_plan_routes import left_out_lines, routes_table
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
WIDTH, NARROWEST_PICTURE, WIDEST_PICTURE = 100, 60, 200
NAMED = {"CONTEXT", "SPEED", "DOWNLOAD"}
"""Columns that are left out where they say nothing."""

SOURCES: tuple[RuntimeName, ...] = ("ollama", "tei")
"""One runtime for each kind of origin that a variant can have."""


def plan_rows(plan: Plan) -> Rows:
    """Return a row a role."""
    placed = {role: model for model in plan.models for role in (model.role, *model.also)}
    return [_row(one, placed.get(one.role)) for one in plan.decisions]


def plan_table(plan: Plan) -> tuple[list[str], Rows]:
    """Return head and rows without contexts, speeds and downloads where there are none."""
    rows = plan_rows(plan)
    used = [at for at, name in enumerate(PLAN_HEAD) if name not in NAMED or any(row[at] for row in rows)]
    return [PLAN_HEAD[at] for at in used], [[row[at] for at in used] for row in rows]


def _row(one: Decision, model: PlannedModel | None) -> tuple[str, ...]:
    if model is None:
        return (one.role, one.verdict, "", "", one.residency, "", "", "", "", "")
    shared = model.role != one.role
    if model.runtime == "external":
        where = f"at {model.external}" if not shared else f"with {model.role}"
        return (one.role, one.verdict, model.model, model.runtime, model.residency, where, "", "", "", "")
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
    count, images = sum(model.download_bytes > 0 for model in plan.models), images_line(plan)
    if not count:
        return f"nothing to download; {gib(plan.disk_free_bytes)} free in the store{images}"
    return (
        f"{plural(count, 'model')} to download ({gib(plan.download_bytes)}); disk:"
        f" {gib(plan.disk_needed_bytes)} needed, {gib(plan.disk_free_bytes)} free in {plan.store}{images}"
    )


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a plan is written on: columns of the terminal, and whether it holds tables and block signs."""

    width: int = WIDTH
    narrow: bool = False
    ascii_only: bool = False


def format_plan(plan: Plan, *, explain: bool = False, sheet: Sheet = Sheet(), apply: str = "") -> str:
    """Write a plan.

    Args:
        plan: the plan.
        explain: write every step of every role's ladder, not the decision alone.
        sheet: where it is written. On a narrow one, a table that does not fit is written a role a paragraph.
        apply: the profile and the options that provision it, as they are written on a command line.
    """
    width = sheet.width
    command = f"pmoves provision {apply or plan.profile}" + (", on such a host" if plan.assumed else "")
    bars = max(NARROWEST_PICTURE, min(width, WIDEST_PICTURE))
    parts = [
        _wrapped(f"{plan.profile}   {plan.host}: {plan.profile_why}", width),
        *(_wrapped(line, width) for line in plan.warnings),
        _roles(plan, sheet),
        "",
        blocks(plan, bars, ascii_only=sheet.ascii_only) if plan.devices else "",
        "",
        *(line for one in plan.decisions for line in _why(one, explain=explain, width=width)),
        *_services(plan.services, explain=explain, width=width),
        *_routes(plan, sheet, explain=explain),
        *images_table(plan, width if sheet.narrow else None),
        *(_wrapped(line, width) for line in (*plan.marks, *(f"Assumed: {one}." for one in plan.assumed))),
        _wrapped(f"{plan_summary(plan)}. Apply: {command}", width),
        *(_wrapped(line, width) for line in plan.advice),
    ]
    return "\n".join(parts)


def _roles(plan: Plan, sheet: Sheet) -> str:
    """Write a row a role; where that is too wide for a narrow sheet, a paragraph a role."""
    head, rows = plan_table(plan)
    table = columns(head, rows)
    if not sheet.narrow or max(map(len, table.splitlines())) <= sheet.width:
        return table
    lines = []
    for row in rows:
        cells = [
            f"{name.lower()} {cell}" if name in NAMED else cell
            for name, cell in zip(head[3:], row[3:], strict=True)
            if cell
        ]
        lines += [_wrapped("  ".join(row[:3]).rstrip(), sheet.width)]
        lines += [_wrapped(", ".join(cells), sheet.width, indent="  ")] if cells else []
    return "\n".join(lines)


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


def _routes(plan: Plan, sheet: Sheet, *, explain: bool) -> list[str]:
    table = routes_table(plan.routes, sheet.width if sheet.narrow else None)
    lines = [_wrapped(line, sheet.width) for line in left_out_lines(plan.routes, explain=explain)]
    return [*table, *lines, ""] if table else []


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
