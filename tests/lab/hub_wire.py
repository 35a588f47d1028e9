"""What the hub on loopback says on one connection."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import struct
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests.lab import hub_faults as bad
from tests.lab.hub_body import Body, ranged
from tests.lab.hub_files import Blob, Repo, blob_of, sibling, tree
from tests.lab.pace import Bucket

if TYPE_CHECKING:
    from tests.lab.hub import Asked, HubLab

GONE = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?/?")
RESOLVE = re.compile(r"/(?:api/resolve-cache/models/)?(.+?)/resolve/([^/]+)/(.*)", re.DOTALL)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    lab: HubLab
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    asked: Asked
    fault: bad.Fault | None = None
    host = ""
    _headers_buffer: list[bytes]

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def setup(self) -> None:
        """Take a connection."""
        if self.lab.buffer_bytes:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.lab.buffer_bytes)
        super().setup()
        self.bucket = Bucket()
        self.lab.connections.add(self.connection)

    def finish(self) -> None:
        """Give a connection back."""
        self.lab.connections.discard(self.connection)
        if self.host:
            self.lab.count_connection(self.host, -1)
        with contextlib.suppress(OSError):
            super().finish()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the time by the lab's clock."""
        return formatdate((timestamp or time.time()) + self.lab.clock_s, usegmt=True)

    def do_HEAD(self) -> None:
        """Answer HEAD."""
        self._answer()

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    def do_POST(self) -> None:
        """Take what a test says to a hub in a process of its own."""
        from tests.lab.hub_process import control  # noqa: PLC0415  # only such a hub needs it

        control(self.lab, self.rfile.read(int(self.headers["Content-Length"])))
        self.head(200, 0, {})

    # --- one request -------------------------------------------------------------------------

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        if path == "/_stat":
            self._stat()
            return
        self._meet(path)
        if self.lab.closing.wait(self.lab.latency_s):
            self.close_connection = True
            return
        self.fault = self._fault(path)
        if self._breaks():
            return
        if self.asked.where == "cdn":
            self._cdn(path)
        elif self.asked.where == "api":
            self._api(path)
        else:
            self._resolve(path)

    def _meet(self, path: str) -> None:
        from tests.lab.hub import Asked  # noqa: PLC0415  # hub.py needs this module first

        host = self.headers.get("Host", "").partition(":")[0]
        if not self.host:
            self.host = host
            self.lab.count_connection(host, 1)
        if token := self.headers.get("Authorization"):
            self.lab.tokens.setdefault(host, set()).add(token)
        where = "head" if self.command == "HEAD" else "get"
        if path.startswith("/api/models/"):
            where = "api"
        elif path.startswith("/cdn/"):
            where = "cdn"
        self.asked = Asked(where, host, self.command, path, self.headers.get("Range", ""))
        self.lab.count(self.asked)

    def _fault(self, path: str) -> bad.Fault | None:
        names: set[str] = set()
        if self.asked.where == "cdn":
            _, names = self.lab.shelf.find(self.lab.repos, path.removeprefix("/cdn/"))
        elif match := RESOLVE.fullmatch(path):
            names = {match[3]}
        first, end = ranged(self.headers.get("Range"), None) or (0, math.inf)
        return self.lab.take_fault(self.asked.where, names, int(first), end)

    def _breaks(self) -> bool:
        """Do what goes wrong before a body, and tell whether that was the answer."""
        fault = self.fault
        if isinstance(fault, bad.Drop) and self.command == "HEAD":
            self.abort(reset=fault.reset)
            return True
        if isinstance(fault, bad.Stall) and self.command == "HEAD":
            fault = bad.Silent(fault.for_s)
        if isinstance(fault, bad.Silent):
            self.lab.closing.wait(fault.for_s)
            self.close_connection = self.close_connection or fault.for_s is None
            return fault.for_s is None
        if isinstance(fault, bad.Hangup | bad.Garbage):
            self.close_connection = True
            self.wfile.write(fault.text.encode("latin-1") if isinstance(fault, bad.Garbage) else b"")
        elif isinstance(fault, bad.Status):
            self.head(fault.code, len(fault.text), fault.all_headers(self.date_time_string))
            self.wfile.write(fault.text.encode("latin-1") if self.command == "GET" else b"")
        elif isinstance(fault, bad.RedirectLoop | bad.RedirectTo):
            origin = fault.origin if isinstance(fault, bad.RedirectTo) else ""
            self.head(302, 0, {"Location": origin + self.path})
        else:
            return False
        return True

    # --- what is asked for -------------------------------------------------------------------

    def _stat(self) -> None:
        from tests.lab.hub_process import stat  # noqa: PLC0415  # only such a hub needs it

        told = stat(self.lab)
        self.head(200, len(told), {"Content-Type": "application/json"})
        self.wfile.write(told)

    def _cdn(self, path: str) -> None:
        blob, _ = self.lab.shelf.find(self.lab.repos, path.removeprefix("/cdn/"))
        if blob is None:
            self.error(404)
        elif not self.lab.is_signed(self.query.get("sig", ""), self.query.get("expires", "0")):
            self.head(403, len(GONE), {"Content-Type": "application/xml"})
            self.wfile.write(GONE.encode() if self.command == "GET" else b"")
        else:
            self._file(blob, {}, on_cdn=True)

    def _api(self, path: str) -> None:
        match = API.fullmatch(path)
        if match is None:
            self.error(404)
            return
        repo = self._repo(match[1], match[3] or "main")
        if repo is None:
            return
        lie = self.fault if isinstance(self.fault, bad.Lie) else None
        if match[2] == "tree":
            listed = tree(
                repo, self.lab.shelf, lie, recursive=self.query.get("recursive") in {"true", "True"}
            )
            self._page(listed)
            return
        blobs = self.query.get("blobs") in {"true", "True"}
        siblings = [
            sibling(name, self.lab.shelf.blob(data), lie, blobs=blobs) for name, data in repo.files.items()
        ]
        commit = lie.commit if lie is not None and lie.commit else repo.revision
        info = {"_id": "0", "id": match[1], "modelId": match[1], "sha": commit, "siblings": siblings}
        self._json({**info, "private": False, "gated": "auto" if repo.token else False}, {})

    def _page(self, listed: list[dict[str, object]]) -> None:
        size = int(self.query.get("limit") or self.lab.page_size)
        start = int(self.query.get("cursor") or 0)
        address = urlsplit(self.path)
        onward = urlencode({**self.query, "limit": size, "cursor": start + size})
        link = f'<{self.lab.endpoint}{address.path}?{onward}>; rel="next"'
        self._json(listed[start : start + size], {"Link": link} if start + size < len(listed) else {})

    def _json(self, content: object, headers: dict[str, str]) -> None:
        blob = blob_of(json.dumps(content).encode())
        Body(self, blob, {"Content-Type": "application/json", **headers}, ranges=False).send()

    def _repo(self, name: str, revision: str) -> Repo | None:
        """Return the repository, or answer why not."""
        repo = self.lab.repos.get(name)
        if repo is None:
            self.error(404, "RepoNotFound")
        elif revision not in (repo.revision, "main"):
            self.error(404, "RevisionNotFound")
        elif repo.token is not None and self.headers.get("Authorization") != f"Bearer {repo.token}":
            self.error(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        else:
            return repo
        return None

    def _resolve(self, path: str) -> None:
        match = RESOLVE.fullmatch(path)
        if match is None:
            self.error(404)
            return
        repo = self._repo(match[1], match[2])
        if repo is None:
            return
        data = repo.files.get(match[3])
        if data is None:
            self.error(404, "EntryNotFound", {"X-Repo-Commit": repo.revision})
        elif self.lab.cache_redirect and not path.startswith("/api/resolve-cache/"):
            known = {"X-Repo-Commit": repo.revision}
            self.head(307, 0, {**known, "Location": f"/api/resolve-cache/models{quote(path)}"})
        else:
            self._file(self.lab.shelf.blob(data), {"X-Repo-Commit": repo.revision}, on_cdn=False)

    def _file(self, blob: Blob, headers: dict[str, str], *, on_cdn: bool) -> None:
        if isinstance(self.fault, bad.Swap):
            blob = self.lab.shelf.swap(blob, self.fault.data)
        lie = self.fault if isinstance(self.fault, bad.Lie) else bad.Lie()
        if lie.commit:
            headers = {**headers, "X-Repo-Commit": lie.commit}
        if blob.is_large and not on_cdn:
            size = blob.size_bytes if lie.size is None else lie.size
            linked = {"X-Linked-Etag": f'"{lie.sha256 or blob.sha256}"', "X-Linked-Size": str(size)}
            self.redirect({**headers, **linked, "Location": self.lab.sign(blob), "Accept-Ranges": "bytes"})
            return
        etag = blob.cdn_etag if on_cdn else f'"{lie.oid or blob.oid}"'
        Body(self, blob, {**headers, "ETag": etag}, ranges=self.lab.ranges).send()

    # --- heads -------------------------------------------------------------------------------

    def redirect(self, headers: dict[str, str]) -> None:
        """Send a redirect, unless the connection breaks first."""
        if isinstance(self.fault, bad.Drop):
            self.abort(reset=self.fault.reset)
            return
        if isinstance(self.fault, bad.Stall):
            self.lab.closing.wait(self.fault.for_s)
            self.close_connection = self.close_connection or self.fault.for_s is None
            if self.fault.for_s is None:
                return
        self.head(302, 0, headers)

    def head(self, status: int, length: int, headers: dict[str, str]) -> None:
        """Send the head of an answer."""
        if hasattr(self, "asked"):
            self.asked.status = status
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def flush_headers(self) -> None:
        """Send the head; a slow one drips."""
        if not isinstance(self.fault, bad.Slow) or not self.fault.headers:
            super().flush_headers()
            return
        whole, self._headers_buffer = b"".join(self._headers_buffer), []
        for at in range(len(whole)):
            self.lab.closing.wait(self.bucket.take(1, self.fault.bytes_per_s))
            self.wfile.write(whole[at : at + 1])

    def error(self, status: int, code: str = "", headers: dict[str, str] | None = None) -> None:
        """Answer an error as the hub does."""
        named = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self.head(status, 0, {**named, **(headers or {})})

    def abort(self, *, reset: bool) -> None:
        """End the connection; by RST when it is to look like a crash."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
