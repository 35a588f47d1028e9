"""A registry on loopback that Ollama can pull from, with faults on demand.

GET      /v2/{namespace}/{model}/manifests/{tag}      the manifest
GET/HEAD /v2/{namespace}/{model}/blobs/sha256:{hex}   307 to another host name, without which Ollama refuses:
GET/HEAD http://localhost:{port}/cdn/{hex}            the bytes, with Range

with OllamaRegistry({"library/lab:1": Tag(layers)}) as registry:
    registry.fail("cdn", "drop", times=1)
    ... registry.base ... registry.sent_bytes ... registry.requests
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self

Where = Literal["manifest", "blob", "cdn"]
What = Literal["corrupt", "drop", "stall", "slow", "odd"] | int

ACCEPT = "application/vnd.docker.distribution.manifest.v2+json"
PIECE_BYTES = 1 << 15
SLOW_PIECE_S = 0.02
BIG_BYTES = 3_000_000


def gguf(seed: int, size_bytes: int) -> bytes:
    """Return what the real Ollama takes for a GGUF file: version 3, no tensors, one key, then any bytes."""
    key, value = b"general.architecture", b"llama"
    head = b"GGUF" + (3).to_bytes(4, "little") + (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    pair = len(key).to_bytes(8, "little") + key + (8).to_bytes(4, "little")
    text = len(value).to_bytes(8, "little") + value
    rest = random.Random(seed).randbytes(size_bytes)  # noqa: S311  # any bytes will do
    return (head + pair + text + rest)[:size_bytes]


@lru_cache(64)
def digest_of(data: bytes) -> str:
    """Return the sha256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def config_of(seed: int = 0) -> bytes:
    """Return a config blob."""
    shape = {"model_format": "gguf", "model_family": "llama", "model_type": f"{seed}B", "file_type": "F32"}
    return json.dumps(shape).encode()


@dataclass(frozen=True)
class Tag:
    """What a tag is made of: blobs by the last word of their media type, then the config."""

    layers: tuple[tuple[str, bytes], ...]
    config: bytes = config_of()

    @property
    def blobs(self) -> tuple[bytes, ...]:
        """Every blob, in the order in which Ollama fetches them."""
        return (*(data for _, data in self.layers), self.config)

    @property
    def manifest(self) -> bytes:
        """The manifest as the library writes it."""
        layers = [_entry(f"application/vnd.ollama.image.{kind}", data) for kind, data in self.layers]
        config = _entry("application/vnd.docker.container.image.v1+json", self.config)
        body = {"schemaVersion": 2, "mediaType": ACCEPT, "config": config, "layers": layers}
        return json.dumps(body).encode()

    @property
    def digest(self) -> str:
        """What a pin names."""
        return digest_of(self.manifest)

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all blobs."""
        return sum(len(data) for data in self.blobs)


def _entry(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{digest_of(data)}", "size": len(data)}


def lab_tag(seed: int = 1, *, big_bytes: int = BIG_BYTES) -> Tag:
    """Return a model with one large and two small layers; another seed is another version of it."""
    params = b'{"num_ctx": %d}' % (seed * 1024)
    return Tag((("model", gguf(seed, big_bytes)), ("template", b"{{ .Prompt }}"), ("params", params)))


@dataclass
class _Fault:
    what: What
    times: int


@dataclass
class OllamaRegistry:
    """The registry. Use as a context manager; everything it counts may be read at any time."""

    tags: dict[str, Tag]
    requests: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    accepts: set[str] = field(default_factory=set)
    faults: dict[str, _Fault] = field(default_factory=dict)
    changes: dict[str, Tag] = field(default_factory=dict)
    """What tags become after the next manifest is given, as if somebody pushed at that moment."""
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

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
    def host(self) -> str:
        """Its name in a model's name."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def base(self) -> str:
        """What `PMOVES_OLLAMA_LIBRARY` would be."""
        return f"http://{self.host}/v2/"

    @property
    def cdn(self) -> str:
        """Where blobs really come from."""
        return f"http://localhost:{self._server.server_address[1]}/cdn/"

    @property
    def sent_bytes(self) -> int:
        """Bytes of blobs that were sent."""
        return self.sent.total()

    def fail(self, where: Where, what: What, *, times: int = 1_000_000) -> None:
        """Break the next `times` answers of one kind; a number is an HTTP status."""
        self.faults[where] = _Fault(what, times)

    def take_fault(self, where: str) -> What | None:
        """Return the fault of the next answer and count it down."""
        with self.lock:
            fault = self.faults.get(where)
            if fault is None or fault.times == 0:
                return None
            fault.times -= 1
            return fault.what

    def count(self, digest: str, size_bytes: int) -> None:
        """Count bytes of a blob that were sent."""
        with self.lock:
            self.sent[digest] += size_bytes

    def blob(self, digest: str) -> bytes | None:
        """Return a blob of any tag."""
        every = (data for tag in self.tags.values() for data in tag.blobs)
        return next((data for data in every if digest_of(data) == digest), None)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    lab: OllamaRegistry
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
        match = re.fullmatch(r"/v2/([^/]+/[^/]+)/(manifests|blobs)/([^/]+)", self.path)
        where = (
            "cdn"
            if self.path.startswith("/cdn/")
            else "manifest"
            if match and match[2] == "manifests"
            else "blob"
        )
        self.lab.requests[where] += 1
        # Ollama asks for a blob's size before its bytes; only the bytes are broken.
        fault = self.lab.take_fault(where) if self.command == "GET" else None
        if isinstance(fault, int):
            self._head(fault, {})
        elif where == "cdn":
            self._cdn(self.path.removeprefix("/cdn/"), fault)
        elif match is None:
            self._head(404, {})
        elif where == "manifest":
            self._manifest(f"{match[1]}:{match[3]}", fault)
        else:
            self._head(307, {"Location": self.lab.cdn + match[3].removeprefix("sha256:")})

    def _head(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _manifest(self, name: str, fault: str | None) -> None:
        self.lab.accepts.add(self.headers.get("Accept", ""))
        tag = self.lab.tags.get(name)
        if tag is None:
            self._head(404, {})
        elif fault == "stall":
            self.lab.closing.wait()
        else:
            raw = b"<html>log in</html>" if fault == "odd" else tag.manifest
            self._head(
                200, {"Content-Type": ACCEPT, "Docker-Content-Digest": f"sha256:{tag.digest}"}, len(raw)
            )
            self.wfile.write(raw)
            self.lab.tags.update(self.lab.changes)

    def _cdn(self, digest: str, fault: str | None) -> None:
        data = self.lab.blob(digest)
        if data is None:
            self._head(404, {})
            return
        first, _, last = (self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(data)
        ranged = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"} if "Range" in self.headers else {}
        self._head(206 if ranged else 200, ranged, end - start)
        if self.command == "GET":
            sent = data[:-1] + bytes([data[-1] ^ 1]) if fault == "corrupt" else data
            self._send(digest, sent[start:end], fault)

    def _send(self, digest: str, data: bytes, fault: str | None) -> None:
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
            self.lab.count(digest, len(piece))
