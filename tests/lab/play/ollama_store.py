"""The folder of the lab's Ollama, and how it fetches blobs into it: in parts, as the real one does.

<models>/manifests/<host>/<namespace>/<model>/<tag>
<models>/blobs/sha256-<hex>, sha256-<hex>-partial, sha256-<hex>-partial-<n>
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .web import WebError, asked

TRIES = 6
STALL_S = 1.0
PIECE_BYTES = 1 << 14
OK, REDIRECT, BAD = 200, 307, 400

_NAME = re.compile(r"(?:(?:([\w.:-]+)/)?([\w-]+)/)?([\w.-]+?)(?::([\w.-]+))?", re.ASCII)


class PullFault(Exception):  # noqa: N818  # it is a text of Ollama's, not an error of the tests
    """Raised with the text that Ollama would send as an error line."""


@dataclass(frozen=True)
class Wanted:
    """A model's full name."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text: object) -> Wanted | None:
        """Read a name as Ollama reads it."""
        match = _NAME.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return None
        return cls(match[1] or "registry.ollama.ai", match[2] or "library", match[3], match[4] or "latest")

    @property
    def shortest(self) -> str:
        """Return it as the list shows it."""
        if self.host != "registry.ollama.ai":
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        return f"{'' if self.namespace == 'library' else self.namespace + '/'}{self.model}:{self.tag}"


class Store:
    """The folder."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.lock = threading.RLock()
        (models / "blobs").mkdir(parents=True, exist_ok=True)
        (models / "manifests").mkdir(exist_ok=True)

    def blob(self, digest: str) -> Path:
        """Return where a blob lies; `digest` begins with "sha256:"."""
        return self.models / "blobs" / digest.replace(":", "-")

    def manifest(self, name: Wanted) -> Path:
        """Return where a manifest lies."""
        return self.models / "manifests" / name.host / name.namespace / name.model / name.tag

    def names(self) -> list[Wanted]:
        """Return every model that is there."""
        root = self.models / "manifests"
        return [Wanted(*path.relative_to(root).parts) for path in root.glob("*/*/*/*")]

    def read(self, name: Wanted) -> dict[str, Any]:
        """Return the content of a manifest."""
        content: dict[str, Any] = json.loads(self.manifest(name).read_bytes())
        return content

    def write(self, name: Wanted, raw: bytes) -> None:
        """Write a manifest."""
        path = self.manifest(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)

    def listed(self) -> list[dict[str, object]]:
        """Return what /api/tags shows: the digest of each manifest, and the sizes that it names."""
        with self.lock:
            return [
                {
                    "name": name.shortest,
                    "model": name.shortest,
                    "size": sum(entry["size"] for entry in entries(self.read(name))),
                    "digest": hashlib.sha256(self.manifest(name).read_bytes()).hexdigest(),
                }
                for name in self.names()
                if self.blob(self.read(name)["config"]["digest"]).exists()
            ]

    def delete(self, name: Wanted) -> bool:
        """Delete a model and the blobs that no other has."""
        with self.lock:
            if not self.manifest(name).exists():
                return False
            mine = {entry["digest"] for entry in entries(self.read(name))}
            self.manifest(name).unlink()
            others = {entry["digest"] for other in self.names() for entry in entries(self.read(other))}
            for digest in mine - others:
                self.blob(digest).unlink(missing_ok=True)
            return True


def entries(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every blob of a manifest, the config last."""
    return [*manifest["layers"], manifest["config"]]


@dataclass
class Fetch:
    """One blob that is being fetched, for however many clients."""

    url: str
    path: Path
    part_bytes: int
    backoff_s: float
    deadline_s: float
    stalled: threading.Event
    total: int = 0
    parts: list[dict[str, int]] = field(default_factory=list)
    arrived: dict[int, int] = field(default_factory=dict)
    clients: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    error: str = ""

    @property
    def completed(self) -> int:
        """Bytes that are there, as the progress lines count them."""
        return sum(part["Completed"] for part in self.parts) + sum(self.arrived.values())

    @property
    def partial(self) -> Path:
        """The sparse file that fills."""
        return self.path.with_name(f"{self.path.name}-partial")

    def prepare(self) -> None:
        """Take up the parts of an earlier try, or ask for the size and cut new ones."""
        for path in sorted(self.path.parent.glob(f"{self.partial.name}-*")):
            self.parts.append(json.loads(path.read_text()))
        self.total = sum(part["Size"] for part in self.parts)
        if not self.parts:
            self.total = self._size()
            for number, offset in enumerate(range(0, self.total, self.part_bytes)):
                size = min(self.part_bytes, self.total - offset)
                self.parts.append({"N": number, "Offset": offset, "Size": size, "Completed": 0})
                self._note(self.parts[-1])

    def _size(self) -> int:
        url = self.url
        for _ in range(TRIES):
            with asked("HEAD", url) as answer:
                if answer.status >= BAD:
                    raise PullFault(f"{answer.status}: ")
                if answer.status == OK:
                    return int(answer.headers["Content-Length"])
                url = answer.headers["Location"]
        raise PullFault("stopped after 10 redirects")

    def run(self) -> None:
        """Fetch all parts, then give the blob its name. Its digest is checked later, by the pull."""
        try:
            with self.partial.open("ab") as file:
                file.truncate(self.total)
            direct = self._direct_url()
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda part: self._part(part, direct), self.parts))
            if not self.cancelled.is_set():
                for part in self.parts:
                    self._note_path(part).unlink()
                self.partial.rename(self.path)
        except (PullFault, WebError) as fault:
            self.error = str(fault)
        except OSError as error:
            self.error = f"write {self.partial}: {(error.strerror or str(error)).lower()}"
        finally:
            self.done.set()

    def _direct_url(self) -> str:
        end = time.monotonic() + self.deadline_s
        while time.monotonic() < end and not self.cancelled.wait(0.02):
            with asked("GET", self.url) as answer:
                if answer.status == REDIRECT:
                    return str(answer.headers["Location"])
                if answer.status == OK:
                    raise PullFault("http: no Location header in response")
        raise PullFault("context deadline exceeded")

    def _part(self, part: dict[str, int], url: str) -> None:
        tries = 0
        while tries < TRIES and part["Completed"] < part["Size"] and not self.cancelled.is_set():
            stalled = self._chunk(part, url)
            if not stalled and part["Completed"] < part["Size"]:
                self.cancelled.wait(self.backoff_s * 2**tries)
                tries += 1
        if part["Completed"] < part["Size"] and not self.cancelled.is_set():
            raise PullFault("max retries exceeded: EOF")

    def _chunk(self, part: dict[str, int], url: str) -> bool:
        """Fetch what a part lacks; how far it came is noted only when the request has ended.

        Returns whether the other side stood still, which Ollama never gives up on.
        """
        start = part["Offset"] + part["Completed"]
        wanted, got = part["Size"] - part["Completed"], 0
        headers = {"Range": f"bytes={start}-{part['Offset'] + part['Size'] - 1}"}
        try:
            with asked("GET", url, headers, STALL_S) as answer, self.partial.open("rb+") as file:
                file.seek(start)
                while piece := answer.read(PIECE_BYTES):
                    while self.stalled.is_set() and not self.cancelled.wait(0.02):
                        pass
                    if self.cancelled.is_set() or answer.status >= BAD:
                        break
                    file.write(piece)
                    got = min(wanted, got + len(piece))
                    self.arrived[part["N"]] = got
        except WebError as error:
            return error.silent
        finally:
            self.arrived.pop(part["N"], None)
            part["Completed"] += got
            self._note(part)
        return False

    def _note_path(self, part: dict[str, int]) -> Path:
        return self.partial.with_name(f"{self.partial.name}-{part['N']}")

    def _note(self, part: dict[str, int]) -> None:
        self._note_path(part).write_text(json.dumps(part))
