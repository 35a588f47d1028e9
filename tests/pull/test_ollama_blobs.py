"""What lies in Ollama's folder is hashed, and what is missing is counted in blocks of the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Event

import pytest

from tasks.errors import StoppedError
from tasks.pull.ollama import blobs
from tasks.pull.ollama.names import blob_path, parse_name
from tasks.pull.ollama.registry import parse_manifest
from tests.lab.ollama_registry import lab_tag

TAG = lab_tag()
NAME = parse_name("lab:1")
MANIFEST = parse_manifest(NAME, TAG.manifest)
BIG = MANIFEST.layers[0]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder that holds the whole model."""
    (tmp_path / "blobs").mkdir()
    for layer, data in zip(MANIFEST.layers, TAG.blobs, strict=True):
        blob_path(tmp_path, layer.digest).write_bytes(data)
    path = NAME.manifest_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(TAG.manifest)
    return tmp_path


def faults(models: Path) -> list[str]:
    """Return what is wrong, as a person reads it."""
    return [str(damage) for damage in blobs.damages(models, MANIFEST, stop=Event())]


def test_whole(models: Path) -> None:
    """A whole model has no damage and misses nothing."""
    assert faults(models) == []
    assert blobs.missing_bytes(models, MANIFEST) == 0
    assert blobs.is_readable(models, NAME)


def test_flipped_cut_and_absent(models: Path) -> None:
    """Each kind of damage is found, and said with what was found instead."""
    big, template, params, _ = (blob_path(models, layer.digest) for layer in MANIFEST.layers)
    big.write_bytes(b"X" + TAG.blobs[0][1:])
    template.write_bytes(TAG.blobs[1][:5])
    params.unlink()

    assert faults(models) == [
        f"blob {BIG.digest[:12]} has the sha256 {faults(models)[0][-12:]}",
        f"blob {MANIFEST.layers[1].digest[:12]} has 5 bytes instead of {MANIFEST.layers[1].size_bytes}",
        f"blob {MANIFEST.layers[2].digest[:12]} is missing",
    ]


def test_trusted_blobs_are_not_hashed(models: Path) -> None:
    """A caller may know a blob; its size is looked at all the same."""
    blob_path(models, BIG.digest).write_bytes(b"X" + TAG.blobs[0][1:])
    asked: list[tuple[Path, str]] = []

    def trusted(path: Path, digest: str) -> bool:
        asked.append((path, digest))
        return True

    assert blobs.damages(models, MANIFEST, stop=Event(), trusted=trusted) == ()
    assert asked[0] == (blob_path(models, BIG.digest), BIG.digest)
    assert len(asked) == len(MANIFEST.layers)


def test_stop_while_hashing(models: Path) -> None:
    """Hashing ends when it is asked to."""
    stop = Event()
    stop.set()

    with pytest.raises(StoppedError, match="stopped while pulling lab:1"):
        blobs.damages(models, MANIFEST, stop=stop)


def test_remove(models: Path) -> None:
    """Damaged blobs are deleted, so that Ollama fetches them; absent ones are fine."""
    blob_path(models, BIG.digest).write_bytes(b"X")
    blob_path(models, MANIFEST.layers[2].digest).unlink()

    left = blobs.remove(blobs.damages(models, MANIFEST, stop=Event()))

    assert left == ()
    assert not blob_path(models, BIG.digest).exists()


def test_partial_blob_counts_its_blocks(models: Path) -> None:
    """A partial blob shows its full size; only what is allocated of it needs no more room."""
    whole = blob_path(models, BIG.digest)
    whole.unlink()
    partial = whole.with_name(f"{whole.name}-partial")
    with partial.open("wb") as stream:
        stream.write(TAG.blobs[0][:1_000_000])
        stream.truncate(BIG.size_bytes)
        os.fsync(stream.fileno())
    for number, count in enumerate((600_000, 300_000)):
        note = {"N": number, "Offset": number * 1_000_000, "Size": 1_000_000, "Completed": count}
        whole.with_name(f"{partial.name}-{number}").write_text(json.dumps(note))
    allocated = partial.stat().st_blocks * 512

    assert partial.stat().st_size == BIG.size_bytes
    assert 1_000_000 <= allocated < 1_100_000
    assert blobs.missing_bytes(models, MANIFEST) == BIG.size_bytes - allocated
    assert blobs.fetched_bytes(models, MANIFEST)[BIG.digest] == 900_000


def test_empty_folder_misses_all(tmp_path: Path) -> None:
    """Nothing there is everything missing."""
    assert blobs.missing_bytes(tmp_path, MANIFEST) == TAG.size_bytes
    assert set(blobs.fetched_bytes(tmp_path, MANIFEST).values()) == {0}


def test_cut_blob_frees_what_it_holds(models: Path) -> None:
    """A cut blob is deleted before its new bytes come, so its blocks count as room."""
    path = blob_path(models, BIG.digest)
    path.write_bytes(TAG.blobs[0][:1_000_000])
    allocated = path.stat().st_blocks * 512

    assert blobs.missing_bytes(models, MANIFEST) == BIG.size_bytes - allocated


@pytest.mark.parametrize("note", [b"", b"[]", b"{}", b'{"Completed":"7"}', b'{"Completed":-1}', b"\xff"])
def test_odd_part_files(models: Path, note: bytes) -> None:
    """A note of progress that says nothing counts as none."""
    path = blob_path(models, BIG.digest)
    path.unlink()
    path.with_name(f"{path.name}-partial-0").write_bytes(note)

    assert blobs.fetched_bytes(models, MANIFEST)[BIG.digest] == 0


def test_a_folder_of_another_server(tmp_path: Path) -> None:
    """A folder that does not hold the model is not taken for the server's."""
    assert not blobs.is_readable(tmp_path, NAME)
    assert not blobs.is_readable(None, NAME)
    assert blobs.stored_manifest(tmp_path, NAME, TAG.digest) is None


def test_stored_manifest(models: Path) -> None:
    """The manifest that Ollama keeps is taken only when it is the one that Ollama lists."""
    assert blobs.stored_manifest(models, NAME, TAG.digest) == MANIFEST
    assert blobs.stored_manifest(models, NAME, "0" * 64) is None
    NAME.manifest_path(models).write_bytes(b"{")
    assert blobs.stored_manifest(models, NAME, TAG.digest) is None
