"""Waiting for a server, and the number that tells whether it does anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.effects.activity import activity
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import ServeError
from tasks.serve.context import ServeContext
from tasks.serve.ready import SLOWEST_BYTES_PER_S, Watched, deadline_s, wait_until_ready
from tests.serve.serving import Lab, loading, ok

URL = "http://127.0.0.1:1/health"


def _with(lab: Lab, answer: Callable[[Request], Reply]) -> ServeContext:
    return replace(lab.run(), http=MemoryHttp(answer))


def watched(**about: object) -> Watched:
    """Return a server that is waited for."""
    return Watched(**{"subject": "llm", "url": URL, "size_bytes": 0, "dead": lambda: None, **about})  # type: ignore[arg-type]


def test_one_that_answers_is_not_looked_at(lab: Lab) -> None:
    """Each look costs an engine something."""
    looks: list[str] = []

    def dead() -> None:
        looks.append("dead")

    def active() -> int:
        looks.append("active")
        return 1

    wait_until_ready(watched(dead=dead, activity=active), _with(lab, ok))

    assert [] == looks


def test_the_time_grows_with_the_size(lab: Lab) -> None:
    """An SD card is waited for."""
    ctx = lab.run(deadline_s=10.0)

    assert 10.0 == deadline_s(ctx, 0)
    assert 14.0 == deadline_s(ctx, 4 * SLOWEST_BYTES_PER_S)


def test_the_last_answer_and_the_log_are_named(lab: Lab) -> None:
    """It may say what it does."""
    with pytest.raises(ServeError, match=r"did not answer .* \(last answer: HTTP 503: loading\)") as raised:
        wait_until_ready(watched(log="/logs/llm.log"), _with(lab, loading), within_s=0.02)

    assert "read /logs/llm.log" in raised.value.then


def test_one_that_died_is_not_waited_for(lab: Lab) -> None:
    """Its error is the one that is raised."""
    error = ServeError("it died", "all stays", "read on")

    def silent(_request: Request) -> Reply:
        raise HttpError("the connection is refused")

    with pytest.raises(ServeError) as raised:
        wait_until_ready(watched(dead=lambda: error), _with(lab, silent), within_s=60.0)

    assert error is raised.value


# --- activity ------------------------------------------------------------------------------------


def process(
    proc: Path, pid: int, *, ticks: tuple[int, int] = (3, 4), pages: int = 5, read: int | None = 6
) -> None:
    """Write down a process as the kernel shows it."""
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    before = " ".join(["0"] * 10)
    (folder / "stat").write_text(f"{pid} (a) b) S {before} {ticks[0]} {ticks[1]} 0 0\n")
    (folder / "statm").write_text(f"100 {pages} 1\n")
    if read is not None:
        (folder / "io").write_text(f"rchar: {read}\nwchar: 9\nread_bytes: 7\n")


def test_whatever_a_process_does_shows(tmp_path: Path) -> None:
    """Its time, what it reads, what it takes of memory; its name may hold brackets."""
    process(tmp_path, 1)
    before = activity([1], tmp_path)

    assert 18 == before
    for change in ({"ticks": (4, 4)}, {"ticks": (3, 5)}, {"pages": 6}, {"read": 7}):
        process(tmp_path, 1, **change)
        assert before != activity([1], tmp_path), change
        process(tmp_path, 1)


def test_what_another_user_reads_is_hidden_and_the_rest_counts(tmp_path: Path) -> None:
    """The kernel shows `io` to its owner alone."""
    process(tmp_path, 1, read=None)
    process(tmp_path, 2)

    assert 30 == activity([1, 2], tmp_path)


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    """No process, a process that ended, and files that are none."""
    process(tmp_path, 3)
    for name in ("stat", "statm", "io"):
        (tmp_path / "3" / name).write_text("nonsense")

    assert (0, 0, 0) == (activity([], tmp_path), activity([7], tmp_path), activity([3], tmp_path))


def test_this_process_is_active() -> None:
    """As the real kernel shows it."""
    assert activity([os.getpid()]) > 0
