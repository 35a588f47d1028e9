"""Programs that fetch are followed line by line, and never outlive the one who follows them."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event, Timer

import pytest

from tasks.errors import SourceUnavailableError, StoppedError
from tasks.pull.child import Patience, follow, with_environment
from tests.lab.weights import processes_of, wait_for

pytestmark = pytest.mark.real


def patience(*, stop: Event | None = None, quiet_s: float = 60.0, limit_s: float = 60.0) -> Patience:
    """Return a patience for something called "lab"."""
    return Patience("lab", stop or Event(), quiet_s, limit_s)


def family(mark: Path) -> tuple[str, ...]:
    """Return a command that never ends by itself and can be found by `mark`."""
    return with_environment(("sh", "-c", "sleep 600 & echo started; wait"), (("MARK", str(mark)),))


def test_lines_and_exit_code() -> None:
    """Each line of both streams arrives, also the last without an end, then the exit code."""
    lines: list[str] = []

    code = follow(("sh", "-c", "echo one; echo two >&2; printf 3; exit 7"), lines.append, patience=patience())

    assert (lines, code) == (["one", "two", "3"], 7)


def test_stdin_stays_open() -> None:
    """The child gets its order at once, without an end of file."""
    lines: list[str] = []

    code = follow(("sh", "-c", "read line; echo got $line"), lines.append, patience=patience(), stdin="it\n")

    assert (lines, code) == (["got it"], 0)


def test_added_environment() -> None:
    """Added variables come on top of the inherited ones; the last of one name counts."""
    lines: list[str] = []
    command = with_environment(
        ("sh", "-c", "echo $A $B ${PATH:+inherited}"), (("A", "1"), ("B", "2"), ("A", "3"))
    )

    follow(command, lines.append, patience=patience())

    assert lines == ["3 2 inherited"]


def test_stop_ends_the_family(tmp_path: Path) -> None:
    """A stop ends the child and what it started, soon."""
    stop = Event()
    Timer(0.2, stop.set).start()

    with pytest.raises(StoppedError, match="stopped while pulling lab"):
        follow(family(tmp_path), lambda _: None, patience=patience(stop=stop))

    wait_for(lambda: not processes_of(tmp_path), what="the end of the family")


def test_reader_error_ends_the_family(tmp_path: Path) -> None:
    """An error of the reader of lines ends the child and what it started."""

    def reader(_line: str) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        follow(family(tmp_path), reader, patience=patience())

    wait_for(lambda: not processes_of(tmp_path), what="the end of the family")


def test_child_that_ignores_sigterm(tmp_path: Path) -> None:
    """A child that does not end on SIGTERM is killed."""
    stubborn = f"import signal; signal.signal(15, 1); print(); signal.pause() # {tmp_path}"

    def reader(_line: str) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        follow((sys.executable, "-c", stubborn), reader, patience=patience())

    wait_for(lambda: not processes_of(tmp_path), what="the end of the child")


def test_silence() -> None:
    """A child that says nothing for too long is ended, and that can be tried again."""
    with pytest.raises(SourceUnavailableError, match=r"no sign of life for 0\.3 s"):
        follow(("sleep", "600"), lambda _: None, patience=patience(quiet_s=0.3))


def test_limit() -> None:
    """A child that talks for ever is ended."""
    chatter = ("sh", "-c", "while sleep 0.05; do echo still here; done")

    with pytest.raises(SourceUnavailableError, match=r"not done after 0\.5 s"):
        follow(chatter, lambda _: None, patience=patience(limit_s=0.5))
