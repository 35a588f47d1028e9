"""One exchange after the other: who asks, for what, and what they get."""

from __future__ import annotations

import asyncio
import errno
import hmac
import io
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.errors import UsageError
from tasks.pull.ollama.registry import ACCEPT
from tasks.pull.seed import refusal, wire
from tasks.pull.seed.library import Library
from tasks.pull.seed.listing import info, tree
from tasks.pull.seed.refusal import Refusal
from tasks.pull.seed.stream import Stream
from tasks.pull.seed.verified import Shelf

READERS = 16
AGAIN_S = 5
LONGEST_LOGGED = 400
NOTHING = wire.Part(0, 0)
TRUE = frozenset({"true", "True", "1"})
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_TOKEN = re.compile(r"[\x21-\x7e]+")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one request, for a log. The token is never in it.

    `path` is as it was sent, without its query, and may be cut. `sent_bytes` counts the body that the server
    took for the client; `note` says why that is not all of it, or what this host was at fault in.
    """

    method: str
    path: str
    status: int
    sent_bytes: int
    seconds: float
    client: str
    note: str = ""

    def __str__(self) -> str:
        """Return a line."""
        line = f"{self.client} {self.method} {self.path} {self.status} {self.sent_bytes} {self.seconds:.3f} s"
        return f"{line} ({self.note})" if self.note else line


OnAnswer = Callable[[Answered], None]


def unheard(_answered: Answered) -> None:
    """Keep no log."""


def build(
    cache: Path, *, token: str, ollama_models: Path | None = None, on_answer: OnAnswer = unheard
) -> ASGIApp:
    """Return the application that gives what is verified in `cache` to whoever says `token`.

    Args:
        cache: The weight store.
        token: What clients send as `Authorization: Bearer <token>`; letters, digits and signs of ASCII.
        ollama_models: The folder of an Ollama (`OLLAMA_MODELS`) whose models are given too. The real Ollama
            cannot pull them from here (see `tasks/pull/seed/__init__.py`).
        on_answer: Told of each request when it has ended, in the server's own thread; must not block.

    Raises:
        UsageError: the token is empty, or cannot stand in a header.
    """
    if not _TOKEN.fullmatch(token):
        fault = "has letters that no HTTP header can carry" if token else "is empty"
        raise UsageError(
            f"the token of the seed {fault}",
            "nothing was served",
            "give it a long random one, in plain ASCII",
        )
    library = Library(ollama_models) if ollama_models else None
    return Seed(Shelf(cache), library, token, on_answer)


@dataclass
class Reply:
    """What is answered: a short body, or a part of an open file."""

    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: io.FileIO | None = None
    part: wire.Part = NOTHING

    @property
    def size_bytes(self) -> int:
        """How long the body is, also where only its head is wanted."""
        return len(self.body) if self.file is None else self.part.size_bytes


@dataclass
class Exchange:
    """One request and its answer so far."""

    scope: Scope
    status: int = 0
    sent_bytes: int = 0
    note: str = ""
    begun: float = field(default_factory=time.monotonic)

    def header(self, name: bytes) -> str:
        """Return a header of the request, or ""."""
        return next((value.decode("latin-1") for key, value in self.scope["headers"] if key == name), "")

    def flag(self, name: str) -> bool:
        """Whether a flag of the query is set."""
        query = parse_qs(self.scope.get("query_string", b"").decode("latin-1"))
        return query.get(name, [""])[-1] in TRUE

    @property
    def raw_path(self) -> str:
        """The path as it was sent."""
        raw = self.scope.get("raw_path")
        return raw.decode("latin-1") if raw else quote(self.scope["path"])

    def answered(self, token: str) -> Answered:
        """Return the line for the log."""
        path = "(hidden: the token is in it)" if token in unquote(self.raw_path) else self.raw_path
        seconds = time.monotonic() - self.begun
        client = (self.scope.get("client") or ("-",))[0]
        method = self.scope["method"][:LONGEST_LOGGED]
        shown = path[:LONGEST_LOGGED]
        return Answered(method, shown, self.status, self.sent_bytes, seconds, client, self.note)


class Seed:
    """The ASGI application."""

    def __init__(self, shelf: Shelf, library: Library | None, token: str, on_answer: OnAnswer) -> None:
        self._shelf = shelf
        self._library = library
        self._token = token
        self._on_answer = on_answer
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="seed")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        exchange = Exchange(scope)
        try:
            reply = await self._reply(exchange)
            await self._send(exchange, reply, receive, send)
        except asyncio.CancelledError:
            exchange.note = exchange.note or "cut off, because this server ends"
            raise
        finally:
            with suppress(Exception):  # a log that fails must not break an answer
                self._on_answer(exchange.answered(self._token))

    async def _reply(self, exchange: Exchange) -> Reply:
        try:
            return await self._asked(exchange)
        except Exception as error:  # noqa: BLE001  # a client gets a sentence, never a traceback
            no = _meaning(error)
            if no is not error:
                exchange.note = f"{type(error).__name__}: {error}"
            return Reply(no.status, no.all_headers, no.body)

    async def _asked(self, exchange: Exchange) -> Reply:
        if not self._is_allowed(exchange.header(b"authorization")):
            raise refusal.no_token()
        if exchange.scope["method"] not in {"GET", "HEAD"}:
            raise refusal.wrong_method()
        asked = wire.parse(exchange.raw_path)
        if isinstance(asked, wire.Blob | wire.Manifest):
            return await self._ollama(asked, exchange)
        if asked is None:
            raise refusal.nothing_there()
        revision = await self._aside(lambda: self._shelf.revision(asked.repo, asked.revision))
        if isinstance(asked, wire.File):
            return await self._file(asked, revision, exchange)
        files = await self._aside(lambda: self._shelf.files(asked.repo, revision))
        if isinstance(asked, wire.Info):
            told: object = info(asked.repo, revision, files, blobs=exchange.flag("blobs"))
        else:
            told = tree(files, asked.under.strip("/"), recursive=exchange.flag("recursive"))
        return _json(told, {"X-Repo-Commit": revision})

    def _is_allowed(self, header: str) -> bool:
        scheme, _, said = header.partition(" ")
        same = hmac.compare_digest(said.strip().encode("latin-1"), self._token.encode())
        return same and scheme.lower() == "bearer"

    async def _file(self, asked: wire.File, revision: str, exchange: Exchange) -> Reply:
        opened = await self._aside(lambda: self._shelf.open(asked.repo, revision, asked.path))
        listed = opened.listed
        headers = {"X-Repo-Commit": revision}
        if listed.sha256:
            headers |= {"X-Linked-Etag": f'"{listed.sha256}"', "X-Linked-Size": str(listed.size_bytes)}
        return _whole_or_part(opened.file, listed.size_bytes, listed.etag, headers, exchange)

    async def _ollama(self, asked: wire.Blob | wire.Manifest, exchange: Exchange) -> Reply:
        library = self._library
        if library is None:
            raise refusal.nothing_there()
        if isinstance(asked, wire.Manifest):
            manifest = await self._aside(partial(library.manifest, asked))
            named = {"Content-Type": ACCEPT, "Docker-Content-Digest": f"sha256:{manifest.digest}"}
            return Reply(headers=named, body=manifest.raw)
        opened = await library.open(asked.digest)
        size_bytes = opened.file.seek(0, io.SEEK_END)
        named = {"Docker-Content-Digest": asked.digest}
        return _whole_or_part(opened.file, size_bytes, opened.digest, named, exchange)

    async def _aside(self, work: Callable[[], T]) -> T:
        """Do what asks the disk in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _send(self, exchange: Exchange, reply: Reply, receive: Receive, send: Send) -> None:
        try:
            exchange.status = int(reply.status)
            headers = {**reply.headers, "Content-Length": str(reply.size_bytes)}
            raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": int(reply.status), "headers": raw})
            if reply.file is None or not reply.part.size_bytes or exchange.scope["method"] == "HEAD":
                body = b"" if exchange.scope["method"] == "HEAD" else reply.body
                await send({"type": "http.response.body", "body": body, "more_body": False})
                exchange.sent_bytes = len(body)
                return
            stream, reply.file = Stream(reply.file, reply.part, self._pool), None
            try:
                await stream.run(receive, send)
            finally:
                exchange.sent_bytes, exchange.note = stream.sent_bytes, stream.note
        finally:
            if reply.file is not None:
                reply.file.close()


def _meaning(error: Exception) -> Refusal:
    """Return the answer that an error stands for."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OSError) and error.errno in SCARCE:
        return refusal.come_back("this host has too much to do; ask again in a while", AGAIN_S)
    return refusal.broken()


def _json(told: object, headers: dict[str, str]) -> Reply:
    return Reply(headers={"Content-Type": "application/json", **headers}, body=json.dumps(told).encode())


def _whole_or_part(
    file: io.FileIO, size_bytes: int, etag: str, headers: dict[str, str], exchange: Exchange
) -> Reply:
    """Answer with the range that is asked for, or with all."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{etag}"',
        **headers,
    }
    wanted = exchange.header(b"range") if exchange.scope["method"] == "GET" else ""
    if exchange.header(b"if-range") not in {"", headers["ETag"]}:
        wanted = ""
    part = wire.part_of(wanted, size_bytes)
    if part is None:
        return Reply(headers=headers, file=file, part=wire.Part(0, size_bytes))
    if not part.size_bytes:
        file.close()
        raise refusal.no_such_part(size_bytes)
    headers["Content-Range"] = f"bytes {part.first}-{part.end - 1}/{size_bytes}"
    return Reply(HTTPStatus.PARTIAL_CONTENT, headers, file=file, part=part)
