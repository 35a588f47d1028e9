"""A seed gives the models of an Ollama, each blob hashed before it is first sent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from tasks.pull.seed import library as library_module
from tasks.pull.seed import looks
from tasks.pull.seed.app import build
from tasks.pull.seed.library import Library
from tasks.pull.seed.looks import Known, open_file
from tasks.pull.seed.refusal import Refusal
from tests.lab.hub import REVISION
from tests.lab.ollama_registry import digest_of, lab_tag
from tests.lab.seeding import (
    TOKEN,
    asked,
    flipped,
    flipped_and_dated_back,
    in_ollama,
)
from tests.lab.weights import REPO

RESOLVE = f"/{REPO}/resolve/{REVISION}"
API = f"/api/models/{REPO}"
SECRET = b"not for neighbours"


TAG = lab_tag(big_bytes=300_000)
MANIFEST = "/v2/library/lab/manifests/1"
BLOB = f"/v2/library/lab/blobs/sha256:{digest_of(TAG.blobs[0])}"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder of Ollama's with one model."""
    in_ollama(tmp_path / "ollama", TAG)
    return tmp_path / "ollama"


@pytest.fixture
def registry(tmp_path: Path, models: Path) -> ASGIApp:
    """Return a seed over it."""
    return build(tmp_path / "store", token=TOKEN, ollama_models=models)


def test_ollama(registry: ASGIApp) -> None:
    """A tag gives its raw manifest and its blobs, in parts too."""
    manifest, blob = asked(registry, MANIFEST), asked(registry, BLOB)

    assert (manifest.status, manifest.body) == (200, TAG.manifest)
    assert manifest.headers["docker-content-digest"] == f"sha256:{TAG.digest}"
    assert (blob.status, blob.body) == (200, TAG.blobs[0])
    assert asked(registry, BLOB, range="bytes=10-19").body == TAG.blobs[0][10:20]
    assert asked(registry, BLOB, "HEAD").headers["content-length"] == "300000"


def test_ollama_is_not_given_unasked(models: Path) -> None:
    """Without a folder of Ollama's there is no registry."""
    app = build(models.parent / "store", token=TOKEN)

    assert [asked(app, target).status for target in (MANIFEST, BLOB)] == [404, 404]


@pytest.mark.parametrize("damage", [flipped, flipped_and_dated_back, Path.unlink])
def test_damaged_blob_is_not_here(models: Path, registry: ASGIApp, damage: Callable[[Path], object]) -> None:
    """A blob that changed is not given, whether it was given before or not; its neighbours are."""
    path = models / "blobs" / f"sha256-{digest_of(TAG.blobs[0])}"
    before = asked(registry, BLOB).status
    damage(path)

    assert (before, asked(registry, BLOB).status) == (200, 404)
    assert asked(build(models, token=TOKEN, ollama_models=models), BLOB).status == 404
    assert asked(registry, BLOB.replace(digest_of(TAG.blobs[0]), digest_of(TAG.blobs[1]))).status == 200


def test_blob_is_hashed_once(registry: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob is read to be verified once, as long as nobody touches it."""
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: read.append(given[2]) or pread(*given))
    asked(registry, BLOB, "HEAD")
    once = len(read)
    asked(registry, BLOB, "HEAD")

    assert (once, len(read)) == (2, 2)


def test_blob_that_takes_long(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is asked to come back while a large blob is being hashed; it is hashed once for all."""
    import asyncio  # noqa: PLC0415  # this test alone drives the library
    import threading  # noqa: PLC0415  # the same

    library = Library(models, wait_s=0.05)
    proceed, began = threading.Event(), []
    prove = Known.prove

    def slow(known: Known, file: object, digest: str) -> bool:
        began.append(digest)
        proceed.wait(10)
        return prove(known, file, digest)  # type: ignore[arg-type]

    monkeypatch.setattr(Known, "prove", slow)

    async def three() -> list[object]:
        digest = f"sha256:{digest_of(TAG.blobs[0])}"
        early = await asyncio.gather(library.open(digest), library.open(digest), return_exceptions=True)
        proceed.set()
        await asyncio.sleep(0.3)
        opened = await library.open(digest)
        opened.file.close()
        return [*early, opened.digest]

    told = asyncio.run(three())

    assert [getattr(one, "status", one) for one in told] == [503, 503, digest_of(TAG.blobs[0])]
    assert isinstance(told[0], Refusal)
    assert told[0].headers == {"Retry-After": str(library_module.AGAIN_S)}
    assert len(began) == 1


def test_manifest_whose_blobs_are_not_whole(models: Path, registry: ASGIApp) -> None:
    """A tag of which a blob is cut is not here."""
    (models / "blobs" / f"sha256-{digest_of(TAG.blobs[1])}").write_bytes(b"cut")

    assert asked(registry, MANIFEST).status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/v2/library/..%2f..%2fsecret/manifests/1",
        "/v2/library/lab/manifests/..",
        "/v2/library/lab/manifests/%2e%2e%2f1",
        "/v2/library/lab/manifests/out",
        "/v2/library/lab/manifests/odd",
        "/v2/library/lab:1/manifests/x",
        "/v2/library/lab/blobs/sha256:..%2f..%2fsecret",
        f"/v2/library/lab/blobs/sha256:{'0' * 64}",
        f"/v2/library/lab/blobs/sha256:{'f' * 64}",
        f"/v2/library/lab/blobs/{'0' * 64}",
        "/v2/library/lab/tags/list",
        "/v2/_catalog",
    ],
)
def test_nothing_leads_out_of_ollama(models: Path, registry: ASGIApp, target: str) -> None:
    """Neither a name nor a link in Ollama's folder leads to anything else."""
    (models.parent / "secret").write_bytes(SECRET)
    (models.parent / "manifest").write_bytes(TAG.manifest)
    (models / "manifests/registry.ollama.ai/library/lab/out").symlink_to(models.parent / "manifest")
    (models / "manifests/registry.ollama.ai/library/lab/odd").write_text("{}")
    (models / "blobs" / f"sha256-{'f' * 64}").symlink_to(models.parent / "secret")

    answer = asked(registry, target)

    assert answer.status == 404
    assert SECRET not in answer.body


# --- files that are known by how they look -------------------------------------------------------


def test_known(tmp_path: Path) -> None:
    """A file is known until it is changed, in place or by another in its place."""
    path, known = tmp_path / "file", Known()
    path.write_bytes(b"right")
    digest = f"sha256:{hashlib.sha256(b'right').hexdigest()}"
    with open_file(path) as file:
        proved = (known.digest(file, "sha256"), known.prove(file, digest), known.digest(file, "sha256"))
    flipped_and_dated_back(path)
    with open_file(path) as file:
        after = (known.digest(file, "sha256"), known.prove(file, digest))

    assert proved == ("", True, digest.partition(":")[2])
    assert after == ("", False)


def test_fresh_file_is_hashed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was written just now is read once the clock has gone on, so that a later write shows."""
    waited: list[float] = []
    path = tmp_path / "file"
    path.write_bytes(b"right")
    monkeypatch.setattr(looks, "RACY_NS", 10_000_000_000)
    monkeypatch.setattr(looks.time, "sleep", waited.append)
    with open_file(path) as file:
        Known().prove(file, "sha256:")

    assert len(waited) == 1
    assert 5 < waited[0] <= 10


def test_only_files_are_opened(tmp_path: Path) -> None:
    """Neither a link nor a folder nor a pipe is opened, and none is waited for."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")

    open_file(tmp_path / "file").close()
    for name in ("link", "pipe", ".", "none"):
        with pytest.raises(OSError, match=r"."):
            open_file(tmp_path / name)
