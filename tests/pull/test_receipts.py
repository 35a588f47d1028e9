"""A file that was verified and not touched since is taken as verified; any other is read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tasks.pull import receipts, store
from tasks.pull.receipts import Receipts
from tests.lab.weights import BIG, FILES, fill, pinned

SHA = "sha256:" + "a" * 64
SNAPSHOT = "models--org--name/snapshots/" + pinned().revision


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file in a repository."""
    path = tmp_path / "blobs/one"
    path.parent.mkdir()
    path.write_bytes(b"bytes")
    return path


def kept(repository: Path, path: Path, *, placed: bool = False) -> Receipts:
    """Write a receipt, and return what another process reads."""
    known = Receipts(repository)
    known.add(path, SHA, placed=placed)
    known.save()
    return Receipts(repository)


def test_an_untouched_file_is_known(tmp_path: Path, file: Path) -> None:
    """The receipt holds for its digest and for no other."""
    known = kept(tmp_path, file)

    assert known.has(file, SHA)
    assert not known.has(file, "sha256:" + "b" * 64)
    assert known.of(file) is not None


def test_a_link_leads_to_the_receipt_of_its_blob(tmp_path: Path, file: Path) -> None:
    """Whoever asks by a snapshot's link asks for the bytes behind it."""
    known = kept(tmp_path, file)
    link = tmp_path / "snapshots/config.json"
    link.parent.mkdir()
    link.symlink_to("../blobs/one")

    assert known.has(link, SHA)


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: path.write_bytes(b"other"),
        lambda path: path.write_bytes(b"more bytes"),
        lambda path: os.utime(path, ns=(0, 0)),
        lambda path: path.replace(path.with_name("gone")),
        lambda path: (path.rename(path.with_name("old")), path.write_bytes(b"bytes")),
    ],
    ids=["written", "longer", "other times", "gone", "another file"],
)
def test_a_touched_file_is_not_known(tmp_path: Path, file: Path, touch: object) -> None:
    """Whatever was done to the file since, its receipt holds no more."""
    known = kept(tmp_path, file)
    touch(file)  # type: ignore[operator]  # one of the five above

    assert not known.has(file, SHA)


def test_times_that_were_put_back_do_not_help(tmp_path: Path, file: Path) -> None:
    """A writer that restores the time of the last change is betrayed by the time of the change itself."""
    before = file.stat()
    known = kept(tmp_path, file)
    file.write_bytes(b"wrong")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert not known.has(file, SHA)


def test_a_small_file_is_read_again_after_a_start_of_the_machine(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file that was placed here was not synced, so its receipt ends with the machine's run."""
    placed = kept(tmp_path, file, placed=True)
    assert placed.has(file, SHA)
    monkeypatch.setattr(receipts, "boot_id", lambda: "another start")

    assert not Receipts(tmp_path).has(file, SHA)


def test_a_large_file_outlives_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file was synced when it was placed; so it need not be read after a start."""
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(receipts.SYNCED_BYTES + 1)
    kept(tmp_path, large, placed=True)
    monkeypatch.setattr(receipts, "boot_id", lambda: "another start")

    assert Receipts(tmp_path).has(large, SHA)


def test_who_brought_a_file_is_not_forgotten(tmp_path: Path, file: Path) -> None:
    """A later look at a file that this program brought does not make it somebody else's."""
    kept(tmp_path, file, placed=True)
    known = kept(tmp_path, file)

    found = known.of(file)
    assert found is not None
    assert found.by == "pmoves"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "files": {"x": {"size": 1}}}']
)
def test_damaged_receipts_are_none(tmp_path: Path, file: Path, text: str) -> None:
    """A file of receipts that cannot be read costs reading the weights, and nothing else."""
    kept(tmp_path, file)
    (tmp_path / ".pmoves/receipts.json").write_text(text)

    assert not Receipts(tmp_path).has(file, SHA)
    assert kept(tmp_path, file).has(file, SHA)


def test_a_store_that_cannot_be_written_is_read_each_time(tmp_path: Path, file: Path) -> None:
    """Where receipts cannot be kept, nothing fails."""
    (tmp_path / ".pmoves").write_bytes(b"in the way")

    assert not kept(tmp_path, file).has(file, SHA)


def test_two_processes_keep_both_receipts(tmp_path: Path, file: Path) -> None:
    """What another process noted meanwhile stays."""
    other = file.with_name("two")
    other.write_bytes(b"two")
    one, two = Receipts(tmp_path), Receipts(tmp_path)
    one.add(file, SHA)
    two.add(other, SHA)
    one.save()
    two.save()

    assert sorted(json.loads((tmp_path / ".pmoves/receipts.json").read_text())["files"]) == [
        "blobs/one",
        "blobs/two",
    ]


def test_a_write_right_after_the_receipt_shows(tmp_path: Path, file: Path) -> None:
    """The receipt is kept only when a later write must bear another time."""
    for _ in range(20):
        file.write_bytes(b"bytes")
        known = kept(tmp_path, file)
        file.write_bytes(b"wrong")

        assert not known.has(file, SHA)


def test_verified_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look at a store reads no byte; with `rehash` it reads them all."""
    fill(tmp_path / SNAPSHOT)
    assert store.missing(tmp_path, pinned()) == ()
    read: list[str] = []
    monkeypatch.setattr(store, "digest_of", lambda path, _file: read.append(path.name) or "")

    assert store.missing(tmp_path, pinned()) == ()
    assert read == []
    assert len(store.missing(tmp_path, pinned(), rehash=True)) == len(FILES) == len(read)


def test_rot_is_found_by_reading(tmp_path: Path) -> None:
    """Bytes that changed without a trace are not seen by looking, and are by `rehash`."""
    fill(tmp_path / SNAPSHOT)
    store.missing(tmp_path, pinned())
    path = tmp_path / SNAPSHOT / BIG
    path.write_bytes(b"X" + FILES[BIG][1:])
    known = tmp_path / "models--org--name/.pmoves/receipts.json"
    said = json.loads(known.read_text())
    seen, name = path.stat(), f"snapshots/{pinned().revision}/{BIG}"
    said["files"][name] |= {"mtime_ns": seen.st_mtime_ns, "ctime_ns": seen.st_ctime_ns, "inode": seen.st_ino}
    known.write_text(json.dumps(said))

    assert store.missing(tmp_path, pinned()) == ()
    assert [gap.file.path for gap in store.missing(tmp_path, pinned(), rehash=True)] == [BIG]
    assert [gap.file.path for gap in store.missing(tmp_path, pinned())] == [BIG]


def test_saving_nothing_writes_nothing(tmp_path: Path) -> None:
    """A look that learns nothing leaves the disk alone."""
    started = time.time_ns()
    Receipts(tmp_path).save()

    assert list(tmp_path.iterdir()) == []
    assert time.time_ns() >= started
