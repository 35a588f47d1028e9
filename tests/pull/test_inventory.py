"""What lies in the store, who needs it, and what goes when nobody does."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import scan_cache_dir

from tasks.pull.claim import staging
from tasks.pull.fetch.partial import Partial
from tasks.pull.inventory import Removal, Revision, collect, collectable, inventory
from tasks.pull.store import install, part_path, receipts, settle, snapshot_folder
from tests.lab.weights import BIG, FILES, REPO, SIZE_BYTES, contents, fill, pinned

NEWER = FILES | {"config.json": b'{"hidden_size": 768}\n'}
OLD, NEW = pinned(), pinned(NEWER, revision="c" * 40)
USED = {(REPO, NEW.revision): ("lab (run 1)",)}


def brought(cache: Path, *, revision: str = OLD.revision, files: dict[str, bytes] = FILES) -> None:
    """Bring a revision as a pull does."""
    weights, known = pinned(files, revision=revision), receipts(cache, REPO)
    with staging(cache, REPO) as folder:
        for file in weights.files:
            staged = folder / "staged"
            staged.write_bytes(files[file.path])
            known.add(install(cache, weights, file, staged), file.digest, placed=True)
    known.save()
    settle(cache, weights)


def removed(cache: Path, used: Mapping[Revision, tuple[str, ...]], *, parts: bool = False) -> int:
    """Remove what nobody needs."""
    return collect(cache, collectable(cache, used, parts=parts))


def test_what_lies_there(tmp_path: Path) -> None:
    """A revision shows its files, its bytes, what is verified, whose it is and who needs it."""
    brought(tmp_path)

    (held,) = inventory(tmp_path, {(REPO, OLD.revision): ("lab (run 1)",)}).held
    assert (held.repo, held.revision, held.files, held.size_bytes) == (REPO, OLD.revision, 3, SIZE_BYTES)
    assert (held.verified, held.ours, held.used_by) == (3, 3, ("lab (run 1)",))


def test_an_empty_store(tmp_path: Path) -> None:
    """A store that does not exist yet holds nothing."""
    found = inventory(tmp_path / "none", {})

    assert (found.held, found.broken) == ((), ())
    assert found.free_bytes > 0
    assert collectable(tmp_path / "none", {}, parts=True) == ()


def test_only_what_nobody_needs_goes(tmp_path: Path) -> None:
    """Bytes that a kept revision shares stay, the rest of the old one goes, and other tools see no damage."""
    brought(tmp_path)
    brought(tmp_path, revision=NEW.revision, files=NEWER)

    plan = collectable(tmp_path, USED, parts=False)
    removed(tmp_path, USED)

    assert {Path(one.path).name for one in plan} == {"config.json", BIG}
    assert sum(one.size_bytes for one in plan) < 1_000_000
    assert contents(snapshot_folder(tmp_path, NEW)) == NEWER
    assert not snapshot_folder(tmp_path, OLD).exists()
    assert not scan_cache_dir(tmp_path).warnings


def test_nothing_is_left_of_a_repository_that_nobody_needs(tmp_path: Path) -> None:
    """With its last revision a repository goes, and the bytes are free that were announced."""
    brought(tmp_path)
    announced = sum(one.size_bytes for one in collectable(tmp_path, {}, parts=False))

    assert removed(tmp_path, {}) == announced > 3_000_000
    assert contents(tmp_path / "models--org--name" / "blobs") == {}
    assert not (tmp_path / "models--org--name/snapshots").exists()


def test_what_others_brought_stays(tmp_path: Path) -> None:
    """Files without a receipt of ours are never removed, though nobody here needs them."""
    fill(snapshot_folder(tmp_path, OLD))

    assert collectable(tmp_path, {}, parts=True) == ()
    assert inventory(tmp_path, {}).held[0].ours == 0


def test_a_blob_that_another_tool_links_to_stays(tmp_path: Path) -> None:
    """A revision of another tool keeps the bytes that it shares with ours."""
    brought(tmp_path)
    theirs = tmp_path / "models--org--name/snapshots" / ("d" * 40)
    theirs.mkdir()
    (theirs / BIG).symlink_to((snapshot_folder(tmp_path, OLD) / BIG).readlink())
    used = {(REPO, "d" * 40): ("somebody",)}

    removed(tmp_path, used)

    assert (theirs / BIG).read_bytes() == FILES[BIG]


def test_a_changed_file_is_not_ours_any_more(tmp_path: Path) -> None:
    """What was written to since it was brought may be somebody's work, and stays."""
    brought(tmp_path)
    (snapshot_folder(tmp_path, OLD) / "config.json").resolve().write_bytes(b"{}")

    removed(tmp_path, {})

    assert (snapshot_folder(tmp_path, OLD) / "config.json").read_bytes() == b"{}"


def test_a_broken_download_shows_and_goes_when_asked(tmp_path: Path) -> None:
    """A part file is listed with what it holds; it stays unless parts are asked for."""
    brought(tmp_path)
    file = pinned({"other.bin": bytes(2_000_000)}).files[0]
    with Partial(part_path(tmp_path, REPO, file), size_bytes=file.size_bytes, digest=file.digest) as part:
        part.write(memoryview(bytes(1 << 18)), 0)
        part.mark((0, 1))
    used = {(REPO, OLD.revision): ("lab",)}

    assert [one.held_bytes for one in inventory(tmp_path, used).broken] == [1 << 18]
    assert collectable(tmp_path, used, parts=False) == ()
    assert removed(tmp_path, used, parts=True) > 0
    assert inventory(tmp_path, used).broken == ()
    assert contents(snapshot_folder(tmp_path, OLD)) == FILES


def test_a_removal_outside_the_store_is_not_done(tmp_path: Path) -> None:
    """Whatever a plan says, nothing outside the store is touched."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"x")

    assert collect(tmp_path / "store", [Removal(str(precious), 1, "made up")]) == 0
    assert precious.exists()


def test_a_store_that_vanishes_meanwhile(tmp_path: Path) -> None:
    """What somebody else removed in the meantime is no error."""
    brought(tmp_path)
    plan = collectable(tmp_path, {}, parts=False)
    shutil.rmtree(tmp_path / "models--org--name")

    assert collect(tmp_path, plan) == 0
