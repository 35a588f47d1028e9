"""What lies in the weight store: which repositories and revisions, what uses them, what nobody needs.

Reads the store and removes from it; it never removes what this program did not put there, nor what a
revision of somebody else still links to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.pull.fetch.partial import journal_of, peek_bytes
from tasks.pull.receipts import Receipts

Revision = tuple[str, str]
"""A repository ("org/name") and a revision of it (40 hex)."""


@dataclass(frozen=True, slots=True)
class Held:
    """One revision in the store.

    `size_bytes` counts its files, `verified` those of them that have a receipt which holds, `ours` those that
    this program brought. `used_by` names models and runs that need it.
    """

    repo: str
    revision: str
    files: int
    size_bytes: int
    verified: int
    ours: int
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A download that was broken off: the bytes that its part file holds, for the next pull to go on from."""

    repo: str
    path: str
    held_bytes: int


@dataclass(frozen=True, slots=True)
class Removal:
    """Something that `collect` would remove, the bytes that this frees, and why."""

    path: str
    size_bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What lies in the store. `free_bytes` is what its file system has left."""

    cache: str
    held: tuple[Held, ...]
    broken: tuple[Broken, ...]
    free_bytes: int


def inventory(cache: Path, users: Mapping[Revision, tuple[str, ...]]) -> Inventory:
    """Look at the store. `users` says which models and runs need which revision."""
    held: list[Held] = []
    broken: list[Broken] = []
    for repository, repo in repositories(cache):
        known = Receipts(repository)
        snapshots = sorted(path for path in (repository / "snapshots").glob("*") if path.is_dir())
        held += [_held(repo, one, known, users.get((repo, one.name), ())) for one in snapshots]
        parts = sorted((repository / ".pmoves/parts").glob("*.part"))
        broken += [Broken(repo, str(part), peek_bytes(part)) for part in parts]
    place = next(path for path in (cache, *cache.parents) if path.exists())
    stats = os.statvfs(place)
    return Inventory(str(cache), tuple(held), tuple(broken), stats.f_bavail * stats.f_frsize)


def repositories(cache: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folder and the name of each model repository in the store."""
    for repository in sorted(cache.glob("models--*")):
        if repository.is_dir():
            yield repository, repository.name.removeprefix("models--").replace("--", "/")


def _held(repo: str, snapshot: Path, known: Receipts, used_by: tuple[str, ...]) -> Held:
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    receipts = [known.of(path) for path in files]
    return Held(
        repo=repo,
        revision=snapshot.name,
        files=len(files),
        size_bytes=sum(path.stat().st_size for path in files),
        verified=sum(one is not None for one in receipts),
        ours=sum(one is not None and one.by != "" for one in receipts),
        used_by=used_by,
    )


def collectable(
    cache: Path, users: Mapping[Revision, tuple[str, ...]], *, parts: bool
) -> tuple[Removal, ...]:
    """Say what no record needs: links and blobs that this program brought, and its part files.

    Args:
        cache: The store.
        users: Which revisions are needed, and by what.
        parts: Whether downloads that were broken off go too.
    """
    found: list[Removal] = []
    for repository, repo in repositories(cache):
        found += _unused(repository, repo, users)
        if parts:
            found += [
                Removal(str(part), _allocated(part), f"a download of {repo} that was broken off")
                for part in sorted((repository / ".pmoves/parts").glob("*.part"))
            ]
    return tuple(found)


def _unused(repository: Path, repo: str, users: Mapping[Revision, tuple[str, ...]]) -> Iterator[Removal]:
    known = Receipts(repository)
    links = list(_links(repository))
    needed = {real for snapshot, _, real in links if (repo, snapshot) in users}
    for snapshot, link, real in links:
        if (repo, snapshot) in users or not _is_ours(known, real):
            continue
        why = f"{repo} at {snapshot[:8]} is in no record that is kept"
        size = 0 if real in needed or _others(links, real, snapshot, known) else _allocated(real)
        yield Removal(str(link), size, why)


def _links(repository: Path) -> Iterator[tuple[str, Path, Path]]:
    for snapshot in sorted((repository / "snapshots").glob("*")):
        for link in sorted(snapshot.rglob("*")):
            if link.is_file():
                yield snapshot.name, link, link.resolve()


def _is_ours(known: Receipts, real: Path) -> bool:
    receipt = known.of(real)
    return receipt is not None and receipt.by != ""


def _others(links: Iterable[tuple[str, Path, Path]], real: Path, snapshot: str, known: Receipts) -> bool:
    """Whether an earlier listed snapshot already counts these bytes."""
    return any(other == real and name < snapshot and _is_ours(known, other) for name, _, other in links)


def collect(cache: Path, removals: Iterable[Removal]) -> int:
    """Remove what `collectable` said, and return the bytes that this freed.

    A blob goes when no link to it is left; folders and refs go when they are empty.

    Raises:
        OSError: the store cannot be written.
    """
    freed = 0
    for removal in removals:
        path = Path(removal.path)
        if not path.is_relative_to(cache):
            continue
        if path.suffix == ".part":
            freed += _allocated(path)
            for one in (path, journal_of(path)):
                one.unlink(missing_ok=True)
            _prune(path.parent, cache)
            continue
        freed += _unlink(cache, path)
    return freed


def _unlink(cache: Path, link: Path) -> int:
    """Remove a link, and its blob when it was the last."""
    repository = cache / link.relative_to(cache).parts[0]
    real = link.resolve()
    link.unlink(missing_ok=True)
    _prune(link.parent, repository)
    freed = 0
    left = {other for _, _, other in _links(repository)}
    if real not in left and real.is_relative_to(repository / "blobs"):
        freed = _allocated(real)
        real.unlink(missing_ok=True)
    _drop_refs(repository)
    _prune(repository / "blobs", cache)
    return freed


def _drop_refs(repository: Path) -> None:
    """Remove refs to revisions that are gone; the hub's own scan calls the repository corrupted otherwise."""
    for ref in sorted((repository / "refs").rglob("*")):
        if ref.is_file() and not (repository / "snapshots" / ref.read_text().strip()).is_dir():
            ref.unlink(missing_ok=True)
            _prune(ref.parent, repository)


def _prune(folder: Path, until: Path) -> None:
    """Remove folders that are empty, from `folder` up to `until`, which stays."""
    with suppress(OSError):
        while folder != until and folder.is_relative_to(until):
            folder.rmdir()
            folder = folder.parent


def _allocated(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_blocks * 512
    return 0
