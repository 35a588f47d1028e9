"""A run's evidence as Markdown, for a Prefect artifact. What comes from outside stays text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from flows.report import (
    PLAN_HEAD,
    SERVER_HEAD,
    Rows,
    change_rows,
    fact_rows,
    plan_rows,
    plan_summary,
    server_rows,
)
from tasks.contracts import RunRecord


def markdown(head: Sequence[str], rows: Rows) -> str:
    """Write rows as a Markdown table; what comes from outside cannot break out of its cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def escape(text: str) -> str:
    """Make text safe inside a Markdown table cell."""
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("\n", " ")):
        text = text.replace(raw, safe)
    return text


def markdown_run(record: RunRecord) -> str:
    """Write a run's evidence as Markdown: what was seen, decided, done and measured."""
    parts = [f"# {escape(record.host)}: {record.outcome}", escape(record.error)]
    if record.facts is not None:
        parts += ["## Seen", markdown(("What", "Seen"), fact_rows(record.facts))]
    if record.plan is not None:
        plan = record.plan
        parts += [
            "## Decided",
            f"Profile **{escape(plan.profile)}**: {escape(plan.profile_why)}",
            markdown([name.capitalize() for name in PLAN_HEAD], plan_rows(plan)),
            escape(plan_summary(plan)),
            *(f"- {escape(line)}" for line in plan.advice),
        ]
    if record.changes:
        parts += ["## Done", markdown(("Resource", "Change", "Why"), change_rows(record.changes))]
    parts += _measured(record)
    return "\n\n".join(part for part in parts if part)


def _measured(record: RunRecord) -> list[str]:
    parts: list[str] = []
    if record.verified or record.route:
        head = [name.capitalize() for name in SERVER_HEAD]
        parts += ["## Measured", markdown(head, server_rows(record.verified, record.route))]
    answers = [
        (
            one.server.planned.model,
            answer.question,
            answer.expected,
            answer.got,
            "yes" if answer.right else "no",
        )
        for one in record.verified
        for answer in one.answers
    ]
    if answers:
        parts += ["## Answers", markdown(("Model", "Question", "Expected", "Got", "Right"), answers)]
    if record.timings:
        rows = [
            (one.stage, one.subject, f"{one.start_s:.2f} s", f"{one.seconds:.2f} s") for one in record.timings
        ]
        parts += ["## Timeline", markdown(("Stage", "Subject", "Start", "Took"), rows)]
    return parts
