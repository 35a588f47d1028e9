"""What `pmoves doctor` shows and writes: the facts, and the raw values that they come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from flows.planning import where
from flows.report import columns
from flows.report_facts import fact_rows
from flows.settings import Settings
from tasks.contracts import HostFacts
from tasks.detect import capture
from tasks.detect.look import look
from tasks.detect.root import Root
from tasks.errors import UsageError

WIDE = 100


@dataclass(frozen=True, slots=True)
class Examination:
    """One look, and all that it read."""

    facts: HostFacts
    files: dict[str, str | None]
    answers: dict[str, str]


def examine(settings: Settings) -> tuple[Examination, Root]:
    """Look at this host and keep what was read."""
    root = Root()
    facts = look(where(settings), root)
    return Examination(facts, dict(sorted(root.files.items())), dict(sorted(root.answers.items()))), root


def format_examination(found: Examination) -> str:
    """Write what each probe saw, then the raw values."""
    raw = [(f"/{path}", short(text)) for path, text in found.files.items()]
    raw += [(f"{name} answered", short(text)) for name, text in found.answers.items()]
    return columns(("WHAT", "SEEN"), fact_rows(found.facts)) + "\n\n" + columns(("READ", "RAW"), raw)


def short(text: str | None) -> str:
    """Write the first line that fits, and how many follow."""
    if text is None:
        return "is there"
    lines = [" ".join(line.split()) for line in text.replace("\0", " ").splitlines()] or [""]
    more = f"  (+{len(lines) - 1} lines)" if len(lines) > 1 else ""
    return (lines[0] if len(lines[0]) <= WIDE else lines[0][:WIDE] + "…") + more


def write_capture(path: Path, found: Examination, root: Root) -> None:
    """Write a case file.

    Raises:
        UsageError: the file cannot be written.
    """
    text = json.dumps(capture.case(found.facts, root), indent=1) + "\n"
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror})",
            "nothing was changed",
            "name a file in a folder that is there",
        ) from error
