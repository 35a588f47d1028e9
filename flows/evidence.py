"""A run's evidence as Markdown, for a Prefect artifact. What comes from outside stays text. Pure.

What went wrong comes first: servers that died, those that are not where the plan has them, and findings.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

from flows import timeline_svg
from flows.evidence_routes import TIER_HEAD, gateway_parts, tier_rows
from flows.evidence_servers import image_lines, lie_rows
from flows.evidence_text import escape, fenced
from flows.picture import title
from flows.picture_svg import svg
from flows.report import SERVER_HEAD, Rows, server_rows
from flows.report_facts import fact_rows
from flows.report_plan import plan_summary, plan_table, service_line
from flows.timeline import timeline
from tasks.contracts import Plan, RunRecord, VerifiedServer


def markdown(head: Sequence[str], rows: Rows) -> str:
    """Write rows as a Markdown table; what comes from outside cannot break out of its cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def markdown_run(record: RunRecord) -> str:
    """Write a run's evidence as Markdown: what was seen, decided, done and measured."""
    parts = [f"# {escape(record.host)}: {record.outcome}", escape(record.error), *_troubles(record)]
    if record.facts is not None:
        parts += ["## Seen", markdown(("What", "Seen"), fact_rows(record.facts))]
    if record.plan is not None:
        parts += _decided(record.plan)
    if record.changes:
        lines = [f"- **{one.kind}** {escape(one.resource)}: {escape(one.reason)}" for one in record.changes]
        parts += ["## Done", "\n".join(lines)]
    parts += _measured(record)
    return "\n\n".join(part for part in parts if part)


def _decided(plan: Plan) -> list[str]:
    """Write the reasons below the table: Prefect's UI does not wrap a table's cells."""
    head, rows = plan_table(plan)
    why = [f"- **{one.role}** {one.verdict}: {escape(one.why)}" for one in plan.decisions]
    return [
        "## Decided",
        f"Profile **{escape(plan.profile)}**: {escape(plan.profile_why)}",
        "\n\n".join(f"**{escape(line)}**" for line in plan.warnings),
        markdown([name.capitalize() for name in head], rows),
        "\n".join(why),
        escape(plan_summary(plan)),
        *([picture(plan)] if plan.devices else []),
        *_steps(plan),
        *_services(plan),
        "\n".join(f"- {escape(line)}" for line in (*plan.marks, *plan.advice)),
    ]


def picture(plan: Plan) -> str:
    """Write a plan's memory picture into the page itself: Prefect's UI shows such an image."""
    return _image(title(plan), svg(plan))


def _image(name: str, drawn: str) -> str:
    data = b64encode(drawn.encode()).decode()
    return f"![{escape(name)}](data:image/svg+xml;base64,{data})"


def _troubles(record: RunRecord) -> list[str]:
    """Write what a person must see: the last words of servers that died, what is degraded, and findings."""
    parts: list[str] = []
    for one in record.logs:
        parts += [
            f"## {escape(one.server)} died",
            escape(one.cause),
            fenced(one.tail) or "It printed nothing.",
        ]
    degraded = [_of(one, one.degraded) for one in record.verified if one.degraded]
    found = [_of(one, finding) for one in record.verified for finding in one.findings]
    parts += ["## Degraded", "\n".join(degraded)] if degraded else []
    return [*parts, *(["## Findings", "\n".join(found)] if found else [])]


def _of(one: VerifiedServer, sentence: str) -> str:
    return f"- **{escape(one.server.planned.model)}**: {escape(sentence)}"


def _steps(plan: Plan) -> list[str]:
    steps = [
        f"- {one.role}: {'**taken**' if step.taken else 'refused'}: {escape(step.text)}"
        for one in plan.decisions
        if one.verdict != "kept"
        for step in one.steps
    ]
    return ["### Every step", "\n".join(steps)] if steps else []


def _services(plan: Plan) -> list[str]:
    lines = [f"- {escape(service_line(one))}" for one in plan.services]
    return ["### Services", "\n".join(lines)] if lines else []


def _measured(record: RunRecord) -> list[str]:
    parts: list[str] = []
    if record.verified or record.route:
        head = [name.capitalize() for name in SERVER_HEAD]
        parts += ["## Measured", markdown(head, server_rows(record.verified, record.route))]
    if rows := lie_rows(record.verified):
        head = ["Model", "Device", "Planned", "Measured", "Difference", "Who says so"]
        parts += ["## Where they lie", markdown(head, rows)]
    answers = [
        f"- {'right' if one.right else '**wrong**'}, {escape(server.server.planned.model)}:"
        f" {escape(one.question)}: expected {escape(one.expected)}, got {escape(one.got)}"
        for server in record.verified
        for one in server.answers
    ]
    if answers:
        parts += ["## Answers", "\n".join(answers)]
    if lines := image_lines(record):
        parts += ["## Images", "\n".join(f"- {escape(line)}" for line in lines)]
    return [*parts, *_gateway(record), *_timeline(record)]


def _gateway(record: RunRecord) -> list[str]:
    if record.route is None:
        return []
    rows = tier_rows(record.route)
    return ["## Gateway", *([markdown(TIER_HEAD, rows)] if rows else []), *gateway_parts(record.route)]


def _timeline(record: RunRecord) -> list[str]:
    """Write the timeline as a picture, in one sentence, and as a table with every figure of the picture."""
    if not record.timings:
        return []
    shown = timeline(record)
    rows = [
        (one.stage, one.subject, f"{one.start_s:.2f} s", f"{one.seconds:.2f} s") for one in record.timings
    ]
    return [
        "## Timeline",
        _image(shown.title, timeline_svg.svg(shown)),
        escape(shown.said),
        markdown(("Stage", "Subject", "Start", "Took"), rows),
    ]
