"""What a Hub on loopback holds, in memory or on disk, and what the Hub's API says about it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.hub_faults import Lie

Data = bytes | Path

REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
LARGE_BYTES = 100_000
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


@dataclass(frozen=True)
class Repo:
    """A repository at one revision. With `token`, it is gated and opens to that token only.

    A file is its bytes, or the path of a file on disk (sparse or not) that is streamed.
    """

    files: Mapping[str, Data]
    revision: str = REVISION
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of one file and its names."""

    data: Data
    size_bytes: int
    sha256: str
    oid: str

    @property
    def is_large(self) -> bool:
        """Whether the Hub would keep it on its CDN."""
        return self.size_bytes > LARGE_BYTES

    @property
    def cdn_etag(self) -> str:
        """The ETag on the CDN, which is not the digest: the real one counts the upload's parts."""
        return f'"{self.sha256[:32]}-16"'

    @contextmanager
    def opened(self) -> Iterator[int | None]:
        """Give the descriptor of a file on disk."""
        if isinstance(self.data, bytes):
            yield None
        else:
            with self.data.open("rb") as file:
                yield file.fileno()

    def piece(self, descriptor: int | None, first: int, end: int) -> bytes:
        """Return some of the bytes."""
        if isinstance(self.data, bytes):
            return self.data[first:end]
        return b"" if descriptor is None else os.pread(descriptor, end - first, first)


def blob_of(data: Data) -> Blob:
    """Hash one file. What git has of a large file is a pointer, as on the real Hub."""
    if isinstance(data, bytes):
        size, sha256 = len(data), hashlib.sha256(data).hexdigest()
    else:
        size = data.stat().st_size
        with data.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if size > LARGE_BYTES:
        return Blob(data, size, sha256, git_sha1(POINTER.format(sha256, size).encode()))
    return Blob(data, size, sha256, git_sha1(data if isinstance(data, bytes) else data.read_bytes()))


@dataclass
class Shelf:
    """Knows the blobs of all files, each hashed once, and those that took the place of another."""

    swapped: dict[str, Blob] = field(default_factory=dict)
    _known: dict[object, Blob] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def blob(self, data: Data) -> Blob:
        """Return the blob of a file as it is now, or as it was swapped."""
        key: object = id(data)
        if isinstance(data, Path):
            seen = data.stat()
            key = (data, seen.st_size, seen.st_mtime_ns)
        with self._lock:
            if key not in self._known:
                self._known[key] = blob_of(data)
            blob = self._known[key]
        return self.swapped.get(blob.sha256, blob)

    def find(self, repos: dict[str, Repo], sha256: str) -> tuple[Blob | None, set[str]]:
        """Return what lies on the CDN under a digest, and the names of the files that it is."""
        found: Blob | None = self.swapped.get(sha256)
        names = set()
        for repo in repos.values():
            for name, data in list(repo.files.items()):
                blob = self.blob(data)
                if sha256 == blob.sha256 or blob is found:
                    found = blob
                    names.add(name)
        return found, names

    def swap(self, blob: Blob, data: bytes) -> Blob:
        """Put other bytes in a blob's place."""
        new = blob_of(data)
        self.swapped[blob.sha256] = new
        return new


def git_sha1(data: bytes) -> str:
    """Return the name that git gives to these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def sibling(name: str, blob: Blob, lie: Lie | None, *, blobs: bool) -> dict[str, object]:
    """Return a file as `/revision/` lists it."""
    lie = _about(lie, name)
    if not blobs:
        return {"rfilename": lie.path or name}
    size = blob.size_bytes if lie.size is None else lie.size
    large = {"sha256": lie.sha256 or blob.sha256, "size": size, "pointerSize": _pointer_size(blob)}
    shown = {"rfilename": lie.path or name, "blobId": lie.oid or blob.oid, "size": size}
    return {**shown, **({"lfs": large} if blob.is_large else {})}


def leaf(name: str, blob: Blob, lie: Lie | None) -> dict[str, object]:
    """Return a file as `/tree/` lists it."""
    lie = _about(lie, name)
    size = blob.size_bytes if lie.size is None else lie.size
    large = {"oid": lie.sha256 or blob.sha256, "size": size, "pointerSize": _pointer_size(blob)}
    shown = {"type": "file", "oid": lie.oid or blob.oid, "size": size, "path": lie.path or name}
    return {**shown, **({"lfs": large} if blob.is_large else {})}


def tree(repo: Repo, shelf: Shelf, lie: Lie | None, *, recursive: bool) -> list[dict[str, object]]:
    """Return all that `/tree/` lists: folders too, as the real Hub does."""
    names = list(repo.files)
    folders = sorted({name[:at] for name in names for at, sign in enumerate(name) if at and sign == "/"})
    listed = [
        {"type": "directory", "oid": git_sha1(folder.encode()), "size": 0, "path": folder}
        for folder in folders
        if recursive or "/" not in folder
    ]
    files = [name for name in names if recursive or "/" not in name]
    return [*listed, *(leaf(name, shelf.blob(repo.files[name]), lie) for name in files)]


def _about(lie: Lie | None, name: str) -> Lie:
    return lie if lie is not None and lie.file in (None, name) else Lie()


def _pointer_size(blob: Blob) -> int:
    return len(POINTER.format(blob.sha256, blob.size_bytes))
