"""Pins: the catalogue's, those that ship in the lock, and this host's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tasks.contracts import OllamaTag, PlannedModel, UnpinnedRepo, Weights
from tasks.errors import UsageError
from tasks.pull.resolve import lock
from tasks.pull.resolve.lock import LockedTag, LockedWeights, LockFile, Pins, read_lock, write_lock
from tests.lab.weights import REPO, pinned, planned

TAG = OllamaTag(tag="lab:1b", size_bytes=10, digest="a" * 64)
UNPINNED = OllamaTag(tag="lab:1b", size_bytes=10, unpinned="not known yet")


def unpinned() -> PlannedModel:
    """Return a planned model whose files are not known yet."""
    repo = UnpinnedRepo(repo=REPO, size_bytes=10, unpinned="not known yet")
    return replace(planned(pinned()), weights=None, repo=repo, quantisation="bf16")


def pins(tmp_path: Path, *, shipped: LockFile | None = None, host: LockFile | None = None) -> Pins:
    """Return the pins of two lock files."""
    for name, content in (("shipped", shipped), ("host", host)):
        if content is not None:
            write_lock(tmp_path / name, content)
    return Pins(tmp_path / "shipped", tmp_path / "host")


def locked(weights: Weights, *, over: str = "") -> LockFile:
    """Return a lock of the lab's model."""
    return LockFile(weights={"lab:bf16": LockedWeights(weights=weights, over=over)})


def test_nothing_pins_what_is_unpinned(tmp_path: Path) -> None:
    """Without lock files an unpinned model stays so."""
    found = pins(tmp_path)

    assert found.weights(unpinned()) is None
    assert found.tag(UNPINNED) == UNPINNED
    assert found.by(unpinned()) == ""


def test_what_was_resolved_is_kept(tmp_path: Path) -> None:
    """The next run, and the next process, gets the same bytes."""
    first = pins(tmp_path)
    first.keep_weights(unpinned(), pinned())
    first.keep_tag(UNPINNED, "b" * 64, 11)
    first.save()

    again = pins(tmp_path)
    assert again.weights(unpinned()) == pinned()
    assert again.tag(UNPINNED) == OllamaTag(tag="lab:1b", size_bytes=11, digest="b" * 64)
    assert again.by(unpinned()) == "this host"


def test_the_shipped_lock_pins_what_this_host_does_not(tmp_path: Path) -> None:
    """What ships counts, until this host pins otherwise."""
    found = pins(tmp_path, shipped=locked(pinned()))
    assert found.weights(unpinned()) == pinned()
    assert found.by(unpinned()) == "lock"

    own = pinned(revision="c" * 40)
    assert pins(tmp_path, host=locked(own)).weights(unpinned()) == own


def test_a_lock_of_another_repository_does_not_count(tmp_path: Path) -> None:
    """When the catalogue moves to another repository, old pins of the variant are passed over."""
    elsewhere = msgspec.structs.replace(pinned(), repo="org/other")

    assert pins(tmp_path, host=locked(elsewhere)).weights(unpinned()) is None


def test_the_catalogue_counts_unless_it_was_moved(tmp_path: Path) -> None:
    """A pin of the catalogue is moved by hand alone, and only as long as the catalogue still says it."""
    wanted = replace(planned(pinned()), quantisation="bf16")
    newer = pinned(revision="d" * 40)

    assert pins(tmp_path, host=locked(newer)).weights(wanted) == pinned()
    moved = pins(tmp_path, host=locked(newer, over=pinned().revision))
    assert moved.weights(wanted) == newer
    assert moved.by(wanted) == "this host"
    later = replace(wanted, weights=pinned(revision="e" * 40))
    assert moved.weights(later) == later.weights


def test_a_pinned_tag_is_moved_by_hand_alone(tmp_path: Path) -> None:
    """The same for a tag of the Ollama library."""
    digest = "b" * 64
    plain = LockFile(ollama={TAG.tag: LockedTag(digest=digest, size_bytes=11)})
    moved = LockFile(ollama={TAG.tag: LockedTag(digest=digest, size_bytes=11, over="a" * 64)})

    assert pins(tmp_path, host=plain).tag(TAG) == TAG
    assert pins(tmp_path, host=moved).tag(TAG).digest == digest


def test_the_pins_of_an_export_count_alone(tmp_path: Path) -> None:
    """Whatever is pinned here, only the bytes of the export are at hand; what was used stays pinned."""
    there = pinned(revision="f" * 40)
    wanted = replace(planned(pinned()), quantisation="bf16")
    found = pins(tmp_path, host=locked(pinned(revision="a" * 40)))
    found.adopt(LockFile(
        weights={"lab:bf16": LockedWeights(weights=there)},
        ollama={TAG.tag: LockedTag(digest="b" * 64, size_bytes=11)},
    ))  # fmt: skip

    assert (found.weights(wanted), found.weights(unpinned())) == (there, there)
    assert found.tag(TAG).digest == "b" * 64
    found.settle(wanted)
    found.settle(replace(wanted, model="tagged", weights=None, ollama=TAG))
    found.save()
    later = pins(tmp_path)
    assert later.weights(wanted) == there
    assert later.tag(TAG).digest == "b" * 64


def test_what_another_process_pinned_meanwhile_stays(tmp_path: Path) -> None:
    """Two pulls at once keep the pins of both."""
    one, two = pins(tmp_path), pins(tmp_path)
    one.keep_weights(unpinned(), pinned())
    two.keep_tag(UNPINNED, "b" * 64, 11)
    one.save()
    two.save()

    found = read_lock(tmp_path / "host")
    assert (list(found.weights), list(found.ollama)) == (["lab:bf16"], ["lab:1b"])


def test_saving_nothing_writes_nothing(tmp_path: Path) -> None:
    """Reading pins leaves no file."""
    pins(tmp_path).save()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", '{"weights": []}', '{"other": 1}', '{"weights": {"a": {"weights": {}}}}']
)
def test_a_damaged_lock_is_said(tmp_path: Path, text: str) -> None:
    """A lock that cannot be read stops everything: its pins may not be lost in silence."""
    (tmp_path / "host").write_text(text)

    with pytest.raises(UsageError, match=r"the lock file .*/host cannot be read \(.*nothing was downloaded"):
        pins(tmp_path)


def test_the_shipped_lock_can_be_read() -> None:
    """What ships in profiles/ is a lock file."""
    from flows import settings, weights  # noqa: PLC0415  # the one test that needs it

    assert read_lock(weights.shipped(settings.load())).version == lock.VERSION
