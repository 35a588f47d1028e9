"""The host's own journal: one line of JSON a run, synced before the run ends. It is the truth.

    <state>/hosts/<host>/history.jsonl

A line that a crash tore, or that a newer version wrote, is passed over and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from tasks.contracts import RunRecord
from tasks.effects.files import append_line
from tasks.errors import StateFolderError

GOOD = ("changed", "nothing to do")


@dataclass(frozen=True, slots=True)
class History:
    """What a journal holds, oldest first, and how many of its lines could not be read.

    `unread` names the runs of those lines that say so much.
    """

    records: tuple[RunRecord, ...]
    unreadable: int
    unread: tuple[str, ...] = ()

    def last_good(self) -> RunRecord | None:
        """Return the newest run that left the host as planned."""
        return next((one for one in reversed(self.records) if one.outcome in GOOD), None)


def journal(state: Path, host: str) -> Path:
    """Return where the journal of `host` is."""
    return state / "hosts" / host / "history.jsonl"


def append(path: Path, record: RunRecord) -> None:
    """Add one run to the journal."""
    append_line(path, msgspec.json.encode(record).decode())


def read(path: Path) -> History:
    """Read a journal; one that is not there is empty.

    Raises:
        StateFolderError: it is there and cannot be read.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return History((), 0)
    except OSError as error:
        raise StateFolderError(
            f"the history {path} cannot be read ({error.strerror})",
            "it is as it was",
            "read it as the user who owns it, or set PMOVES_STATE to your own folder",
        ) from error
    decoder = msgspec.json.Decoder(RunRecord)
    records, unreadable, unread = [], 0, []
    for line in filter(None, lines):
        try:
            records.append(decoder.decode(line))
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            unreadable += 1
            unread += _run_of(line)
    return History(tuple(records), unreadable, tuple(unread))


class _Run(msgspec.Struct):
    """The one field that every version has written."""

    run: str


def _run_of(line: bytes) -> list[str]:
    try:
        return [msgspec.json.decode(line, type=_Run).run]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
