"""The Prefect progress artifact of a run's downloads follows the events, seldom, and never fails a run."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from flows import progress
from flows.progress import ProgressArtifact, described
from flows.tally import Tally
from tasks.contracts import Event
from tests.lab.weights import wait_for

pytestmark = pytest.mark.real  # it imports Prefect, which takes seconds

MIB = 1 << 20


def told(done: int, *, subject: str = "lab", message: str = "fetching org/name") -> Event:
    """Return an event of a download of 100 MiB."""
    return Event("pull", subject, message, done * MIB, 100 * MIB)


class Server:
    """Stands in for Prefect's functions; `broken` lets every one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, broken: bool = False) -> None:
        self.updates: list[tuple[float, str]] = []
        self.made: list[str] = []
        self.id = uuid4()
        self.broken = broken
        monkeypatch.setattr(progress, "create_progress_artifact", self.create)
        monkeypatch.setattr(progress, "update_progress_artifact", self.update)

    def create(self, *, progress: float, key: str, description: str) -> UUID:
        """Make an artifact."""
        if self.broken:
            raise ConnectionError
        self.made.append(f"{key} {progress} {description}")
        return self.id

    def update(self, artifact: UUID, *, progress: float, description: str) -> None:
        """Change it."""
        if self.broken:
            raise ConnectionError
        assert artifact == self.id
        self.updates.append((progress, description))


def test_it_follows_and_ends_with_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events there are, it is updated on its own beat, and once more at the end."""
    server = Server(monkeypatch)
    monkeypatch.setattr(progress, "EVERY_S", 0.05)
    with ProgressArtifact("vm") as sink:
        for done in range(51):
            sink(told(done))
        wait_for(lambda: server.updates, what="the first update")
        sink(told(100))

    assert server.made == ["downloads-vm 0.0 no downloads yet"]
    assert server.updates[-1][0] == 100.0
    assert len(server.updates) < 20
    assert "| lab | 100 % | 100.0 MiB of 100.0 MiB |" in server.updates[-1][1]


def test_nothing_changes_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same state is not sent twice."""
    server = Server(monkeypatch)
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    with ProgressArtifact("vm") as sink:
        sink(told(100))
        wait_for(lambda: server.updates, what="the first update")
        for _ in range(20):
            sink(told(100))

    assert len(server.updates) == 1


def test_a_server_that_is_away_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reporting is best effort."""
    Server(monkeypatch, broken=True)
    monkeypatch.setattr(progress, "EVERY_S", 0.01)

    with ProgressArtifact("vm") as sink:
        sink(told(10))

    server = Server(monkeypatch)
    with ProgressArtifact("vm") as sink:
        sink(told(10))
        server.broken = True


def test_a_stall_is_named() -> None:
    """Whoever looks at the Prefect UI sees that a download stands still."""
    tally = Tally()
    tally.take(told(10, message="stalled: no byte from hub for 20 s"))

    text = described(tally.total(), tally.rows())

    assert text.startswith("**10.0 MiB of 100.0 MiB, stalled: no byte from hub for 20 s**")
