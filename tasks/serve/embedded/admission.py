"""How much may wait at once. What is over the limits is refused, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.serve.embedded.options import Limits
from tasks.serve.embedded.wire import Refusal


class Admission:
    """Counts the texts and the body bytes of all requests that are being answered."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.texts = 0
        self.body_bytes = 0

    @contextmanager
    def request(self) -> Iterator[Ticket]:
        """Hold a ticket for one request; what it took is given back at the end."""
        ticket = Ticket(self)
        try:
            yield ticket
        finally:
            self.texts -= ticket.texts
            self.body_bytes -= ticket.body_bytes

    def check(self) -> None:
        """Refuse when more is held than the limits allow."""
        if self.texts > self._limits.queue_texts:
            raise self._full(f"{self._limits.queue_texts} texts wait already")
        if self.body_bytes > self._limits.queue_bytes:
            raise self._full(f"{self._limits.queue_bytes >> 20} MiB of requests wait already")

    def _full(self, why: str) -> Refusal:
        return Refusal(503, "queue_full", f"{why}; send this again in a second", retry_after_s=1)


class Ticket:
    """What one request holds."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.texts = 0
        self.body_bytes = 0

    def add(self, *, texts: int = 0, body_bytes: int = 0) -> None:
        """Take more.

        Raises:
            Refusal: with 503, when that is too much.
        """
        self.texts += texts
        self.body_bytes += body_bytes
        self._admission.texts += texts
        self._admission.body_bytes += body_bytes
        self._admission.check()
