"""The weight store: a Hugging Face cache in which every file has the digest that the catalogue pins.

    <cache>/
      .locks/models--org--name/pull.lock      held by the one provisioner that fills this repository
      models--org--name/
        blobs/<etag>                          the bytes
        snapshots/<revision, 40 hex>/
          config.json -> ../../blobs/<etag>   relative links, as the hub's own client makes them
          onnx/model.onnx -> ../../../blobs/<etag>
        refs/main                             the hub client's; never read, written or made here
        .pmoves-<8 hex>/                      staging of a pull that runs; see `claim.py`

Anything that reads such a cache (the hub client, embed_anything, vLLM, TEI) finds the files through
`snapshots/`. Nothing appears there before its size and sha256 were checked.

An etag is what the hub sends for a file: its sha256 when it is stored as a large file, else the
sha1 of the git blob. The catalogue only knows sha256, so the kind is told by the rule of the hub's
default `.gitattributes` (`LARGE_SUFFIXES`, or more than 10 MB). A wrong guess costs nothing but a
second copy: readers follow the link of a revision and never ask for the etag.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.contracts import Model, StoreView, WeightFile, Weights
from tasks.effects.files import CHUNK_BYTES, sha256_file, sync_folder
from tasks.errors import CatalogueError, DigestMismatchError

LARGE_FILE_BYTES = 10_000_000
LARGE_SUFFIXES = frozenset({".bin", ".gguf", ".h5", ".msgpack", ".onnx", ".pt", ".pth", ".safetensors"})
INTACT = "files that were verified before stay in the store"

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Gap:
    """A file that has to be fetched. `damage` is "" when it is absent, else what is wrong with it."""

    file: WeightFile
    damage: str


def short(sha256: str) -> str:
    """Return the first digits of a digest, enough to compare by eye."""
    return f"{sha256[:16]}…"


def repo_folder(cache: Path, repo: str) -> Path:
    """Return the folder of one repository.

    Raises:
        CatalogueError: `repo` is not `org/name` or `name`.
    """
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise _unsafe(f"the repository {repo!r} is not written as org/name")
    return cache / f"models--{repo.replace('/', '--')}"


def snapshot_folder(cache: Path, weights: Weights) -> Path:
    """Return the folder that holds the files under their own names."""
    if not _REVISION.fullmatch(weights.revision):
        raise _unsafe(f"the revision {weights.revision!r} of {weights.repo} is not 40 hex digits")
    return repo_folder(cache, weights.repo) / "snapshots" / weights.revision


def link_path(cache: Path, weights: Weights, file: WeightFile) -> Path:
    """Return where `file` lies below `snapshots/`.

    Raises:
        CatalogueError: its path is absolute or climbs out of the snapshot.
    """
    parts = file.path.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in file.path or "\0" in file.path:
        raise _unsafe(f"the weight file {file.path!r} of {weights.repo} would leave its folder")
    return snapshot_folder(cache, weights).joinpath(*parts)


def _unsafe(what: str) -> CatalogueError:
    return CatalogueError(what, "nothing was written", "correct the entry below profiles/models")


def missing(cache: Path, weights: Weights, *, among: Iterable[WeightFile] | None = None) -> tuple[Gap, ...]:
    """Return the files that are absent or do not have the pinned size and sha256.

    Always reads the bytes (about 1.5 GB/s): the digest on disk is the only cache.

    Args:
        cache: The store.
        weights: The pinned files.
        among: Look at these files only.
    """
    files = weights.files if among is None else tuple(among)
    found = ((file, _fault(link_path(cache, weights, file), file)) for file in files)
    return tuple(Gap(file, "" if fault == "absent" else fault) for file, fault in found if fault)


def _fault(path: Path, file: WeightFile) -> str:
    if not path.is_file():
        return "absent"
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"{size_bytes} bytes instead of {file.size_bytes}"
    sha256 = sha256_file(path)
    return "" if sha256 == file.sha256 else f"sha256 {short(sha256)} instead of {short(file.sha256)}"


def check(path: Path, file: WeightFile) -> None:
    """Raise unless the bytes at `path` are those of `file`.

    Raises:
        DigestMismatchError: names what was expected and what came.
    """
    fault = _fault(path, file)
    if fault:
        raise DigestMismatchError(
            f"{file.path} came with {fault}", INTACT, "pull again, or compare the pin with the source"
        )


def install(cache: Path, weights: Weights, file: WeightFile, staged: Path) -> None:
    """Verify `staged` and move it into the store. It must lie on the store's file system.

    Raises:
        DigestMismatchError: the bytes are wrong; `staged` is removed and the store unchanged.
    """
    link = link_path(cache, weights, file)
    try:
        check(staged, file)
    except DigestMismatchError:
        staged.unlink(missing_ok=True)
        raise
    blob = _blobs(cache, weights) / etag(staged, file)
    blob.parent.mkdir(parents=True, exist_ok=True)
    _sync_file(staged)
    staged.replace(blob)
    sync_folder(blob.parent)
    _link(link, blob)


def adopt(cache: Path, weights: Weights, file: WeightFile) -> bool:
    """Link bytes that another revision already brought. Returns whether there were any."""
    blob = _blobs(cache, weights) / file.sha256
    if _fault(blob, file):
        return False
    _link(link_path(cache, weights, file), blob)
    return True


def etag(path: Path, file: WeightFile) -> str:
    """Return the name of the blob that holds `file`, whose verified bytes lie at `path`."""
    if PurePosixPath(file.path).suffix in LARGE_SUFFIXES or file.size_bytes > LARGE_FILE_BYTES:
        return file.sha256
    # git names blobs by sha1; nothing here relies on it being hard to forge.
    digest = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _blobs(cache: Path, weights: Weights) -> Path:
    return repo_folder(cache, weights.repo) / "blobs"


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _link(link: Path, blob: Path) -> None:
    """Point `link` at `blob` in one step; a reader finds the old or the new file, never none."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    temporary.symlink_to(os.path.relpath(blob, link.parent))
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink()
        raise
    sync_folder(link.parent)


def view(cache: Path, models: Iterable[Model]) -> StoreView:
    """Return the bytes that each variant still misses. Variants without pinned weights are left out."""
    found: dict[str, int] = {}
    known: dict[Weights, int] = {}
    for model in models:
        for variant in model.variants:
            if (weights := variant.weights) is None:
                continue
            if weights not in known:
                known[weights] = sum(gap.file.size_bytes for gap in missing(cache, weights))
            found[StoreView.key(model.name, variant.name)] = known[weights]
    return StoreView(path=str(cache), missing_bytes=found)
