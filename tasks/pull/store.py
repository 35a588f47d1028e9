"""The weight store: a Hugging Face cache in which every file has the digest that the catalogue pins.

    <cache>/
      .locks/models--org--name/pull.lock      held by the one provisioner that fills this repository
      models--org--name/
        blobs/<etag>                          the bytes
        snapshots/<revision, 40 hex>/
          config.json -> ../../blobs/<etag>   relative links, as the hub's own client makes them
          onnx/model.onnx -> ../../../blobs/<etag>
        refs/main                             the hub client's; made where there is none, else left alone
        refs/pmoves/<8 hex>                   ours: keeps `hf cache prune` from a revision that we brought
        .pmoves-<8 hex>/                      staging of a pull that runs; see `claim.py`
        .pmoves/parts/<digest>.part           what a pull that broke off goes on from; see `fetch/partial.py`
        .pmoves/receipts.json                 what was verified, and how it looked then; see `receipts.py`

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.contracts import Model, StoreView, WeightFile, Weights
from tasks.effects.files import CHUNK_BYTES, sync_folder, write_atomic
from tasks.errors import CatalogueError, DigestMismatchError
from tasks.pull.receipts import Receipts

LARGE_FILE_BYTES = 10_000_000
UNSYNCED_BYTES = 1 << 23
"""Smaller files are not synced one by one: their receipts do not outlive a start of the machine instead."""
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


def parts_folder(cache: Path, repo: str) -> Path:
    """Return where the part files of one repository lie."""
    return repo_folder(cache, repo) / ".pmoves/parts"


def part_path(cache: Path, repo: str, file: WeightFile) -> Path:
    """Return the part file of one file."""
    return parts_folder(cache, repo) / f"{file.digest.partition(':')[2]}.part"


def receipts(cache: Path, repo: str) -> Receipts:
    """Return what was verified in one repository."""
    return Receipts(repo_folder(cache, repo))


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


def missing(
    cache: Path, weights: Weights, *, among: Iterable[WeightFile] | None = None, rehash: bool = False
) -> tuple[Gap, ...]:
    """Return the files that are absent or do not have the pinned size and digest.

    A file that was verified before and has not been touched since is not read again; all others are, on
    every processor (1.5 GB/s each here).

    Args:
        cache: The store.
        weights: The pinned files.
        among: Look at these files only.
        rehash: Read every byte, whatever was verified before.
    """
    files = weights.files if among is None else tuple(among)
    known = receipts(cache, weights.repo)
    paths = {file: link_path(cache, weights, file) for file in files}
    # A receipt is looked up faster than a thread is woken.
    unsure = [one for one in files if rehash or not known.has(paths[one], one.digest)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = tuple(pool.map(lambda file: _fault(paths[file], file, known, rehash=rehash), unsure))
    known.save()
    found = zip(unsure, faults, strict=True)
    return tuple(Gap(file, "" if fault == "absent" else fault) for file, fault in found if fault)


def _fault(path: Path, file: WeightFile, known: Receipts | None = None, *, rehash: bool = False) -> str:
    """Say what is wrong with the file at `path`; "" for nothing. `known` saves the reading."""
    if not path.is_file():
        return "absent"
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        return f"{size_bytes} bytes instead of {file.size_bytes}"
    if known is not None and not rehash and known.has(path, file.digest):
        return ""
    fault = _other(file, digest_of(path, file))
    if known is not None:
        known.drop(path) if fault else known.add(path, file.digest)
    return fault


def digest_of(path: Path, file: WeightFile) -> str:
    """Return the hex digits of the digest by which `file` is pinned, of the bytes at `path`."""
    if file.sha256:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return _git_sha1(path, file.size_bytes)


def _other(file: WeightFile, digest: str) -> str:
    kind, _, pinned = file.digest.partition(":")
    kind = kind if kind == "sha256" else "git sha1"
    return "" if digest == pinned else f"{kind} {short(digest)} instead of {short(pinned)}"


def _git_sha1(path: Path, size_bytes: int) -> str:
    # git names blobs by sha1; the hub pins small files by nothing else.
    digest = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check(path: Path, file: WeightFile, *, digest: str = "") -> None:
    """Raise unless the bytes at `path` are those of `file`.

    Args:
        path: Where they are.
        file: What they should be.
        digest: The digest, where it was computed while the bytes were written; they are not read then.

    Raises:
        DigestMismatchError: names what was expected and what came.
    """
    if digest and path.is_file() and path.stat().st_size == file.size_bytes:
        fault = _other(file, digest)
    else:
        fault = _fault(path, file)
    if fault:
        raise DigestMismatchError(
            f"{file.path} came with {fault}", INTACT, "pull again, or compare the pin with the source"
        )


def install(cache: Path, weights: Weights, file: WeightFile, staged: Path, *, digest: str = "") -> Path:
    """Verify `staged`, move it into the store, and return its link. It must lie on the store's file system.

    Args:
        cache: The store.
        weights: What the file belongs to.
        file: What it should be.
        staged: Where it lies.
        digest: Its digest, where it was computed and the bytes were synced while they were written.

    Raises:
        DigestMismatchError: the bytes are wrong; `staged` is removed and the store unchanged.
    """
    link = link_path(cache, weights, file)
    try:
        check(staged, file, digest=digest)
    except DigestMismatchError:
        staged.unlink(missing_ok=True)
        raise
    blob = _blobs(cache, weights) / etag(staged, file)
    blob.parent.mkdir(parents=True, exist_ok=True)
    large = file.size_bytes > UNSYNCED_BYTES
    if large and not digest:
        _sync_file(staged)
    staged.replace(blob)
    if large:
        sync_folder(blob.parent)
    _link(link, blob, sync=large)
    return link


def settle(cache: Path, weights: Weights) -> None:
    """Name a whole revision in `refs/`, so that other tools find it and `hf cache prune` leaves it.

    A store that cannot be written stays without: this is for others, and nothing here reads it.
    """
    refs = repo_folder(cache, weights.repo) / "refs"
    with suppress(OSError):
        for name in ("main", f"pmoves/{weights.revision[:8]}"):
            if not (refs / name).exists():
                write_atomic(refs / name, weights.revision)


def link_twin(cache: Path, weights: Weights, file: WeightFile, link: Path) -> None:
    """Point `file` at the bytes that `link` leads to, which are its own too."""
    _link(link_path(cache, weights, file), link.resolve())


def adopt(cache: Path, weights: Weights, file: WeightFile) -> bool:
    """Link bytes that another revision already brought. Returns whether there were any."""
    blob = _blobs(cache, weights) / file.digest.partition(":")[2]
    if _fault(blob, file, receipts(cache, weights.repo)):
        return False
    _link(link_path(cache, weights, file), blob)
    return True


def etag(path: Path, file: WeightFile) -> str:
    """Return the name of the blob that holds `file`, whose verified bytes lie at `path`."""
    large = PurePosixPath(file.path).suffix in LARGE_SUFFIXES or file.size_bytes > LARGE_FILE_BYTES
    if file.sha256 and large:
        return file.sha256
    return file.git_sha1 or _git_sha1(path, file.size_bytes)


def _blobs(cache: Path, weights: Weights) -> Path:
    return repo_folder(cache, weights.repo) / "blobs"


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _link(link: Path, blob: Path, *, sync: bool = True) -> None:
    """Point `link` at `blob` in one step; a reader finds the old or the new file, never none."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    temporary.symlink_to(os.path.relpath(blob, link.parent))
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink()
        raise
    if sync:
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
