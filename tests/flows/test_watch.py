"""What a person sees while a run goes on."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.progress import Progress

from flows import watch
from tasks.contracts import Event


def counting(done: int, total: int = 100) -> Event:
    """Return an event that counts bytes."""
    return Event("pull", "model", "fetching", done_bytes=done << 20, total_bytes=total << 20)


def test_plain_lines_do_not_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of events that only count, one in five seconds; the last one always; messages always."""
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    lines: list[str] = []
    sink = watch.Plain(lines.append)

    for done in range(0, 60, 10):
        sink(counting(done))
        now[0] += 1
    sink(counting(100))
    sink(Event("serve", "model", "create: there is no process of that name"))

    assert [
        "pull    model: fetching (0 bytes of 100.0 MiB)",
        "pull    model: fetching (50.0 MiB of 100.0 MiB)",
        "pull    model: fetching (100.0 MiB of 100.0 MiB)",
        "serve   model: create: there is no process of that name",
    ] == lines


def shown(progress: Progress) -> list[tuple[str, float]]:
    """Return the bars that are seen, with their bytes."""
    return [(task.description, task.completed) for task in progress.tasks if task.visible]


def test_a_bar_goes_when_its_download_is_done() -> None:
    """What is finished takes no room on the screen."""
    progress = Progress(console=Console(file=io.StringIO()))
    sink = watch.Live(progress)

    sink(counting(10))
    assert [("model", 10 << 20)] == shown(progress)
    sink(counting(100))

    assert [] == shown(progress)


def test_several_downloads_have_a_bar_together() -> None:
    """With more than one download there is a bar for all, and what is whole counts on in it."""
    progress = Progress(console=Console(file=io.StringIO()))
    sink = watch.Live(progress)

    sink(counting(10))
    sink(replace(counting(30), subject="other"))
    assert [("all downloads", 40 << 20), ("model", 10 << 20), ("other", 30 << 20)] == shown(progress)
    sink(counting(100))

    assert [("all downloads", 130 << 20), ("other", 30 << 20)] == shown(progress)


def test_a_stall_stands_beside_its_bar() -> None:
    """A download that stands still is named as such, and as usual again when it goes on."""
    progress = Progress(console=Console(file=io.StringIO()))
    sink = watch.Live(progress)

    sink(replace(counting(10), message="stalled: no byte from [hub] for 20 s"))
    assert r"model (stalled: no byte from \[hub] for 20 s)" == progress.tasks[-1].description
    sink(counting(11))

    assert "model" == progress.tasks[-1].description


def test_what_is_whole_is_said_once() -> None:
    """Events that come after the last byte print no second line; a new download prints again."""
    lines: list[str] = []
    sink = watch.Plain(lines.append)

    for done in (100, 100, 100, 0, 100):
        sink(counting(done))

    assert [
        "pull    model: fetching (100.0 MiB of 100.0 MiB)",
        "pull    model: fetching (100.0 MiB of 100.0 MiB)",
    ] == [line for line in lines if "100.0 MiB of" in line]


def test_a_message_is_shown_as_it_is() -> None:
    """Square brackets are no markup."""
    screen = io.StringIO()
    sink = watch.Live(Progress(console=Console(file=screen, width=200)))

    sink(Event("plan", "x", "[bold]no markup[/bold]"))

    assert "[bold]no markup[/bold]" in screen.getvalue()


def test_quiet_watches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json nothing but data is printed, and the run still has somebody to tell."""
    with watch.watching(quiet=True) as sink:
        sink(Event("plan", "x", "y"))
        assert watch.WATCHER.get() is sink

    assert ("", "") == capsys.readouterr()
    assert watch.WATCHER.get() is None


def test_without_a_terminal_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays free for data."""
    with watch.watching(quiet=False) as sink:
        sink(Event("plan", "x", "y"))

    assert ("", "plan    x: y\n") == capsys.readouterr()
