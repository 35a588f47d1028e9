"""A fast file server on loopback, for measuring clients against one and the same server.

python -m tests.lab.fast_server --root DIR [--hub] [--bytes-per-s N] [--link-bytes-per-s N] [--latency-s S]

GET/HEAD /{path below DIR}                           with ranges, keep-alive and os.sendfile
GET/HEAD /{org}/{name}/resolve/{revision}/{path}     DIR/org/name/path, with the Hub's headers (--hub)
GET      /api/models/{org}/{name}/(revision|tree)/.. what the real client asks first (--hub)
GET      /_stat                                      requests, sent_bytes, opened, now, peak

with FastServer(folder, hub=True, latency_s=0.02) as server:
    ... server.endpoint ... server.stat()["sent_bytes"]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

from tests.lab.hub_body import ranged
from tests.lab.hub_files import REVISION, Repo, Shelf, sibling, tree
from tests.lab.hub_process import repos_in
from tests.lab.pace import Bucket, piece_bytes

ROOT = Path(__file__).parents[2]
SMALL_BYTES = 1 << 16
HEAD_BYTES = 1 << 16
API = re.compile(r"/api/models/([^/]+/[^/]+)/(revision|tree)/[^/]+/?")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)")


@dataclass
class Serving:
    """What is served, at which rates, and what was counted."""

    root: Path
    revision: str = REVISION
    hub: bool = False
    bytes_per_s: float | None = None
    link_bytes_per_s: float | None = None
    latency_s: float = 0.0
    link: Bucket = field(default_factory=Bucket)
    shelf: Shelf = field(default_factory=Shelf)
    repos: dict[str, Repo] = field(default_factory=dict)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("requests", "sent_bytes", "opened", "now", "peak"), 0)
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.hub:
            self.repos = repos_in(self.root, self.revision, "")
            for repo in self.repos.values():
                for data in repo.files.values():
                    self.shelf.blob(data)

    def count(self, **changes: int) -> None:
        """Add to the counters."""
        with self._lock:
            for name, change in changes.items():
                self.counts[name] += change
            self.counts["peak"] = max(self.counts["peak"], self.counts["now"])


class Connection:
    """Answers one client until it goes away."""

    def __init__(self, serving: Serving, client: socket.socket) -> None:
        self.serving = serving
        self.client = client
        self.bucket = Bucket()
        self.kept = b""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """Answer one request after the other."""
        self.serving.count(opened=1, now=1)
        with self.client, contextlib.suppress(OSError, ValueError):
            while head := self._read_head():
                self.serving.count(requests=1)
                if self.serving.latency_s:
                    time.sleep(self.serving.latency_s)
                if not self._answer(head):
                    break
        self.serving.count(now=-1)

    def _read_head(self) -> str:
        while b"\r\n\r\n" not in self.kept:
            piece = self.client.recv(HEAD_BYTES)
            if not piece or len(self.kept) > HEAD_BYTES:
                return ""
            self.kept += piece
        head, _, self.kept = self.kept.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def _answer(self, head: str) -> bool:
        """Answer one request, and tell whether the connection goes on."""
        first, *lines = head.split("\r\n")
        method, target, _version = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        path = unquote(urlsplit(target).path)
        told = self._told(path, target)
        if told is not None:
            self._say(200, {"Content-Type": "application/json"}, told, bodiless=method == "HEAD")
        elif method in {"GET", "HEAD"}:
            self._file(path, method, headers)
        else:
            self._say(405, {}, b"")
        return headers.get("connection", "").lower() != "close"

    def _told(self, path: str, target: str) -> bytes | None:
        """Return what is answered as JSON; None when it is a file that is asked for."""
        if path == "/_stat":
            return json.dumps(self.serving.counts).encode()
        match = API.fullmatch(path)
        repo = self.serving.repos.get(match[1]) if match else None
        if match is None or repo is None:
            return None
        shelf = self.serving.shelf
        if match[2] == "tree":
            return json.dumps(tree(repo, shelf, None, recursive="recursive=" in target)).encode()
        blobs = "blobs=" in target
        files = [sibling(name, shelf.blob(data), None, blobs=blobs) for name, data in repo.files.items()]
        return json.dumps({"id": match[1], "sha": repo.revision, "siblings": files}).encode()

    def _say(self, status: int, headers: dict[str, str], body: bytes, *, bodiless: bool = False) -> None:
        head = _head(status, {**headers, "Content-Length": str(len(body))})
        self.client.sendall(head if bodiless else head + body)

    def _file(self, path: str, method: str, headers: dict[str, str]) -> None:
        match = RESOLVE.fullmatch(path) if self.serving.hub else None
        file = self.serving.root / (f"{match[1]}/{match[2]}" if match else path.lstrip("/"))
        try:
            descriptor = os.open(file, os.O_RDONLY) if ".." not in path.split("/") and file.is_file() else -1
        except OSError:
            descriptor = -1
        if descriptor < 0:
            self._say(404, {"X-Error-Code": "EntryNotFound"}, b"")
            return
        try:
            self._stream(descriptor, method, headers, self._names(file, descriptor, as_hub=match is not None))
        finally:
            os.close(descriptor)

    def _names(self, file: Path, descriptor: int, *, as_hub: bool) -> dict[str, str]:
        """Return the headers that name the content."""
        if not as_hub:
            seen = os.fstat(descriptor)
            return {"ETag": f'"{seen.st_mtime_ns:x}-{seen.st_size:x}"'}
        blob = self.serving.shelf.blob(file)
        commit = {"X-Repo-Commit": self.serving.revision}
        if not blob.is_large:
            return {"ETag": f'"{blob.oid}"', **commit}
        etag = f'"{blob.sha256}"'
        return {"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(blob.size_bytes), **commit}

    def _stream(self, descriptor: int, method: str, headers: dict[str, str], names: dict[str, str]) -> None:
        size = os.fstat(descriptor).st_size
        known = headers.get("if-range", names["ETag"]) == names["ETag"]
        asked = ranged(headers.get("range"), size) if method == "GET" and known else None
        if asked is not None and asked[0] >= size:
            self._say(416, {"Content-Range": f"bytes */{size}"}, b"")
            return
        first, end = (asked[0], int(asked[1])) if asked else (0, size)
        names = {"Accept-Ranges": "bytes", "Content-Length": str(end - first), **names}
        if asked:
            names["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        head = _head(206 if asked else 200, names)
        if method == "HEAD" or first == end:
            self.client.sendall(head)
        elif end - first <= SMALL_BYTES and not self._step():
            self.serving.count(sent_bytes=end - first)
            self.client.sendall(head + os.pread(descriptor, end - first, first))
        else:
            self.client.sendall(head, socket.MSG_MORE)
            self._send(descriptor, first, end)

    def _step(self) -> int | None:
        return piece_bytes(self.serving.bytes_per_s, self.serving.link_bytes_per_s)

    def _send(self, descriptor: int, first: int, end: int) -> None:
        serving, step = self.serving, self._step() or end
        while first < end:
            count = min(step, end - first)
            wait_s = max(
                self.bucket.take(count, serving.bytes_per_s),
                serving.link.take(count, serving.link_bytes_per_s),
            )
            if wait_s > 0:
                time.sleep(wait_s)
            serving.count(sent_bytes=count)
            sent = os.sendfile(self.client.fileno(), descriptor, first, count)
            serving.count(sent_bytes=sent - count)
            first += sent


class FastServer:
    """The server in a process of its own; `options` are those of the command line, such as `latency_s`."""

    def __init__(self, root: Path, *, hub: bool = False, **options: float) -> None:
        self.command = [sys.executable, "-m", "tests.lab.fast_server", "--root", str(root)]
        self.command += ["--hub"] if hub else []
        for name, value in options.items():
            self.command += ["--" + name.replace("_", "-"), str(value)]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint, "the server did not start"
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def stat(self) -> dict[str, Any]:
        """Return its counters."""
        with urlopen(f"{self.endpoint}/_stat") as answer:  # noqa: S310  # always http on loopback
            told: dict[str, Any] = json.load(answer)
            return told


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def main() -> None:
    """Serve a folder until killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.fast_server")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--hub", action="store_true", help="answer as the Hub; hashes every file first")
    parser.add_argument("--revision", default=REVISION)
    parser.add_argument("--bytes-per-s", type=float, help="for each connection")
    parser.add_argument("--link-bytes-per-s", type=float, help="for all connections together")
    parser.add_argument("--latency-s", type=float, default=0.0, help="before each answer")
    options = vars(parser.parse_args())
    with socket.create_server(("127.0.0.1", options.pop("port")), backlog=256) as listener:
        serving = Serving(**options)
        sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                connection = Connection(serving, listener.accept()[0])
                threading.Thread(target=connection.run, daemon=True).start()


if __name__ == "__main__":
    main()
