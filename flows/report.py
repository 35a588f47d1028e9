"""Records as text for a terminal: aligned columns, "-" for nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flows.measured import figure
from flows.picture import clean
from flows.report_curl import curl_line
from flows.timeline import CHAIN, timeline, took
from tasks.contracts import (
    Catalogue,
    Change,
    ContainerState,
    Plan,
    ProcessState,
    Profile,
    Reach,
    Route,
    RunRecord,
    Unknown,
    VerifiedServer,
    Wish,
)
from tasks.plan.match import Fit
from tasks.record.history import History
from tasks.route.proxy.contract import PROGRAM
from tasks.wording import gib, listed, plural

Rows = Sequence[Sequence[str]]
MS = 1000
WIDE_LIMIT = 12
FEWEST_WHOLE, FEWEST_TENTHS = 9.95, 0.05
DIGEST_SHOWN = len("sha256:") + 12


def columns(head: Sequence[str], rows: Rows) -> str:
    """Align rows under their heads; an empty cell prints as "-"."""
    table = [list(head), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return "\n".join(line.rstrip() for line in lines)


def known(value: object) -> str:
    """Write a fact, or why it is not known."""
    return f"unknown: {value.unknown}" if isinstance(value, Unknown) else str(value)


def size(value: int | Unknown) -> str:
    """Write bytes, or why they are not known."""
    return f"unknown: {value.unknown}" if isinstance(value, Unknown) else gib(value)


def answering(reach: Reach) -> str:
    """Write whether something answers."""
    return f"{'answers' if reach.answers else 'does not answer'}: {reach.detail} ({reach.address})"


# --- a run ---------------------------------------------------------------------------------------


def server_rows(verified: tuple[VerifiedServer, ...], route: Route | None) -> Rows:
    """Return a row a server, and one for the gateway."""
    rows: list[tuple[str, ...]] = [
        (one.server.planned.role, one.server.planned.model, one.server.base_url, _right(one.answers),
         f"{one.latency_s * MS:.0f} ms", pace(one),
         "" if isinstance(one.memory_bytes, Unknown) else gib(one.memory_bytes))
        for one in verified
    ]  # fmt: skip
    if route is not None:
        latency = f"{route.answers[0].seconds * MS:.0f} ms" if route.answers else ""
        rows.append(("gateway", "TensorZero", route.base_url, _right(route.answers), latency, "", ""))
    return rows


def pace(one: VerifiedServer) -> str:
    """Write how fast a server is in what its role counts, and how soon it begins to answer."""
    per_s, unit = figure(one)
    first = (
        f"first token after {took(one.performance.first_token_s)}" if one.performance.first_token_s else ""
    )
    return ", ".join(filter(None, (f"{_figure(per_s)} {unit}" if per_s else "", first)))


def _figure(value: float) -> str:
    return (
        f"{value:.0f}" if value >= FEWEST_WHOLE else f"{value:.1f}" if value >= FEWEST_TENTHS else "under 0.1"
    )


def troubles(verified: Iterable[VerifiedServer]) -> list[str]:
    """Return a line for each server that is not as planned, and one for each finding."""
    servers = tuple(verified)
    degraded = [(one.server.planned.model, one.degraded) for one in servers if one.degraded]
    found = [(one.server.planned.model, finding) for one in servers for finding in one.findings]
    lines = [f"DEGRADED: {model}: {why}" for model, why in degraded]
    return [clean(line) for line in (*lines, *(f"finding: {model}: {what}" for model, what in found))]


def not_served(plan: Plan) -> list[str]:
    """Return a line for each reason for which roles of the bundle are changed or dropped."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in plan.decisions:
        if one.verdict != "kept":
            reasons.setdefault((one.verdict, one.why), []).append(one.role)
    return [f"{verdict}: {listed(roles)} ({why})" for (verdict, why), roles in reasons.items()]


SERVER_HEAD = ("ROLE", "MODEL", "ADDRESS", "VERIFIED", "LATENCY", "SPEED", "MEMORY")


def _right(answers: Sequence[object]) -> str:
    right = sum(getattr(answer, "right", False) for answer in answers)
    return f"{right} of {len(answers)} right"


def change_rows(changes: Iterable[Change]) -> Rows:
    """Return a row a resource."""
    return [(change.resource, change.kind, change.reason) for change in changes]


def format_run(record: RunRecord, ui_url: str, *, guarded: bool = False) -> str:
    """Write what a run left behind; the last lines can be pasted. A `guarded` gateway wants a token."""
    lines = [columns(("RESOURCE", "CHANGE", "WHY"), change_rows(record.changes)), ""]
    if record.verified or record.route:
        lines += [columns(SERVER_HEAD, server_rows(record.verified, record.route)), ""]
        lines += [*found, ""] if (found := troubles(record.verified)) else []
    if record.plan is not None:
        lines += [*record.plan.warnings, *not_served(record.plan), *record.plan.advice, ""]
    if len({one.subject for one in record.timings if one.stage in CHAIN}) > 1:
        lines.append(timeline(record).said)
    lines.append(f"{record.outcome} in {record.seconds:.1f} s (run {record.run})")
    if record.flow_run:
        lines.append(f"Evidence: {ui_url}/runs/flow-run/{record.flow_run}")
    if record.route is not None and record.route.models:
        lines += ["Try it:", f"  {curl_line(record.route, guarded=guarded)}"]
    return "\n".join(lines)


# --- lists ---------------------------------------------------------------------------------------


def format_history(history: History, limit: int) -> str:
    """Write the newest runs, newest first."""
    rows = [
        (one.run, one.started_at, _profile(one), one.outcome,
         f"{one.seconds:.1f} s", one.error or _did(one))
        for one in reversed(history.records[-limit:])
    ]  # fmt: skip
    table = columns(("RUN", "STARTED", "PROFILE", "OUTCOME", "TOOK", "WHAT"), rows)
    torn = f"\n{plural(history.unreadable, 'line')} could not be read" if history.unreadable else ""
    return table + torn


def _profile(record: RunRecord) -> str:
    """Return the profile that a run took; of a rollback, where it went."""
    back = record.profile_wanted.startswith("rollback ")
    return record.profile_wanted if back or record.plan is None else record.plan.profile


def _did(record: RunRecord) -> str:
    done = [f"{change.kind} {change.resource}" for change in record.changes if change.kind != "keep"]
    return ", ".join(done[:WIDE_LIMIT]) or f"{plural(len(record.changes), 'resource')} as wanted"


def addresses(record: RunRecord | None) -> dict[str, str]:
    """Return where each process or container answers, as the last good run left it."""
    if record is None or record.route is None:
        return {}
    servers = {one.server.name: one.server.base_url for one in record.verified}
    containers = {
        one.server.container: one.server.base_url for one in record.verified if one.server.container
    }
    return {**servers, **containers, **_gateway_addresses(record.route)}


def _gateway_addresses(route: Route) -> dict[str, str]:
    """Return the public address at the proxy, and which gateway is behind it now."""
    if not route.proxy:
        return {route.process.name: route.base_url}
    behind = f"behind {PROGRAM}"
    names = {route.process.name: behind, **({route.container: behind} if route.container else {})}
    return {**names, PROGRAM: route.base_url}


def format_status(
    states: Iterable[ProcessState],
    where: Mapping[str, str],
    supervisor_pid: int,
    now: float,
    containers: Iterable[ContainerState] = (),
) -> str:
    """Write what runs, and where it answers: processes, then containers."""
    rows = [
        (one.name, one.state, str(one.pid) if one.pid else "",
         f"{now - one.started_at:.0f} s" if one.running else "", where.get(one.name, ""), one.log)
        for one in states
    ]  # fmt: skip
    if supervisor_pid:
        rows.insert(0, ("supervisord", "running", str(supervisor_pid), "", "", ""))
    boxes = [
        (one.name, _state(one), str(one.restarts) if one.restarts else "",
         f"{now - one.started_at:.0f} s" if one.running and one.started_at else "",
         _answers_at(one, where), short_image(one.image))
        for one in containers
    ]  # fmt: skip
    tables = [
        columns(head, table)
        for head, table in (
            (("PROCESS", "STATE", "PID", "UP", "ADDRESS", "LOG"), rows),
            (("CONTAINER", "STATE", "RESTARTS", "UP", "ADDRESS", "IMAGE"), boxes),
        )
        if table
    ]
    return "\n\n".join(tables) or "nothing runs"


def _state(one: ContainerState) -> str:
    """Write a container's state, and how it ended where it did not do so by itself."""
    if one.running or not (one.exit_code or one.oom_killed):
        return one.state
    why = "out of memory" if one.oom_killed else f"code {one.exit_code}"
    return f"{one.state} ({why})"


def _answers_at(one: ContainerState, where: Mapping[str, str]) -> str:
    """Return where a container answers: as the last run left it, or by the port that is published now."""
    if not one.running:
        return ""
    published = f"http://127.0.0.1:{one.published}" if one.published else ""
    return where.get(one.name) or where.get(one.server) or published


def short_image(image: str) -> str:
    """Write an image with the first twelve digits of its digest, as engines list it."""
    name, at, digest = image.partition("@")
    return f"{name}{at}{digest[:DIGEST_SHOWN]}"


def format_profiles(catalogue: Catalogue, current: str | None) -> str:
    """Write every profile, and mark the current one."""
    rows = [
        ("*" if one.name == current else "", one.name, one.title, one.hardware)
        for one in catalogue.profiles.values()
    ]
    return columns(("", "PROFILE", "TITLE", "HARDWARE"), rows)


def format_profile(profile: Profile) -> str:
    """Write one profile: what it is for and what it wishes for."""
    head = f"{profile.name}: {profile.title}\nfor {profile.hardware}\n"
    names = ("ROLE", "MODELS, BEST FIRST", "QUANTISATIONS", "TOKENS", "KV", "AT ONCE", "MAY", "WHY")
    rows = [_wish_row(wish) for wish in profile.bundle]
    used = [at for at, name in enumerate(names) if name != "QUANTISATIONS" or any(row[at] for row in rows)]
    return head + columns([names[at] for at in used], [[row[at] for at in used] for row in rows])


def _wish_row(wish: Wish) -> tuple[str, ...]:
    """Write a wish: the tokens that it asks for, and the fewest; what it may do where it does not fit."""
    if not wish.models:
        return (wish.role, "none", *[""] * 5, wish.reason or "")
    fewest = f", at least {wish.min_context}" if wish.min_context else ""
    return (
        wish.role,
        ", then ".join(wish.models),
        ", ".join(wish.quantisations),
        f"{wish.context}{fewest}" if wish.context else "",
        ", ".join(wish.kv_types) if wish.context else "",
        str(wish.parallel),
        ", ".join(wish.may),
        wish.reason or "",
    )


def format_fits(found: Iterable[Fit]) -> str:
    """Write which profiles fit, best first, and why the others do not."""
    rows = [(one.profile, "yes" if one.fits else "no", one.why) for one in found]
    return columns(("PROFILE", "FITS", "WHY"), rows)


def shown(path: Path, home: Path) -> str:
    """Write a path with ~ for the home folder."""
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
