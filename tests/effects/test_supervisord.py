"""supervisord, the real one: it keeps up what it started, and takes down what it should."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.contracts import ProcessSpec
from tasks.effects.pids import alive, orphans
from tasks.effects.supervisord import Supervisord
from tasks.errors import ServeError

pytestmark = pytest.mark.real

PATIENCE_S = 20


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def sleeper(name: str = "one", **environment: str) -> ProcessSpec:
    """Return a process that prints its environment and waits."""
    program = "import os, signal; print(os.environ.get('SAY'), flush=True); signal.pause()"
    return ProcessSpec(name, (sys.executable, "-c", program), tuple(environment.items()))


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisord]:
    """Return the supervisor of a new state folder; nothing of it is left after the test."""
    made = Supervisord(tmp_path / "state")
    yield made
    made.shutdown()
    assert () == orphans(tmp_path / "state")


def test_nothing_runs_before_the_first_start(supervisor: Supervisord) -> None:
    """Looking starts nothing."""
    assert ({}, 0, None) == (supervisor.states(), supervisor.pid(), supervisor.snapshot())


def test_a_process_that_is_killed_comes_back(supervisor: Supervisord) -> None:
    """With another pid, under the same name."""
    first = supervisor.start(sleeper())
    os.kill(first.pid, signal.SIGKILL)

    until(lambda: supervisor.states()["one"].pid not in {0, first.pid}, "it was not restarted")

    assert supervisor.states()["one"].running


def test_an_environment_value_arrives_as_it_is(supervisor: Supervisord) -> None:
    """Percent signs, quotes and blanks survive supervisord's own grammar."""
    value = """50% of "it" \\ and more, = too"""
    supervisor.start(sleeper(SAY=value))

    until(lambda: value in supervisor.log_tail("one"), supervisor.log_tail("one"))


def test_a_value_that_cannot_be_carried_is_refused(supervisor: Supervisord) -> None:
    """Rather than a process with another value."""
    with pytest.raises(ServeError, match="both kinds of quotes"):
        supervisor.start(sleeper(SAY="'\""))


def test_a_command_is_told_as_it_was_given(supervisor: Supervisord) -> None:
    """Of what runs and of what fell; a name that is not known has none."""
    odd = ("a b", "50%", "it's", '"', "--x=1")
    supervisor.start(ProcessSpec("one", (*sleeper().command, *odd)))

    assert (*sleeper().command, *odd) == supervisor.command("one")
    assert () == supervisor.command("two")


def test_a_changed_spec_replaces_the_process(supervisor: Supervisord) -> None:
    """The old one has ended when the new one runs, and the hash tells them apart."""
    old = supervisor.start(sleeper(SAY="a"))

    new = supervisor.start(sleeper(SAY="b"))

    assert not alive(old.pid)
    assert alive(new.pid)
    assert old.spec_hash != new.spec_hash


def test_a_process_that_ends_at_once_shows_its_last_words(supervisor: Supervisord) -> None:
    """The sentence has what it printed; the others are untouched."""
    other = supervisor.start(sleeper("other"))
    broken = ProcessSpec("broken", (sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"))

    with suppress(ServeError):
        supervisor.start(broken)
    until(lambda: supervisor.states()["broken"].state in {"backoff", "fatal"}, "it did not end")

    assert "no such luck" in supervisor.log_tail("broken")
    assert other.pid == supervisor.states()["other"].pid


def test_what_a_killed_supervisor_left_is_ended_by_the_next(supervisor: Supervisord, tmp_path: Path) -> None:
    """No process of ours is left without a supervisor, and the wanted ones come back."""
    left = supervisor.start(sleeper())
    os.kill(supervisor.pid(), signal.SIGKILL)
    until(lambda: not supervisor.pid(), "supervisord did not die")
    assert left.pid in orphans(tmp_path / "state")

    supervisor.start(sleeper("two"))

    assert not alive(left.pid)
    until(lambda: supervisor.states()["one"].running, "the wanted process did not come back")


def test_restore_goes_back(supervisor: Supervisord) -> None:
    """New processes go, replaced ones come back, the others keep their pid, `keep` is left alone."""
    kept = supervisor.start(sleeper("kept"))
    changed = supervisor.start(sleeper("changed", SAY="before"))
    before = supervisor.snapshot()
    supervisor.start(sleeper("changed", SAY="after"))
    supervisor.start(sleeper("new"))
    server = supervisor.start(sleeper("server"))

    supervisor.restore(before, keep=("server",))

    states = supervisor.states()
    assert {"kept", "changed", "server"} == set(states)
    assert (kept.pid, server.pid) == (states["kept"].pid, states["server"].pid)
    until(lambda: "before" in supervisor.log_tail("changed", 1), "the earlier spec is not back")
    assert changed.spec_hash == states["changed"].spec_hash


def test_restore_to_nothing_stops_the_supervisor_too(supervisor: Supervisord) -> None:
    """Where nothing ran before, nothing runs after."""
    before = supervisor.snapshot()
    process = supervisor.start(sleeper())

    supervisor.restore(before)

    assert not alive(process.pid)
    assert 0 == supervisor.pid()


def test_a_long_state_path_is_no_obstacle(tmp_path: Path) -> None:
    """A unix socket's path is short; the folder's need not be."""
    deep = Supervisord(tmp_path / ("x" * 120) / "state")
    try:
        assert deep.start(sleeper()).running
    finally:
        deep.shutdown()


def test_a_signal_for_nobody_is_one_sentence(supervisor: Supervisord) -> None:
    """There is no such process."""
    supervisor.start(sleeper())

    with pytest.raises(ServeError, match="'two' cannot be signalled"):
        supervisor.signal("two", "HUP")
