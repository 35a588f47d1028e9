"""A pull holds its repository, cleans up behind itself and others, and says what the disk said."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from threading import Event, Thread

import pytest

from tasks.errors import NoRoomError, StateFolderError, StoppedError
from tasks.pull import claim
from tests.lab.weights import REPO, staging_folders


def never() -> None:
    """Stand in for a callback that must not be called."""
    raise AssertionError


def test_staging_is_removed(tmp_path: Path) -> None:
    """Nothing is left of a staging folder, nor of a repository that it was the first in."""
    with claim.staging(tmp_path, REPO) as folder:
        (folder / "part").write_bytes(b"part")

    assert list(tmp_path.iterdir()) == []


def test_staging_is_removed_on_an_error(tmp_path: Path) -> None:
    """An error inside the block removes the folder too."""
    with pytest.raises(KeyboardInterrupt), claim.staging(tmp_path, REPO):
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []


def test_staging_removes_leftovers(tmp_path: Path) -> None:
    """What a killed pull left is removed by the next one, and nothing else is."""
    (tmp_path / "models--org--name/.pmoves-dead/files").mkdir(parents=True)
    (tmp_path / "models--org--name/blobs").mkdir()
    (tmp_path / "models--org--other/.pmoves-live").mkdir(parents=True)

    with claim.staging(tmp_path, REPO) as folder:
        assert [path.name for path in staging_folders(tmp_path) if path != folder] == [".pmoves-live"]

    assert (tmp_path / "models--org--name/blobs").is_dir()


def test_second_waits_for_first(tmp_path: Path) -> None:
    """The second holder of a repository says that it waits, and goes on when the first is done."""
    waits = Event()
    order: list[str] = []

    def second() -> None:
        with claim.exclusive(tmp_path, REPO, stop=Event(), on_wait=waits.set):
            order.append("second")

    with claim.exclusive(tmp_path, REPO, stop=Event(), on_wait=never):
        thread = Thread(target=second)
        thread.start()
        assert waits.wait(30)
        order.append("first")
    thread.join(30)

    assert order == ["first", "second"]


def test_other_repositories_do_not_wait(tmp_path: Path) -> None:
    """Pulls of different repositories run side by side."""
    with (
        claim.exclusive(tmp_path, REPO, stop=Event(), on_wait=never),
        claim.exclusive(tmp_path, "org/other", stop=Event(), on_wait=never),
    ):
        pass


def test_waiting_can_be_stopped(tmp_path: Path) -> None:
    """A set stop event ends the waiting."""
    stop = Event()
    stop.set()

    with (
        claim.exclusive(tmp_path, REPO, stop=Event(), on_wait=never),
        pytest.raises(StoppedError, match="stopped while pulling org/name"),
        claim.exclusive(tmp_path, REPO, stop=stop, on_wait=lambda: None),
    ):
        pass


def test_room(tmp_path: Path) -> None:
    """Too little room is refused with both numbers, also for a store that does not exist yet."""
    free = shutil.disk_usage(tmp_path).free

    claim.require_room(tmp_path / "not/yet", free // 2)

    with pytest.raises(NoRoomError, match=r"needs [\d]+\.\d GiB and has [\d]+\.\d GiB free; .*; make room"):
        claim.require_room(tmp_path / "not/yet", free * 2)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(tmp_path: Path, number: int) -> None:
    """A full disk or quota is said with the bytes needed and the bytes free."""
    with (
        pytest.raises(NoRoomError, match=r"needs 11\.4 MiB and has"),
        claim.store_errors(tmp_path, 12_000_000),
    ):
        raise OSError(number, "full")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_unusable_store(tmp_path: Path, number: int) -> None:
    """Any other answer of the file system names the place and the reason."""
    with (
        pytest.raises(StateFolderError, match=r"cannot be used: some reason \(/place\).*write permission"),
        claim.store_errors(tmp_path, 0),
    ):
        raise OSError(number, "some reason", "/place")


def test_store_below_a_file(tmp_path: Path) -> None:
    """A store whose path leads through a plain file is refused in one sentence."""
    (tmp_path / "file").write_bytes(b"")

    with (
        pytest.raises(StateFolderError, match="cannot be used: Not a directory"),
        claim.store_errors(tmp_path / "file/store", 0),
        claim.exclusive(tmp_path / "file/store", REPO, stop=Event(), on_wait=never),
    ):
        pass
