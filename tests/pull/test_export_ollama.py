"""A tag out of an export comes into Ollama's folder whole and verified, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    ProvisionError,
    SourceRefusedError,
    StoppedError,
)
from tasks.pull.export import copying, disk, import_ollama
from tests.lab.exporting import MANIFEST, PINNED, TAG, Lab, visible
from tests.lab.ollama import OllamaLab
from tests.lab.ollama_registry import digest_of, lab_tag
from tests.lab.seeding import in_ollama
from tests.lab.weights import contents


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a host to export from."""
    return Lab(tmp_path)


def test_import(lab: Lab) -> None:
    """A tag comes into an empty folder of Ollama's as it was, its manifest last."""
    lab.export()
    moved: list[Path] = []
    move = copying.move
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "move", lambda a, b: moved.append(b) or move(a, b))
        imported = import_ollama(lab.target, PINNED, lab.home / "new", stop=lab.stop, sink=lab.sink)

    assert imported is not None
    assert (imported.digest, imported.copied_bytes, imported.kept_bytes) == (TAG.digest, TAG.size_bytes, 0)
    got = {name: data for name, data in contents(lab.home / "new").items() if name != copying.LOCK}
    assert got == contents(lab.models)
    assert moved[-1] == lab.home / "new" / MANIFEST


def test_export_is_a_folder_of_ollama(lab: Lab) -> None:
    """An export can be imported from as Ollama's own folder can, and the other way round."""
    imported = import_ollama(lab.models, PINNED, lab.home / "new", stop=lab.stop)

    assert imported is not None
    assert imported.copied_bytes == TAG.size_bytes


@pytest.mark.parametrize("damage", [None, b"cut", b"X" * 300_000])
def test_import_keeps_what_is_right(lab: Lab, damage: bytes | None) -> None:
    """What is in Ollama's folder with its digest is kept, what is damaged there is replaced."""
    lab.export()
    blob = lab.models / "blobs" / f"sha256-{digest_of(TAG.blobs[0])}"
    if damage is not None:
        blob.write_bytes(damage)
    before = contents(lab.models) if damage is None else {}

    imported = import_ollama(lab.target, PINNED, lab.models, stop=lab.stop)

    assert imported is not None
    assert imported.copied_bytes == (0 if damage is None else 300_000)
    assert blob.read_bytes() == TAG.blobs[0]
    assert damage is not None or contents(lab.models) == before


def test_import_replaces_an_older_tag(lab: Lab) -> None:
    """A tag that Ollama has at another digest is moved to the pinned one."""
    lab.export()
    older = lab.home / "older"
    in_ollama(older, lab_tag(2, big_bytes=300_000))

    import_ollama(lab.target, PINNED, older, stop=lab.stop)

    assert (older / MANIFEST).read_bytes() == TAG.manifest


def test_import_replaces_the_manifest_alone(lab: Lab) -> None:
    """A tag of the same blobs with another manifest has another digest, and gets the pinned one."""
    lab.export()
    (lab.models / MANIFEST).write_bytes(TAG.manifest + b"\n")

    imported = import_ollama(lab.target, PINNED, lab.models, stop=lab.stop)

    assert imported is not None
    assert (imported.copied_bytes, (lab.models / MANIFEST).read_bytes()) == (0, TAG.manifest)


def test_import_of_what_is_not_there(lab: Lab) -> None:
    """An export without the tag, or with another digest of it, is told apart from one that is broken."""
    lab.export(lab.items[0])
    absent = import_ollama(lab.target, PINNED, lab.home / "new", stop=lab.stop)
    lab.export()
    other = msgspec.structs.replace(PINNED, digest="0" * 64)
    differs = import_ollama(lab.target, other, lab.home / "new", stop=lab.stop, sink=lab.sink)

    assert (absent, differs) == (None, None)
    assert (
        lab.sink.messages[-1] == f"{lab.target} has it at {TAG.digest[:12]}, not at the pinned 000000000000"
    )
    assert not (lab.home / "new").exists()


@pytest.mark.parametrize(
    ("damage", "error", "text"),
    [
        (Path.unlink, SourceRefusedError, "is missing in"),
        (lambda path: path.write_bytes(b"cut"), SourceRefusedError, "has 3 bytes, not 300000 in"),
        (lambda path: path.write_bytes(b"X" * 300_000), DigestMismatchError, "came as 300000 bytes with"),
    ],
)
def test_import_of_a_damaged_export(
    lab: Lab, damage: Callable[[Path], object], error: type[ProvisionError], text: str
) -> None:
    """A damaged blob of the export never gets into Ollama's folder, and neither does the manifest."""
    lab.export()
    digest = digest_of(TAG.blobs[0])
    damage(lab.target / "blobs" / f"sha256-{digest}")

    with pytest.raises(error, match=text):
        import_ollama(lab.target, PINNED, lab.home / "new", stop=lab.stop)

    assert not (lab.home / "new" / MANIFEST).exists()
    assert not (lab.home / "new/blobs" / f"sha256-{digest}").exists()
    assert not (lab.home / "new" / copying.WORK).exists()


def test_import_of_a_damaged_manifest(lab: Lab) -> None:
    """A manifest that is none is refused."""
    lab.export()
    (lab.target / MANIFEST).write_bytes(b"{}")

    with pytest.raises(SourceRefusedError, match="is not a model's manifest: it lists no layers"):
        import_ollama(lab.target, PINNED, lab.home / "new", stop=lab.stop)


def test_import_without_room(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of Ollama's that is too small is refused before byte one."""
    lab.export()
    monkeypatch.setattr(disk, "free_bytes", lambda _path: 1)

    with pytest.raises(NoRoomError, match=r"are to be written to .*new, which has 1 bytes free"):
        import_ollama(lab.target, PINNED, lab.home / "new", stop=lab.stop)

    assert contents(lab.home / "new") == {}


def test_import_stops(lab: Lab) -> None:
    """A stop ends an import; the tag does not appear."""
    lab.export()
    lab.stop.set()

    with pytest.raises(StoppedError):
        import_ollama(lab.target, PINNED, lab.home / "new", stop=lab.stop)

    assert visible(lab.home / "new") == set()


def test_import_trusts_whom_it_is_told_to(lab: Lab) -> None:
    """A blob that the caller knows is not read again."""
    lab.export()
    shutil.rmtree(lab.models)
    in_ollama(lab.models, TAG)
    asked: list[str] = []

    import_ollama(
        lab.target, PINNED, lab.models, stop=lab.stop, trusted=lambda _path, digest: not asked.append(digest)
    )

    assert set(asked) == {digest_of(data) for data in TAG.blobs}


@pytest.mark.real
def test_ollama_shows_what_was_imported(lab: Lab) -> None:
    """A server over the folder lists the tag at the pinned digest."""
    lab.export()
    import_ollama(lab.target, PINNED, lab.home / "new", stop=lab.stop)
    with OllamaLab(lab.home / "new", "http://127.0.0.1:9") as server:
        models = httpx.get(f"{server.url}/api/tags").json()["models"]

    assert [(one["name"], one["digest"]) for one in models] == [("lab:1", TAG.digest)]
