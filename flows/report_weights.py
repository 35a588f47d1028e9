"""Weights as text for a terminal: what is fetched, pinned, held and needed by nobody. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.report import columns, shown
from tasks.contracts import OllamaTag, PlannedModel, PulledModel, Weights
from tasks.pull.inventory import Held, Inventory, Removal
from tasks.wording import gib, plural

if TYPE_CHECKING:
    from tasks.pull.export import ExportReport
    from tasks.pull.resolve.lock import Moved
    from tasks.pull.resolve.resolve import Resolved
    from tasks.pull.resolve.verdict import Demand

DIGITS = 12


def format_resolved(resolved: Sequence[Resolved], demands: Sequence[Demand]) -> str:
    """Write what would be fetched, and what each disk would take."""
    rows = [
        (
            one.planned.model,
            one.planned.quantisation,
            *_origin(one.planned),
            gib(one.missing_bytes) if one.missing_bytes else "",
        )
        for one in resolved
    ]
    table = columns(("MODEL", "VARIANT", "FROM", "PIN", "FILES", "SIZE", "TO FETCH"), rows)
    disks = [f"{one.folder}: {gib(one.missing_bytes)} to come, {gib(one.free_bytes)} free" for one in demands]
    return "\n".join([table, "", *disks])


def _origin(planned: PlannedModel) -> tuple[str, str, str, str]:
    if isinstance(planned.weights, Weights):
        one = planned.weights
        return one.repo, one.revision[:DIGITS], str(len(one.files)), gib(one.size_bytes)
    if isinstance(planned.ollama, OllamaTag):
        return planned.ollama.tag, (planned.ollama.digest or "")[:DIGITS], "", gib(planned.ollama.size_bytes)
    if planned.repo is not None:
        return planned.repo.repo, "", "", gib(planned.repo.size_bytes)
    return "", "", "", ""


def format_pulled(pulled: Sequence[PulledModel]) -> str:
    """Write what became of each model."""
    rows = [(one.planned.model, one.change.kind, one.source, one.change.reason) for one in pulled]
    fetched = sum(one.fetched_bytes for one in pulled)
    return columns(("MODEL", "CHANGE", "FROM", "WHY"), rows) + f"\n\n{gib(fetched)} fetched"


def format_pinned(pinned: Sequence[tuple[PlannedModel, str]]) -> str:
    """Write which bytes are pinned, and by what."""
    rows = [(one.model, one.quantisation, *_origin(one), by) for one, by in pinned]
    return columns(("MODEL", "VARIANT", "FROM", "PIN", "FILES", "SIZE", "PINNED BY"), rows)


def format_moved(moved: Sequence[Moved]) -> str:
    """Write which pins moved."""
    if not moved:
        return "every pin is what its source has now"
    rows = [
        (
            one.name,
            one.before[:DIGITS],
            one.after[:DIGITS],
            gib(one.size_before_bytes) if one.size_before_bytes else "",
            gib(one.size_after_bytes),
        )
        for one in moved
    ]
    table = columns(("NAME", "PIN BEFORE", "PIN NOW", "SIZE BEFORE", "SIZE NOW"), rows)
    return f"{table}\n\n{plural(len(moved), 'pin')} moved; the next pull or run brings these bytes"


def format_inventory(
    found: Inventory, faults: Mapping[str, str], tags: Mapping[str, str], *, home: Path
) -> str:
    """Write what lies in the store, and in Ollama."""
    rows = [
        (
            one.repo,
            one.revision[:DIGITS],
            str(one.files),
            gib(one.size_bytes),
            _state(one),
            "; ".join(one.used_by),
        )
        for one in found.held
    ]
    head = ("REPOSITORY", "REVISION", "FILES", "SIZE", "STATE", "USED BY")
    parts = [columns(head, rows) if rows else "no weights", ""]
    parts += [f"damaged: {path}: {fault}" for path, fault in sorted(faults.items())]
    parts += [f"broken off: {one.repo}, {gib(one.held_bytes)} to go on from" for one in found.broken]
    if tags:
        parts += [columns(("OLLAMA TAG", "DIGEST"), [(tag, digest[:DIGITS]) for tag, digest in tags.items()])]
        parts += [""]
    held = sum(one.size_bytes for one in found.held)
    store = shown(Path(found.cache), home)
    return "\n".join([*parts, f"{gib(held)} in {store}, {gib(found.free_bytes)} free there"])


def _state(one: Held) -> str:
    whose = "ours" if one.ours else "others'"
    verified = "verified" if one.verified == one.files else f"{one.verified} of {one.files} verified"
    return f"{whose}, {verified}" if one.used_by or not one.ours else f"{whose}, {verified}, orphaned"


def format_removals(found: Sequence[Removal], *, freed: int | None, home: Path) -> str:
    """Write what would go, or what went."""
    if not found:
        return "every file that was put here is in a record that is kept"
    rows = [
        (shown(Path(one.path), home), gib(one.size_bytes) if one.size_bytes else "", one.why) for one in found
    ]
    table = columns(("FILE", "FREES", "WHY"), rows)
    if freed is None:
        return f"{table}\n\n{plural(len(found), 'file')}, {gib(sum(one.size_bytes for one in found))} to free"
    return f"{table}\n\n{plural(len(found), 'file')} removed, {gib(freed)} freed"


def format_export(made: ExportReport) -> str:
    """Write what an export holds now."""
    return str(made)
