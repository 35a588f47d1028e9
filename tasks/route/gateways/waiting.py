"""Waiting for a gateway that was started: what all kinds do alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as Flag
from typing import Any, TypeVar

from tasks.effects.http import OK, Http, HttpError
from tasks.errors import StoppedError

T = TypeVar("T")
POLL_S = 0.05
STATUS_TIMEOUT_S = 2.0
INTACT = "the gateways that ran before still run"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and what ends it early."""

    deadline_s: float
    stop: Flag | None = None

    def until(self, told: Callable[[], T | None]) -> T | None:
        """Return what is told, once it is not None; None when the time is over.

        Raises:
            StoppedError: the run was asked to stop.
        """
        ends = time.monotonic() + self.deadline_s
        while True:
            if self.stop is not None and self.stop.is_set():
                raise StoppedError("stopped while a gateway came up", INTACT, "start the run again")
            value = told()
            if value is not None or time.monotonic() > ends:
                return value
            time.sleep(POLL_S)


def status(http: Http, port: int) -> dict[str, Any] | None:
    """Return what `/status` says; None where nobody answers as a gateway does."""
    try:
        reply = http.get(f"http://127.0.0.1:{port}/status", timeout_s=STATUS_TIMEOUT_S)
        found = reply.json() if reply.status == OK else None
    except HttpError:
        return None
    return found if isinstance(found, dict) else None
