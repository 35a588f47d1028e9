"""A Hugging Face Hub on loopback, as the real client sees it, with faults on demand.

HEAD/GET /{repo}/resolve/{revision}/{path}        small files: the bytes; large files: 302 to
GET      http://localhost:{port}/cdn/{sha256}     the same server under a second host name
GET      /api/models/{repo}/revision/{revision}   what the repository holds
GET      /api/models/{repo}/tree/{revision}       the same, as a list

with HubLab({"org/name": Repo(files)}) as hub:
    hub.fail("cdn", "drop", times=1)
    ... hub.endpoint ... hub.sent_bytes ... hub.requests ... hub.tokens
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

Where = Literal["api", "head", "get", "cdn"]
What = Literal["drop", "corrupt", "short", "stall", "slow"] | int

REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
LARGE_BYTES = 100_000
PIECE_BYTES = 1 << 16
SLOW_PIECE_S = 0.02


@dataclass(frozen=True)
class Repo:
    """A repository at one revision. With `token`, it is gated and opens to that token only."""

    files: dict[str, bytes]
    revision: str = REVISION
    token: str | None = None


@dataclass
class _Fault:
    what: What
    times: int


@dataclass
class HubLab:
    """The hub. Use as a context manager; everything it counts may be read at any time."""

    repos: dict[str, Repo]
    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    tokens: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, _Fault] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"lab": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        """What `HF_ENDPOINT` would be."""
        return f"http://127.0.0.1:{self.port}"

    def fail(self, where: Where, what: What, *, times: int = 1_000_000) -> None:
        """Break the next `times` answers of one kind; a number is an HTTP status."""
        self.faults[where] = _Fault(what, times)

    def take_fault(self, where: Where) -> What | None:
        """Return the fault of the next answer and count it down."""
        fault = self.faults.get(where)
        if fault is None or fault.times == 0:
            return None
        fault.times -= 1
        return fault.what


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    lab: HubLab
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer HEAD."""
        self._answer()

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    def _answer(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]
        if token := self.headers.get("Authorization"):
            self.lab.tokens.setdefault(host, set()).add(token)
        path = unquote(urlsplit(self.path).path)
        where = self._where(path)
        self.lab.requests[where] += 1
        fault = self.lab.take_fault(where)
        if isinstance(fault, int):
            self._error(fault)
        elif where == "cdn":
            self._body(self._blob(path.removeprefix("/cdn/")), fault=fault)
        elif where == "api":
            self._api(path)
        else:
            self._resolve(path, fault=fault)

    def _where(self, path: str) -> Where:
        if path.startswith("/api/"):
            return "api"
        if path.startswith("/cdn/"):
            return "cdn"
        return "head" if self.command == "HEAD" else "get"

    def _blob(self, sha256: str) -> bytes:
        every = (data for repo in self.lab.repos.values() for data in repo.files.values())
        return next(data for data in every if hashlib.sha256(data).hexdigest() == sha256)

    def _api(self, path: str) -> None:
        match = re.fullmatch(r"/api/models/(.+?)/(revision|tree)/([^/]+)/?", path)
        repo = self._repo(match[1], match[3]) if match else None
        if repo is None or match is None:
            return
        files = [_listed(name, data) for name, data in repo.files.items()]
        siblings = [{"rfilename": item["path"], **item} for item in files]
        info = {"id": match[1], "modelId": match[1], "sha": repo.revision, "siblings": siblings}
        self._body(json.dumps(info if match[2] == "revision" else files).encode(), json_body=True)

    def _repo(self, name: str, revision: str) -> Repo | None:
        """Return the repository, or answer why not."""
        repo = self.lab.repos.get(name)
        if repo is None:
            self._error(404, "RepoNotFound")
        elif revision not in (repo.revision, "main"):
            self._error(404, "RevisionNotFound")
        elif repo.token is not None and self.headers.get("Authorization") != f"Bearer {repo.token}":
            self._error(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        else:
            return repo
        return None

    def _resolve(self, path: str, *, fault: str | None) -> None:
        match = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path)
        if match is None:
            self._error(404)
            return
        repo = self._repo(match[1], match[2])
        if repo is None:
            return
        data = repo.files.get(match[3])
        if data is None:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": repo.revision})
        elif len(data) > LARGE_BYTES:
            sha256 = hashlib.sha256(data).hexdigest()
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
            location = f"http://localhost:{self.lab.port}/cdn/{sha256}"
            self._head(302, 0, {**linked, "Location": location, "X-Repo-Commit": repo.revision})
        else:
            headers = {"ETag": f'"{git_sha1(data)}"', "X-Repo-Commit": repo.revision}
            self._body(data, fault=fault, headers=headers)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _error(self, status: int, code: str = "", headers: dict[str, str] | None = None) -> None:
        named = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self._head(status, 0, {**named, **(headers or {})})

    def _body(
        self,
        data: bytes,
        *,
        fault: str | None = None,
        headers: dict[str, str] | None = None,
        json_body: bool = False,
    ) -> None:
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        ranged = "Range" in self.headers
        end = len(data) - 10 if fault == "short" else len(data)
        known = {"Content-Range": f"bytes {first}-{end - 1}/{len(data)}"} if ranged else {}
        kind = {"Content-Type": "application/json"} if json_body else {}
        self._head(206 if ranged else 200, end - first, {**known, **kind, **(headers or {})})
        if self.command == "GET":
            self._send(_damaged(data, fault)[first:end], fault)

    def _send(self, data: bytes, fault: str | None) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            half_way = start >= len(data) // 2
            if half_way and fault == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if half_way and fault == "stall":
                self.lab.closing.wait()
                return
            if fault == "slow":
                time.sleep(SLOW_PIECE_S)
            piece = data[start : start + PIECE_BYTES]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            self.lab.sent_bytes += len(piece)


def _damaged(data: bytes, fault: str | None) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if fault == "corrupt" else data


def _listed(name: str, data: bytes) -> dict[str, object]:
    large = {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
    return {
        "type": "file",
        "path": name,
        "size": len(data),
        "oid": git_sha1(data),
        **(large if len(data) > LARGE_BYTES else {}),
    }


def git_sha1(data: bytes) -> str:
    """Return the name that git gives to these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
