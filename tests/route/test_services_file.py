"""The file that the services read, which may be the operator's: what is undone there, and what stays."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.errors import RouteError
from tasks.route.merge import services_file
from tasks.route.merge.pmoves_env import merge_env
from tasks.route.merge.services_file import ServicesFile
from tasks.route.rollout import roll_out
from tests.lab.routing import World, order, settled

OLD = order("a", functions=("archon",))
NEW = order("a", "b", functions=("chat", "archon"))
WAS, IS = (("A", "1"), ("B", "x y")), (("A", "2"), ("C", "3"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a host without a gateway."""
    return World(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> ServicesFile:
    """Return one that is not there."""
    return ServicesFile(tmp_path / "env.shared")


def reject(change: Callable[[], object]) -> Callable[[Path], None]:
    """Return a TensorZero that rejects every config, while somebody changes something."""

    def check(_path: Path) -> None:
        change()
        raise RouteError("TensorZero rejects the config", "the config in use is unchanged", "correct it")

    return check


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("text", ["MINE=1\n", "", None])
def test_edits_during_a_rollout_that_wrote_nothing(text: str | None, world: World, *, served: bool) -> None:
    """A file that was changed, emptied, made or removed meanwhile is left to who did that."""
    path = world.root / "pmoves.env"
    if served:
        roll_out(OLD, world.context())
    before = path.read_text() if served else ""

    def change() -> None:
        if text is not None:
            path.write_text(text + before)

    with pytest.raises(RouteError):
        roll_out(NEW, world.context(check=reject(change)))

    assert (path.read_text() if path.exists() else None) == (
        before if text is None and served else None if text is None else text + before
    )


def test_edits_during_a_rollout_that_wrote(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses are those of before, and what was written meanwhile stays."""
    path = world.root / "pmoves.env"
    path.write_text("MINE=1\n")
    first = roll_out(OLD, world.context())
    old = path.read_text()
    real, wrote = ServicesFile.put, list[str]()

    def put(self: ServicesFile, text: str | None) -> bool:
        done = real(self, text)
        if not wrote:
            wrote.append(path.read_text())
            path.write_text("LATE=2\n" + path.read_text())
            raise RouteError("it broke", "", "look")
        return done

    monkeypatch.setattr(ServicesFile, "put", put)
    with pytest.raises(RouteError, match="it broke"):
        roll_out(NEW, world.context())

    assert wrote != [old]
    assert path.read_text() == "LATE=2\n" + old
    assert settled(world, first.config)


def test_a_clash_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of somebody's that has one of the names is said, and nothing is written over it."""
    path, said, left = world.root / "pmoves.env", list[str](), list[str]()
    first = roll_out(OLD, world.context())
    name = first.environment[0][0]
    real = ServicesFile.put

    def put(self: ServicesFile, text: str | None) -> bool:
        real(self, text)
        left.append(f"{name}=mine\n" + path.read_text())
        path.write_text(left[0])
        raise RouteError("it broke", "", "look")

    monkeypatch.setattr(ServicesFile, "put", put)
    made = world.context(sink=lambda event: said.append(event.message))
    with pytest.raises(RouteError, match="it broke"):
        roll_out(NEW, made)

    assert path.read_text() == left[0]
    assert any(f"line 1 sets {name}" in one and str(path) in one for one in said)


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [
        (None, None, None),
        (None, "", ""),
        (None, "M=1\n", "M=1\n"),
        (None, merge_env("", IS), None),
        (None, merge_env("M=1\n", IS), "M=1\n"),
        ("", merge_env("", IS), ""),
        ("M=1\n", merge_env("", IS), ""),
        ("M=1\n", merge_env("M=1", IS), "M=1"),
        (merge_env("M=1\n", WAS), merge_env("M=1\n", IS), merge_env("M=1\n", WAS)),
        (merge_env("M=1\n", WAS), merge_env("M=2\r\n", IS), merge_env("M=2\r\n", WAS)),
        (merge_env("M=1\n", WAS), "M=2\n", merge_env("M=2\n", WAS)),
        (merge_env("", WAS), None, merge_env("", WAS)),
        (merge_env("M=1\n", WAS), merge_env("M=2\n", WAS) + "N=3\n", merge_env("M=2\n", WAS) + "N=3\n"),
        (merge_env("M=1\n", WAS) + "N=3\n", merge_env("M=1\nN=3\n", IS), merge_env("M=1\n", WAS) + "N=3\n"),
    ],
)
def test_our_block_alone_is_put_back(
    before: str | None, now: str | None, after: str | None, file: ServicesFile
) -> None:
    """What a person wrote is as it is now; only a file that is all ours, and new, goes."""
    file.put(now)
    changed = file.put_back(before)

    assert file.text() == after
    assert changed == (now != after)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (merge_env("", IS) + "B=mine\n", r"line \d+ sets B"),
        (merge_env("", IS).partition("# <<<")[0], "begins a block that nothing ends"),
    ],
)
def test_what_cannot_be_put_back(now: str, why: str, file: ServicesFile) -> None:
    """It is refused by the file's name, and the file stays."""
    file.put(now)
    with pytest.raises(RouteError, match=rf"env\.shared.*{why}"):
        file.put_back(merge_env("", WAS))

    assert file.text() == now


def test_the_mode_stays(file: ServicesFile) -> None:
    """A group that may write goes on to, whatever the umask of who runs this."""
    assert file.path is not None
    file.put("A=1\n")
    file.path.chmod(0o664)
    before = os.umask(0o077)
    try:
        file.put("A=2\n")
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o664


def test_a_file_that_cannot_be_written(file: ServicesFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with its name, and the setting that chose it."""

    def full(_path: Path, _text: str, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(services_file, "write_atomic", full)
    with pytest.raises(RouteError) as caught:
        file.put("A=1\n")

    assert str(caught.value) == (
        f"{file.path}, which the services read, cannot be written (No space left on device); "
        "the config in use is unchanged; "
        "correct that, or name another file with PMOVES_ENV_FILE, and start the run again."
    )
