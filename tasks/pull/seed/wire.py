"""What a neighbour asks for, and how much of it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

MAIN = "main"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a repository."""

    repo: str
    revision: str
    path: str


@dataclass(frozen=True, slots=True)
class Info:
    """What a repository holds."""

    repo: str
    revision: str = MAIN


@dataclass(frozen=True, slots=True)
class Tree:
    """The same as a tree, from a folder on."""

    repo: str
    revision: str
    under: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tag of Ollama is made of."""

    namespace: str
    model: str
    tag: str


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob of Ollama's; `digest` begins with "sha256:"."""

    digest: str


Asked = File | Info | Tree | Manifest | Blob

_REPO = r"(?P<repo>[^/]+(?:/[^/]+)?)"
_ROUTES: tuple[tuple[re.Pattern[str], type[Asked]], ...] = (
    (re.compile(rf"/api/models/{_REPO}(?:/revision/(?P<revision>[^/]+))?/?"), Info),
    (re.compile(rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<under>.*))?"), Tree),
    (re.compile(rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"), File),
    (re.compile(r"/v2/(?P<namespace>[^/]+)/(?P<model>[^/]+)/manifests/(?P<tag>[^/]+)"), Manifest),
    (re.compile(r"/v2/[^/]+/[^/]+/blobs/(?P<digest>[^/]+)"), Blob),
)
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def parse(raw_path: str) -> Asked | None:
    """Return what a path asks for, or None. Its parts are told apart before they are decoded, once."""
    for pattern, kind in _ROUTES:
        if match := pattern.fullmatch(raw_path):
            named = {name: text for name, text in match.groupdict().items() if text is not None}
            try:
                return kind(**{name: unquote(text, errors="strict") for name, text in named.items()})
            except UnicodeDecodeError:
                return None
    return None


def is_plain(path: str) -> bool:
    """Whether a decoded path stays below the folder that it is added to, whatever lies there."""
    return not {"", ".", ".."} & set(path.split("/")) and "\\" not in path and "\0" not in path


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `first` to `end` of a file, `end` not among them. An empty part is one that is not there."""

    first: int
    end: int

    @property
    def size_bytes(self) -> int:
        """How many bytes it has."""
        return self.end - self.first


def part_of(header: str | None, size_bytes: int) -> Part | None:
    """Read a Range header; None where all is meant: no header, one that is not understood, many ranges.

    A part that begins behind the end of the file is empty (416).
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return Part(max(0, size_bytes - int(match[2])), size_bytes)
    first = int(match[1])
    if match[2] and int(match[2]) < first:
        return None
    end = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
    return Part(min(first, size_bytes), end)
