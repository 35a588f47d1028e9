"""One run on one host: its lock, its clock, and what is undone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flows import host_run, settings
from flows.host_run import HostRun
from tasks.contracts import Event
from tasks.errors import BusyError, PullError, RefusedError, StateFolderError, StoppedError


class Recorder:
    """A supervisor that only remembers what it was asked to stop and to restore."""

    def __init__(self) -> None:
        self.restored: list[tuple[dict[str, str] | None, tuple[str, ...]]] = []
        self.stopped: list[str] = []

        self.programs = {"prefect-server": "conf"}

    def snapshot(self) -> dict[str, str]:
        """Return what is wanted now."""
        return dict(self.programs)

    def stop(self, name: str) -> None:
        """Remember."""
        self.stopped.append(name)
        self.programs.pop(name)

    def restore(self, before: dict[str, str] | None, *, keep: tuple[str, ...] = ()) -> None:
        """Remember."""
        self.restored.append((before, keep))


def make_run(
    tmp_path: Path, *, wait_s: float = 0, dry: bool = False
) -> tuple[HostRun, Recorder, list[Event]]:
    """Return a run on a host below `tmp_path`."""
    events: list[Event] = []
    where = dataclasses.replace(settings.load(), state=tmp_path / "state", store=tmp_path / "hub")
    run = HostRun(where, events.append, wait_s=wait_s, changes_host=not dry)
    run.supervisor = recorder = Recorder()  # type: ignore[assignment]
    return run, recorder, events


def test_a_second_run_is_refused_while_one_goes_on(tmp_path: Path) -> None:
    """The sentence names the run that holds the host."""
    first, _, _ = make_run(tmp_path)
    second, _, _ = make_run(tmp_path)

    with first, pytest.raises(BusyError, match=f"run {first.run}, pid "), second:
        pytest.fail("two runs held one host")


def test_the_host_is_free_again_after_a_run(tmp_path: Path) -> None:
    """The lock goes with the run, and so does the note of who held it."""
    for _ in range(2):
        run, _, _ = make_run(tmp_path)
        with run:
            assert (tmp_path / "state/run.json").exists()

    assert not (tmp_path / "state/run.json").exists()


def test_a_dry_run_needs_no_lock_and_leaves_nothing(tmp_path: Path) -> None:
    """It may look while another run goes on."""
    first, _, _ = make_run(tmp_path)
    dry, recorder, _ = make_run(tmp_path, dry=True)

    with first, pytest.raises(RefusedError), dry:
        raise RefusedError("no", "nothing", "nothing")

    assert [] == recorder.restored


def test_a_failed_run_goes_back_to_the_processes_of_before(tmp_path: Path) -> None:
    """The control plane stays up, so that the failure can be read there."""
    run, recorder, _ = make_run(tmp_path)

    def started_then_failed() -> None:
        recorder.programs |= {"model-x": "conf", "gateway": "conf"}
        raise PullError("broken", "nothing", "nothing")

    with pytest.raises(PullError), run:
        started_then_failed()

    assert [({"prefect-server": "conf"}, ("prefect-server", "prefect-worker"))] == recorder.restored
    assert ["model-x"] == recorder.stopped
    assert run.stop.is_set()


def test_a_failed_run_that_started_nothing_undoes_nothing(tmp_path: Path) -> None:
    """There is nothing to go back from, and nothing is said of it."""
    run, recorder, events = make_run(tmp_path)

    with pytest.raises(PullError), run:
        raise PullError("broken", "nothing", "nothing")

    assert [] == recorder.restored
    assert [] == events


def test_a_good_run_undoes_nothing(tmp_path: Path) -> None:
    """What it started stays."""
    run, recorder, _ = make_run(tmp_path)

    with run:
        pass

    assert [] == recorder.restored


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    """The sentence names the folder and the reason."""
    (tmp_path / "state").write_text("a file where the folder should be")
    run, _, _ = make_run(tmp_path)

    with pytest.raises(StateFolderError, match=r"state cannot be written \(.+\); nothing was changed"), run:
        pytest.fail("the run went on")


def test_timings_are_kept_also_of_what_failed(tmp_path: Path) -> None:
    """The record shows the stage that broke."""
    run, _, _ = make_run(tmp_path)
    with pytest.raises(PullError), run.timed("pull", "a"):
        raise PullError("broken", "nothing", "nothing")

    made = run.record(error=None, flow_run="", wanted="auto")

    assert [("pull", "a")] == [(one.stage, one.subject) for one in made.timings]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "changed"),
        (RefusedError("a", "b", "c"), "refused"),
        (PullError("a", "b", "c"), "failed"),
        (StoppedError("a", "b", "c"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError("x"), "failed"),
    ],
)
def test_outcomes(error: BaseException | None, outcome: str) -> None:
    """Every end of a run has a name."""
    assert outcome == host_run.outcome_of(error)
