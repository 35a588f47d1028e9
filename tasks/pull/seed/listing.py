"""What is here of a repository, in the Hub's words. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


@dataclass(frozen=True, slots=True)
class Listed:
    """A file. A large one is known by its `sha256`, all others by the name of their git blob."""

    path: str
    size_bytes: int
    sha256: str = ""
    git_sha1: str = ""

    @property
    def etag(self) -> str:
        """What the Hub's client names it by."""
        return self.sha256 or self.git_sha1

    @property
    def pointer(self) -> bytes:
        """What git has of a large file."""
        return _POINTER.format(self.sha256, self.size_bytes).encode()

    @property
    def oid(self) -> str:
        """The name of its git blob: of the file, or of the pointer to a large one."""
        return self.git_sha1 or _git_sha1(self.pointer)


def info(repo: str, revision: str, files: tuple[Listed, ...], *, blobs: bool) -> dict[str, Any]:
    """Return a repository with its files; with `blobs`, their sizes and digests too."""
    known = {"_id": revision[:24], "id": repo, "modelId": repo, "sha": revision}
    plain = {"private": False, "gated": False, "disabled": False, "tags": []}
    return {**known, **plain, "siblings": [_sibling(file, blobs=blobs) for file in files]}


def tree(files: tuple[Listed, ...], under: str, *, recursive: bool) -> list[dict[str, Any]]:
    """Return the folders and files below `under` ("" is the root); its own only, unless `recursive`."""
    prefix = f"{under}/" if under else ""
    inside = [file for file in files if file.path.startswith(prefix)]
    paths = [file.path for file in inside]
    folders = sorted({path[:at] for path in paths for at, sign in enumerate(path) if sign == "/"})
    shown = [folder for folder in folders if _is_shown(folder, prefix, recursive=recursive)]
    return [
        *({"type": "directory", "oid": _git_sha1(name.encode()), "size": 0, "path": name} for name in shown),
        *(_leaf(file) for file in inside if _is_shown(file.path, prefix, recursive=recursive)),
    ]


def _is_shown(path: str, prefix: str, *, recursive: bool) -> bool:
    if not path.startswith(prefix) or path == prefix:
        return False
    return recursive or "/" not in path.removeprefix(prefix)


def _sibling(file: Listed, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": file.path}
    large = {"sha256": file.sha256, "size": file.size_bytes, "pointerSize": len(file.pointer)}
    shown = {"rfilename": file.path, "blobId": file.oid, "size": file.size_bytes}
    return {**shown, **({"lfs": large} if file.sha256 else {})}


def _leaf(file: Listed) -> dict[str, Any]:
    large = {"oid": file.sha256, "size": file.size_bytes, "pointerSize": len(file.pointer)}
    shown = {"type": "file", "oid": file.oid, "size": file.size_bytes, "path": file.path}
    return {**shown, **({"lfs": large} if file.sha256 else {})}


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
