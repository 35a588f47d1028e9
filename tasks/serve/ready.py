"""Waiting for a server: until its health path answers 200, it dies, or it does nothing any more.

A slow load is not a failure: the deadline grows with what is to be read, and while processes work the wait
goes on. One that stands still is a failure long before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tasks.effects.http import OK, HttpError
from tasks.errors import ServeError
from tasks.serve.context import ServeContext

POLL_S, LOOK_S = 0.05, 0.5
SLOWEST_BYTES_PER_S = 25_000_000
"""An SD card, or a disk that others use too: who reads slower than this is not waited for. Chosen."""

INTACT = "its weights stay on the disk and the routes that were in use stay in use"


@dataclass(frozen=True, slots=True)
class Watched:
    """A server that is waited for.

    `dead` returns an error as soon as the server has ended for good; `activity` is a number that changes
    while it does anything, None where nobody can tell. `log` is where its output can be read.
    """

    subject: str
    url: str
    size_bytes: int
    dead: Callable[[], ServeError | None]
    activity: Callable[[], int | None] = lambda: None
    log: str = ""


def deadline_s(ctx: ServeContext, size_bytes: int) -> float:
    """Return how long a server of so many bytes may take to load."""
    return ctx.deadline_s + size_bytes / SLOWEST_BYTES_PER_S


def wait_until_ready(one: Watched, ctx: ServeContext, *, within_s: float | None = None) -> float:
    """Return the seconds until the health path answered 200.

    Raises:
        ServeError: it ended, stands still, or is not ready in time.
        StoppedError: the run was asked to stop.
    """
    begun = time.monotonic()
    mark: int | None
    limit_s = deadline_s(ctx, one.size_bytes) if within_s is None else within_s
    last, looked, moved, mark = "no answer", begun, begun, None
    while (now := time.monotonic()) - begun < limit_s:
        ctx.refuse_stop(one.subject)
        try:
            reply = ctx.http.get(one.url, timeout_s=2.0)
        except HttpError as error:
            last = str(error)
        else:
            if reply.status == OK:
                return time.monotonic() - begun
            last = reply.shown()
        if now - looked >= LOOK_S or now - begun < LOOK_S:
            looked = now
            if (failure := one.dead()) is not None:
                raise failure
            found = one.activity()
            if found is None or found != mark:
                moved, mark = now, found
        if now - moved > ctx.quiet_s:
            raise _failure(one, f"does nothing for {ctx.quiet_s:g} s while it loads (last answer: {last})")
        time.sleep(POLL_S)
    raise _failure(one, f"did not answer {one.url} within {limit_s:.0f} s (last answer: {last})")


def _failure(one: Watched, what: str) -> ServeError:
    return ServeError(
        f"the server of {one.subject} {what}",
        INTACT,
        f"read {one.log}, then run `pmoves provision` again" if one.log else "run `pmoves provision` again",
    )
