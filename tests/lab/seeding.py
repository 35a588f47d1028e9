"""A store with verified files, a seed over it on loopback, and a client without sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from tasks.contracts import WeightFile, Weights
from tasks.pull import store
from tasks.pull.claim import staging
from tasks.pull.seed.app import Answered, build
from tasks.pull.seed.process import base_url, listen, run
from tests.lab.asking import Answer
from tests.lab.ollama_registry import Tag, digest_of
from tests.lab.weights import FILES, pinned

TOKEN = "a-long-random-token"
BEARER = f"Bearer {TOKEN}"


def stocked(cache: Path, files: dict[str, bytes] = FILES, weights: Weights | None = None) -> Weights:
    """Put verified files into a store, as a pull does, and return their pins."""
    weights = weights or pinned(files)
    known = store.receipts(cache, weights.repo)
    with staging(cache, weights.repo) as folder:
        for file in weights.files:
            staged = folder / "staged"
            staged.write_bytes(files[file.path])
            known.add(store.install(cache, weights, file, staged), file.digest, placed=True)
    known.save()
    store.settle(cache, weights)
    return weights


def in_ollama(models: Path, tag: Tag, *, name: str = "registry.ollama.ai/library/lab/1") -> Path:
    """Put a tag into a folder of Ollama's, and return its manifest."""
    (models / "blobs").mkdir(parents=True, exist_ok=True)
    for data in tag.blobs:
        (models / "blobs" / f"sha256-{digest_of(data)}").write_bytes(data)
    manifest = models / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_bytes(tag.manifest)
    return manifest


def asked(app: ASGIApp, target: str, method: str = "GET", *, token: str = TOKEN, **headers: str) -> Answer:
    """Ask an application without a socket; `target` is sent as it is."""
    raw_path, _, query = target.partition("?")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {"authorization": f"Bearer {token}"} if token else {}
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("192.0.2.7", 4711),
    }
    said: list[dict[str, Any]] = []

    async def exchange() -> None:
        received: list[Message] = []

        async def receive() -> Message:
            if received:
                await asyncio.Event().wait()
            received.append({"type": "http.request", "body": b"", "more_body": False})
            return received[0]

        async def send(message: Message) -> None:
            said.append(message)

        await app(scope, receive, send)

    asyncio.run(exchange())
    told = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    body = b"".join(message["body"] for message in said[1:])
    whole = len(said) > 1 and not said[-1]["more_body"]
    return Answer(said[0]["status"], told, body, whole)


def flipped(path: Path) -> None:
    """Change one byte and leave the size."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def flipped_and_dated_back(path: Path) -> None:
    """Change one byte and put the time back, as a copy does."""
    seen = path.stat()
    flipped(path)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def replaced(path: Path) -> None:
    """Put another file in its place."""
    (path.parent / "new").write_bytes(b"X" * path.stat().st_size)
    (path.parent / "new").replace(path)


def blob_of(cache: Path, name: str) -> Path:
    """Return where the bytes of a file lie."""
    return store.link_path(cache, pinned(), pinned_file(name)).resolve()


def pinned_file(name: str) -> WeightFile:
    """Return the pin of one of the lab's files."""
    return next(file for file in pinned().files if file.path == name)


@dataclass
class SeedLab:
    """A seed that runs in a thread. Use as a context manager."""

    cache: Path
    ollama_models: Path | None = None
    token: str = TOKEN
    answered: list[Answered] = field(default_factory=list)
    endpoint: str = ""

    def __enter__(self) -> Self:
        app = build(
            self.cache, token=self.token, ollama_models=self.ollama_models, on_answer=self.answered.append
        )
        self._stop = threading.Event()
        listener = listen("127.0.0.1", 0)
        self.endpoint = base_url(listener)
        self._thread = threading.Thread(
            target=run, args=(app, listener), kwargs={"stop": self._stop, "finish_s": 1}, daemon=True
        )
        self._listener = listener
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(20)
        self._listener.close()
        assert not self._thread.is_alive()


@contextlib.contextmanager
def open_files_stay() -> Iterator[None]:
    """Assert that no file stays open behind the block, and that none had to be closed by the interpreter."""
    before = _open_files()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        yield
        for _ in range(100):
            if _open_files() <= before:
                break
            threading.Event().wait(0.02)
    assert _open_files() <= before
    assert [str(one.message) for one in warned if "unclosed file" in str(one.message)] == []


def _open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(entry.readlink()))
    return {path for path in found if "/models--" in path or "/blobs/" in path}
