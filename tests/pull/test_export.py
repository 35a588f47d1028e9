"""An export holds what was verified, goes on where it broke off, and fills another host without a network."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from threading import Event as StopEvent
from typing import NoReturn

import pytest

from tasks.contracts import Event, OllamaTag, WeightFile, Weights
from tasks.effects.files import try_lock
from tasks.errors import (
    BusyError,
    DigestMismatchError,
    NoRoomError,
    RefusedError,
    StateFolderError,
    StoppedError,
    UsageError,
)
from tasks.pull import store
from tasks.pull.download import pull
from tasks.pull.export import Exported, copying, disk, export, read_index
from tasks.pull.export.index import Index, Pinned
from tasks.pull.sources import PullContext
from tests.lab.exporting import MANIFEST, PINNED, SNAPSHOT, TAG, Lab, blob_names, visible
from tests.lab.hub import REVISION, git_sha1
from tests.lab.ollama_registry import digest_of
from tests.lab.seeding import in_ollama, stocked
from tests.lab.weights import BIG, FILES, REPO, SIZE_BYTES, contents, pinned, planned

GIT = WeightFile(path="small.json", size_bytes=2, git_sha1=git_sha1(b"{}"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a host to export from."""
    return Lab(tmp_path)


# --- what is written -----------------------------------------------------------------------------


def test_export(lab: Lab) -> None:
    """An export is blobs by digest, raw manifests and an index, and nothing else."""
    report = lab.export()

    assert visible(lab.target) == {"index.json", MANIFEST, *blob_names(FILES, TAG)}
    assert all(digest_of(path.read_bytes()) == path.name[7:] for path in (lab.target / "blobs").iterdir())
    assert (lab.target / MANIFEST).read_bytes() == TAG.manifest
    assert (report.copied_files, report.copied_bytes) == (7, SIZE_BYTES + TAG.size_bytes)
    assert (report.kept_files, report.manifests) == (0, 1)
    assert str(report).startswith(
        f"{lab.target} holds 2 models: chat:q4, lab:f32\n7 files (3.1 MiB) copied in"
    )
    assert not (lab.target / copying.WORK).exists()


def test_index(lab: Lab) -> None:
    """The index holds the pins as they were given, and where the manifest of a tag lies."""
    lab.export()

    index = read_index(lab.target)
    assert index == Index(
        items=(
            Pinned(key="chat:q4", ollama=PINNED, manifest=MANIFEST),
            Pinned(key="lab:f32", weights=lab.weights),
        )
    )
    assert json.loads((lab.target / "index.json").read_text())["version"] == 1
    assert index.lock.weights["lab:f32"].weights == lab.weights
    assert index.lock.ollama["lab:1"].digest == TAG.digest


def test_store_from_an_export(lab: Lab) -> None:
    """A store that is filled from an export equals the original; this test has no network to ask."""
    lab.export()
    other = lab.home / "other"

    pulled = pull(planned(lab.weights), other, PullContext(folders=(lab.target,), offline=True))

    assert pulled.fetched_bytes == 0
    assert contents(other / SNAPSHOT) == contents(lab.cache / SNAPSHOT) == FILES
    assert {path.name for path in (other / "models--org--name/blobs").iterdir()} == {
        path.name for path in (lab.cache / "models--org--name/blobs").iterdir()
    }
    assert store.missing(other, read_index(lab.target).items[1].weights or pinned({})) == ()


def test_file_that_git_names(tmp_path: Path) -> None:
    """A small file that is pinned by its git blob alone goes there and back."""
    weights = Weights(repo=REPO, revision=REVISION, files=(GIT,))
    stocked(tmp_path / "store", {"small.json": b"{}"}, weights)
    export((Exported("a:b", weights),), tmp_path / "store", None, tmp_path / "usb", stop=StopEvent())

    pull(planned(weights), tmp_path / "other", PullContext(folders=(tmp_path / "usb",), offline=True))

    assert (tmp_path / f"usb/blobs/git-{GIT.git_sha1}").read_bytes() == b"{}"
    assert contents(tmp_path / "other" / SNAPSHOT) == {"small.json": b"{}"}


def test_disk_without_links_and_modes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the disk that FAT does not have."""

    def lacking(*_arguments: object, **_named: object) -> NoReturn:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in ("symlink", "link", "chmod", "fchmod", "chown", "fchown", "utime", "setxattr"):
        monkeypatch.setattr(os, name, lacking)
    lab.export()

    assert MANIFEST in visible(lab.target)
    assert not any(path.is_symlink() for path in lab.target.rglob("*"))


def test_folder_that_cannot_be_synced(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that does not sync folders is no reason to fail."""

    def refuse(_path: Path) -> NoReturn:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(copying, "sync_folder", refuse)
    lab.export()

    assert read_index(lab.target).items


def test_files_are_synced_before_they_are_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is synced before it is moved, and the index is the last to be moved."""
    told: list[str] = []
    fsync, move = os.fsync, copying.move
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: told.append(str(Path(f"/proc/self/fd/{number}").readlink())) or fsync(number),
    )
    monkeypatch.setattr(copying, "move", lambda a, b: told.append(f"{a} ->") or move(a, b))
    lab.export()

    moved = [one for one in told if one.endswith(" ->")]
    assert len(moved) == 9
    assert all(told.index(one.removesuffix(" ->")) < told.index(one) for one in moved)
    assert moved[-1].endswith("index.json ->")
    assert moved[-2].endswith("/1 ->")


def test_progress(lab: Lab) -> None:
    """Progress counts what is copied, up to all of it."""
    lab.export()

    counts = [event.done_bytes for event in lab.sink.events if event.total_bytes]
    assert counts == sorted(counts)
    assert counts[-1] == SIZE_BYTES + TAG.size_bytes


# --- going on ------------------------------------------------------------------------------------


def test_again(lab: Lab) -> None:
    """What is there with its digest is kept."""
    lab.export()
    before = {path: path.stat().st_ino for path in (lab.target / "blobs").iterdir()}

    report = lab.export()

    assert (report.copied_files, report.copied_bytes, report.kept_files) == (0, 0, 7)
    assert before == {path: path.stat().st_ino for path in (lab.target / "blobs").iterdir()}


@pytest.mark.parametrize("data", [b"X" * len(FILES[BIG]), b"cut", b""])
def test_damage_in_the_export_is_replaced(lab: Lab, data: bytes) -> None:
    """A blob in the export with a wrong size or digest is written again, and only that."""
    lab.export()
    path = lab.target / "blobs" / f"sha256-{digest_of(FILES[BIG])}"
    path.write_bytes(data)
    (lab.target / MANIFEST).write_bytes(b"{}")

    report = lab.export()

    assert (report.copied_files, report.copied_bytes) == (1, len(FILES[BIG]))
    assert path.read_bytes() == FILES[BIG]
    assert (lab.target / MANIFEST).read_bytes() == TAG.manifest


def test_two_exports_on_one_disk(lab: Lab) -> None:
    """A second export is added to the first; what both have is there once."""
    lab.export(lab.items[0])
    newer = stocked(
        lab.cache, {**FILES, "new.json": b"new"}, pinned({**FILES, "new.json": b"new"}, revision="a" * 40)
    )
    report = lab.export(Exported("lab:f16", newer), lab.items[1])

    assert [item.key for item in read_index(lab.target).items] == ["chat:q4", "lab:f16", "lab:f32"]
    assert (report.copied_files, report.kept_files) == (5, 3)
    assert report.all_keys == ("chat:q4", "lab:f16", "lab:f32")


def test_newer_pin_replaces_the_older(lab: Lab) -> None:
    """One model is in the index once, as it was exported last."""
    lab.export(lab.items[0])
    newer = stocked(lab.cache, FILES, pinned(revision="a" * 40))
    lab.export(Exported("lab:f32", newer))

    assert read_index(lab.target).items == (Pinned(key="lab:f32", weights=newer),)


def test_stop(lab: Lab) -> None:
    """A stop ends an export within a piece; nothing half-made is seen, and the next one goes on."""

    def stop_at(event: Event) -> None:
        if event.message.endswith(BIG) and 0 < event.done_bytes:
            lab.stop.set()

    order = (lab.items[1], lab.items[0])
    with pytest.raises(
        StoppedError, match="stopped while copying weights; what was copied whole stays there; run it"
    ):
        export(order, lab.cache, lab.models, lab.target, stop=lab.stop, sink=stop_at)
    left = visible(lab.target)
    lab.stop.clear()
    report = lab.export(*order)

    small = {name: data for name, data in FILES.items() if name != BIG}
    assert left == blob_names(small, TAG)
    assert not (lab.target / copying.WORK).exists()
    assert (report.copied_bytes, report.kept_files) == (len(FILES[BIG]), 6)


def test_stop_while_it_looks(lab: Lab) -> None:
    """A stop is heard while files are read to be checked, too."""
    (lab.cache / "models--org--name/.pmoves/receipts.json").unlink()
    lab.stop.set()

    with pytest.raises(StoppedError):
        lab.export(lab.items[0])

    assert not lab.target.exists()


def test_what_a_killed_export_left(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an export that was killed left half-made is removed before the room is counted."""
    left = lab.target / copying.WORK / "sha256-half"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    seen: list[bool] = []
    monkeypatch.setattr(disk, "free_bytes", lambda _path: seen.append(left.exists()) or 1 << 40)

    lab.export()

    assert seen == [False]
    assert not left.parent.exists()


def test_another_export_writes_there(lab: Lab) -> None:
    """Two exports to one folder do not meet."""
    lab.target.mkdir()
    with (
        try_lock(lab.target / copying.LOCK),
        pytest.raises(BusyError, match="another export or import"),
    ):
        lab.export()


# --- refusals before byte one --------------------------------------------------------------------


def test_what_is_not_right_is_named(lab: Lab) -> None:
    """Each file that is missing or damaged is named with what is wrong, and nothing is written."""
    (lab.cache / SNAPSHOT / "config.json").unlink()
    (lab.cache / SNAPSHOT / "1_Pooling/config.json").resolve().write_bytes(b"cut")
    big = (lab.cache / SNAPSHOT / BIG).resolve()
    big.write_bytes(b"X" * len(FILES[BIG]))
    blob = lab.models / "blobs" / f"sha256-{digest_of(TAG.blobs[0])}"
    blob.write_bytes(b"X" * 300_000)
    (lab.models / "blobs" / f"sha256-{digest_of(TAG.blobs[1])}").unlink()

    with pytest.raises(RefusedError) as caught:
        lab.export()

    got = [hashlib.sha256(b"X" * size).hexdigest() for size in (len(FILES[BIG]), 300_000)]
    assert caught.value.what == (
        "5 files cannot be exported: org/name/config.json (not in the store),"
        f" org/name/1_Pooling/config.json (3 bytes instead of {len(FILES['1_Pooling/config.json'])}),"
        f" org/name/{BIG} (digest {got[0][:16]}… instead of {digest_of(FILES[BIG])[:16]}…),"
        f" lab:1 (blob {digest_of(TAG.blobs[0])[:12]} has the sha256 {got[1][:12]}),"
        f" lab:1 (blob {digest_of(TAG.blobs[1])[:12]} is missing)"
    )
    assert str(caught.value).endswith("; nothing was written; run `pmoves pull lab:f32 chat:q4` first.")
    assert not lab.target.exists()


def test_unverified_file_is_read_first(lab: Lab) -> None:
    """A file without a receipt is exported when its bytes are right, and is verified from then on."""
    receipts = lab.cache / "models--org--name/.pmoves/receipts.json"
    receipts.unlink()

    lab.export(lab.items[0])

    assert len(json.loads(receipts.read_text())["files"]) == 3


@pytest.mark.parametrize(
    ("tag", "models", "text"),
    [
        ("lab:1", False, r"lab:1 \(no folder of Ollama can be read here\)"),
        ("lab:2", True, r"lab:2 \(not in the folder of Ollama\)"),
        ("lab:1", True, rf"lab:1 \(there with digest {TAG.digest[:12]} instead of 000000000000\)"),
        ("../x", True, r"\.\./x \('\.\./x' is not a name that Ollama takes"),
    ],
)
def test_tag_that_is_not_here(lab: Lab, tag: str, text: str, *, models: bool) -> None:
    """A tag that is absent, or there with another digest, is named."""
    item = Exported("chat:q4", ollama=OllamaTag(tag=tag, size_bytes=1, digest="0" * 64))
    folder = lab.models if models else None

    with pytest.raises(RefusedError, match=text):
        export((item,), lab.cache, folder, lab.target, stop=lab.stop)


def test_tag_without_a_pin(lab: Lab) -> None:
    """A tag that nothing pinned is pinned in the index by what was verified here."""
    tag = OllamaTag(tag="lab:1", size_bytes=TAG.size_bytes, unpinned="nobody asked the library")
    lab.export(Exported("chat:q4", ollama=tag))

    assert read_index(lab.target).items[0].ollama == PINNED


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ((), "there is nothing to export"),
        ((Exported("a:b"),), "a:b has no pinned files, so there is nothing of it"),
    ],
)
def test_nothing_to_export(lab: Lab, items: tuple[Exported, ...], text: str) -> None:
    """An export of nothing is a mistake."""
    with pytest.raises(UsageError, match=text):
        export(items, lab.cache, lab.models, lab.target, stop=lab.stop)


def test_disk_that_is_too_small(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without the room is refused before byte one, with both numbers."""
    monkeypatch.setattr(disk, "free_bytes", lambda _path: 2 << 20)

    with pytest.raises(
        NoRoomError, match=r"4\.2 MiB are to be written to .*usb, which has 2\.0 MiB free; nothing was"
    ):
        lab.export()

    assert visible(lab.target) == set()


def test_room_counts_what_is_missing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there needs no room, and a whole export needs none."""
    lab.export()
    monkeypatch.setattr(disk, "free_bytes", lambda _path: 0)

    assert lab.export().copied_files == 0


def test_disk_that_fills_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up meanwhile is the same sentence, and keeps what is whole."""
    synced: list[object] = []

    def full(target: object) -> None:
        synced.append(target)
        if len(synced) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(copying, "_sync", full)
    with pytest.raises(NoRoomError, match="free; what was copied whole stays there; make room"):
        lab.export()

    assert len(visible(lab.target)) == 2
    assert not (lab.target / copying.WORK).exists()


def test_file_over_4_gib_on_fat(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that FAT cannot hold is refused before byte one, in a plain sentence."""
    monkeypatch.setattr("tasks.pull.export.write.filesystem_of", lambda _folder: "vfat")
    monkeypatch.setattr(disk, "FAT_LARGEST_BYTES", 2_999_999)

    with pytest.raises(
        RefusedError, match=r"org/name/model.safetensors has 2.9 MiB, and the disk of .*usb holds no file"
    ):
        lab.export()

    assert not lab.target.exists()


def test_file_that_the_disk_calls_too_large(lab: Lab) -> None:
    """A disk that says so only while a file is written gives the same sentence."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(
            RefusedError, match=r"holds no file over 4\.0 GiB; .*; format the disk as exFAT or ext4"
        ):
            lab.export()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert f"blobs/sha256-{digest_of(FILES[BIG])}" not in visible(lab.target)


def test_colon_on_a_disk_that_takes_none(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag of a registry with a port has a name that FAT and its kin do not take."""
    monkeypatch.setattr("tasks.pull.export.write.filesystem_of", lambda _folder: "exfat")
    in_ollama(lab.models, TAG, name="127.0.0.1:5000/library/lab/1")
    item = Exported("chat:q4", ollama=OllamaTag(tag="127.0.0.1:5000/library/lab:1", size_bytes=1))

    with pytest.raises(
        RefusedError, match=r"is exfat, which takes no colon in a name, and manifests/127\.0\.0\.1:5000"
    ):
        lab.export(item)


def test_filesystem() -> None:
    """The type of a file system is found by its device number."""
    text = (
        "36 22 8:17 / /media/my\\040usb rw shared:7 master:2 - vfat /dev/sdb1 rw,fmask=0022\n"
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "odd\n"
    )

    assert disk.filesystem(text, os.makedev(8, 17)) == "vfat"
    assert disk.filesystem(text, os.makedev(8, 1)) == "ext4"
    assert disk.filesystem(text, os.makedev(8, 2)) == ""
    assert disk.filesystem_of(Path("/nowhere")) == ""
    assert disk.filesystem_of(Path("/proc")) == "proc"


def test_target_that_is_a_file(lab: Lab) -> None:
    """A target that is no folder is refused."""
    lab.target.write_bytes(b"")

    with pytest.raises(UsageError, match="usb is not a folder"):
        lab.export()


def test_target_below_a_file(lab: Lab) -> None:
    """A target that cannot be made is one sentence."""
    lab.target.write_bytes(b"")
    lab.target = lab.target / "deeper"

    with pytest.raises(StateFolderError, match=r"usb.* cannot be written \(Not a directory\)"):
        lab.export()


# --- while it is copied --------------------------------------------------------------------------


def test_source_that_changes(lab: Lab) -> None:
    """A file that changes after it was checked never gets its name."""

    def change(event: Event) -> None:
        if event.message.startswith("looking at"):
            (lab.cache / SNAPSHOT / BIG).resolve().write_bytes(b"X" * len(FILES[BIG]))

    with pytest.raises(
        DigestMismatchError, match=r"model\.safetensors came as 3000000 bytes with \w+… instead of"
    ):
        export(lab.items, lab.cache, lab.models, lab.target, stop=lab.stop, sink=change)

    assert visible(lab.target) == blob_names({name: FILES[name] for name in list(FILES)[:2]})
    assert not (lab.target / copying.WORK).exists()


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(FILES[BIG] * 2)])
def test_source_that_goes_or_grows(lab: Lab, change: Callable[[Path], object]) -> None:
    """A file that goes away or grows meanwhile is a sentence."""

    def act(event: Event) -> None:
        if event.message.startswith("looking at"):
            change((lab.cache / SNAPSHOT / BIG).resolve())

    with pytest.raises((StateFolderError, DigestMismatchError), match=r"model\.safetensors"):
        export(lab.items, lab.cache, lab.models, lab.target, stop=lab.stop, sink=act)

    assert f"blobs/sha256-{digest_of(FILES[BIG])}" not in visible(lab.target)
