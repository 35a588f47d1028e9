"""The Prefect progress artifact of a run's downloads: at most one update a second, and never a failed run."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.tally import Row, Tally
from tasks.contracts import Event

EVERY_S = 1.0
PATIENCE_S = 5.0


class ProgressArtifact:
    """A sink that keeps one artifact up to date while its block goes on; made with the first bytes."""

    def __init__(self, host: str, tally: Tally | None = None) -> None:
        self._key = f"downloads-{host}"
        self._tally = tally or Tally()
        self._over = threading.Event()
        self._made: UUID | None = None
        self._shown: tuple[float, str] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="progress artifact", daemon=True)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        self._tally.take(event)

    def __enter__(self) -> Self:
        # An artifact belongs to the run in whose context it is made, which is this thread's.
        with suppress(Exception):
            made = create_progress_artifact(progress=0.0, key=self._key, description="no downloads yet")
            self._made = made if isinstance(made, UUID) else None
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S)

    def _keep(self) -> None:
        while not self._over.wait(EVERY_S):
            self._show()
        self._show()

    def _show(self) -> None:
        if self._made is None:
            return
        total, rows = self._tally.total(), self._tally.rows()
        state = (round(total.percent, 1), described(total, rows))
        if rows and state != self._shown:
            # Reporting is best effort: a Prefect server that is away must not stop a download.
            with suppress(Exception):
                update_progress_artifact(self._made, progress=state[0], description=state[1])
                self._shown = state


def described(total: Row, rows: tuple[Row, ...]) -> str:
    """Write all downloads as Markdown."""
    lines = [f"**{total}**", "", "| model | | |", "|---|---|---|"]
    lines += [f"| {row.subject} | {row.percent:.0f} % | {row} |" for row in rows]
    return "\n".join(lines)
