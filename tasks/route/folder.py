"""The configs of one gateway, in the order in which a roll-out writes them.

    <state>/gateway/
      previous.toml                1  the last config that answered, to go back to
      candidate.toml               2  being tried; while it lies here, the last roll-out did not finish
      tensorzero.toml              3  in use: what the gateway reads
      rejected/<utc>-<hash8>.toml     did not load or did not answer; the newest 5 stay, for reading

After 3 and a good probe `candidate.toml` is removed. So whatever step a crash comes after, the next run
can tell the last good config from one that nobody has seen answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.effects.files import write_atomic

REJECTED_KEPT = 5


def digest(text: str) -> str:
    """Return the sha256 of a config, as the gateway's `/status` gives it."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ConfigFolder:
    """The configs below `path`, which is made when the first one is written."""

    path: Path

    @property
    def in_use(self) -> Path:
        """The file that the gateway reads."""
        return self.path / "tensorzero.toml"

    @property
    def candidate(self) -> Path:
        """The file that is being tried."""
        return self.path / "candidate.toml"

    @property
    def previous(self) -> Path:
        """The file to go back to."""
        return self.path / "previous.toml"

    def text(self) -> str | None:
        """Return the config in use."""
        return _read(self.in_use)

    def settled(self) -> bool:
        """Whether the last roll-out came to its end, good or bad."""
        return not self.candidate.exists()

    def last_good(self) -> str | None:
        """Return the newest config that is known to have answered.

        A candidate that is already in use never got that far, so the one before it is meant.
        """
        candidate, in_use = _read(self.candidate), self.text()
        unproven = candidate is not None and candidate == in_use
        return _read(self.previous) if unproven else in_use

    def propose(self, text: str) -> str | None:
        """Write a candidate; return the last good config, which is kept as the previous one."""
        good = self.last_good()
        _write(self.previous, good)
        _write(self.candidate, text)
        return good

    def put_in_use(self, text: str | None) -> None:
        """Make `text` what the gateway reads; with None it has nothing to read."""
        _write(self.in_use, text)

    def settle(self) -> None:
        """Note that the roll-out came to its end."""
        self.candidate.unlink(missing_ok=True)

    def reject(self) -> Path:
        """Move the candidate away, and return where it can be read."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{digest(self.candidate.read_text())[:8]}.toml"
        kept = self.path / "rejected" / name
        kept.parent.mkdir(exist_ok=True)
        self.candidate.rename(kept)
        for old in sorted(kept.parent.glob("*.toml"))[:-REJECTED_KEPT]:
            old.unlink(missing_ok=True)
        return kept


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        write_atomic(path, text)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
