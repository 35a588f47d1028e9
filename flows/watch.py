"""What a person sees while a run goes on: a live display in a terminal, plain lines elsewhere.

Everything here goes to standard error, so that standard output holds data alone.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from flows.tally import ALL, Row, Tally
from tasks.contracts import Event, Sink, silent

SAY_BYTES_EVERY_S = 5.0

WATCHER: ContextVar[Sink | None] = ContextVar("watcher", default=None)
"""Who watches the run that this process started itself; None in a worker, where the log watches."""


def line(event: Event, row: Row | None = None) -> str:
    """Write an event as one line; `row` is how far its download is."""
    share = f" ({row})" if row else ""
    return f"{event.stage:<7} {event.subject}: {event.message}{share}"


class Plain:
    """A sink that prints lines; of events that only count bytes, one every few seconds."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._tally = Tally()
        self._whole: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Print the event if it is due."""
        self._tally.take(event)
        with self._lock:
            now = time.monotonic()
            whole = 0 < event.total_bytes <= event.done_bytes
            if whole and event.subject in self._whole:
                return
            self._whole = {*self._whole, event.subject} if whole else self._whole - {event.subject}
            if event.total_bytes and not whole and now - self._last.get(event.subject, 0) < SAY_BYTES_EVERY_S:
                return
            self._last[event.subject] = now
            row = replace(self._tally.row(event.subject), note="") if event.total_bytes else None
            self._write(line(event, row))


class Live:
    """A sink that keeps a bar for each download that goes on and one for all, and prints all else above."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._bars: dict[str, TaskID] = {}
        self._tally = Tally()
        self._whole = progress.add_task(ALL, total=None, visible=False)

    def __call__(self, event: Event) -> None:
        """Show the event."""
        with self._lock:
            if not event.total_bytes:
                self._progress.console.print(line(event), markup=False, highlight=False, soft_wrap=True)
                return
            self._tally.take(event)
            bar = self._bars.pop(event.subject, None)
            if bar is None:
                bar = self._progress.add_task(event.subject, total=event.total_bytes)
            if event.done_bytes >= event.total_bytes:
                self._progress.remove_task(bar)
            else:
                self._bars[event.subject] = bar
                note = self._tally.row(event.subject).note
                named = f"{event.subject} ({note})" if note else event.subject
                self._progress.update(
                    bar, completed=event.done_bytes, total=event.total_bytes, description=escape(named)
                )
            self._sum_up()

    def _sum_up(self) -> None:
        """Keep the bar of all downloads, as long as there are several."""
        total, several = self._tally.total(), len(self._tally.rows()) > 1
        self._progress.update(
            self._whole,
            total=total.total_bytes,
            completed=total.done_bytes,
            visible=several and bool(self._bars),
        )


@contextmanager
def watching(*, quiet: bool) -> Iterator[Sink]:
    """Watch a run from this process for the block."""
    if quiet:
        sink: Sink = silent
        yield from _installed(sink)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _installed(Plain(_print))
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        yield from _installed(Live(progress))


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _installed(sink: Sink) -> Iterator[Sink]:
    token = WATCHER.set(sink)
    try:
        yield sink
    finally:
        WATCHER.reset(token)


def to_log(logger: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> Sink:
    """Return a sink that writes to a run's log."""
    return Plain(lambda text: logger.info("%s", text))


def both(first: Sink, second: Sink) -> Sink:
    """Return a sink that tells two who watch."""

    def tell(event: Event) -> None:
        first(event)
        second(event)

    return tell
