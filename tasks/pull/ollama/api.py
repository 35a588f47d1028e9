"""The requests of Ollama's own API. Each answer is checked before use, and none is waited for too long."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from threading import Event
from time import monotonic
from types import TracebackType
from typing import Any, Self

import orjson

from tasks.effects.files import CHUNK_BYTES
from tasks.errors import DigestMismatchError, ProvisionError, SourceRefusedError, SourceUnavailableError
from tasks.pull.claim import stopped
from tasks.pull.ollama.exchange import Ask, BrokenExchangeError, Exchange, client
from tasks.pull.ollama.faults import INTACT, explain, no_answer, plain
from tasks.pull.ollama.names import is_digest, short
from tasks.pull.ollama.stream import Lines

ANSWER_S = 60.0
LARGEST_ANSWER_BYTES = 64 << 20
_BAD_REQUEST, _SERVER_ERROR = HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR
_JSON = {"Content-Type": "application/json"}

Answer = Generator[bytes | None, None, None]
"""The lines of an answer, and None each time there was none; closing it breaks the request off."""


class Api:
    """One Ollama server. Use as a context manager.

    Every request is broken off as soon as `stop` is set, and raises StoppedError. Every request raises
    SourceUnavailableError when the server does not answer, and SourceRefusedError when it is no Ollama.

    Args:
        url: Where it listens, such as "http://127.0.0.1:11434".
        subject: The model that this is about, as errors name it.
        stop: Ends every request.
        quiet_s: How long an upload may stand still.
        answer_s: How long any other short answer may take.
    """

    def __init__(
        self, url: str, subject: str, stop: Event, *, quiet_s: float, answer_s: float = ANSWER_S
    ) -> None:
        self.url = url.rstrip("/")
        self._subject = subject
        self._stop = stop
        self._quiet_s = quiet_s
        self._answer_s = answer_s
        self._client = client(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def version(self) -> str:
        """Return the server's version, such as "0.32.15"."""
        return str(self._object("GET", "/api/version").get("version", ""))

    def tags(self) -> dict[str, str]:
        """Return the digest (64 hex digits) of every model that is there, by `Name.key`."""
        rows = self._object("GET", "/api/tags").get("models") or []
        if not isinstance(rows, list):
            raise self._stranger("a list of models that is none")
        named = (row for row in rows if isinstance(row, dict))
        found = {
            str(row.get("name", "")).lower(): str(row.get("digest", "")).removeprefix("sha256:")
            for row in named
        }
        return {name: digest for name, digest in found.items() if is_digest(digest)}

    def show(self, model: str) -> dict[str, Any]:
        """Return what the server knows of a model; nothing when it does not have it."""
        status, body = self._answer("POST", "/api/show", {"model": model})
        if status == HTTPStatus.NOT_FOUND and self._said(body):
            return {}
        return self._checked(status, body)

    def delete(self, model: str) -> bool:
        """Delete a model, and the blobs that no other has. Returns whether it was there."""
        return self._done("DELETE", "/api/delete", {"model": model})

    def copy(self, model: str, to: str) -> bool:
        """Give a model a second name; no blob is copied. Returns whether the model was there."""
        return self._done("POST", "/api/copy", {"source": model, "destination": to})

    def has_blob(self, digest: str) -> bool:
        """Whether a file of this name is there. Its bytes were only checked when they came."""
        status, _ = self._answer("HEAD", f"/api/blobs/sha256:{digest}")
        return status == HTTPStatus.OK

    def pull(self, model: str, *, insecure: bool) -> Answer:
        """Pull a model: give its lines to a `PullStream`. Ollama stops when the answer is closed.

        Args:
            model: The name, with the registry's host where that is not the library.
            insecure: Ask the registry by http.
        """
        return self._lines("/api/pull", {"model": model, "insecure": insecure, "stream": True})

    def create(
        self, model: str, *, files: Mapping[str, str], adapters: Mapping[str, str], note: str
    ) -> Answer:
        """Make a model of blobs that are there.

        Args:
            model: Its name.
            files: The digest of each GGUF file, by a file name that ends in ".gguf".
            adapters: The same for LoRA adapters.
            note: A text that the model carries as a licence, and shows.
        """
        digests = {
            kind: {name: f"sha256:{digest}" for name, digest in given.items()}
            for kind, given in (("files", files), ("adapters", adapters))
            if given
        }
        return self._lines("/api/create", {"model": model, "stream": True, "license": note, **digests})

    def upload(self, path: Path, digest: str, on_bytes: Callable[[int], None]) -> None:
        """Bring a file to the server, which hashes it. `on_bytes` hears how many bytes were sent so far.

        Raises:
            DigestMismatchError: the file does not have this sha256; the server does not keep it by that name.
            SourceUnavailableError: the server stopped reading.
        """
        sent = _Sent(path)
        headers = {"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"}
        ask = Ask("POST", f"{self.url}/api/blobs/sha256:{digest}", sent, headers)

        def so_far() -> int:
            on_bytes(sent.bytes)
            return sent.bytes

        status, body = self._collect(ask, self._quiet_s, so_far)
        if status == _BAD_REQUEST and "digest mismatch" in self._said(body):
            raise DigestMismatchError(
                f"{path} does not have the sha256 {short(digest)} ({plain(self._said(body))})",
                INTACT,
                "fetch the file again",
            )
        if status not in (HTTPStatus.OK, HTTPStatus.CREATED):
            raise self._refusal(status, body)

    # --- one request -------------------------------------------------------------------------

    def _lines(self, path: str, body: Mapping[str, object]) -> Answer:
        lines, status, rest = Lines(), 0, b""
        ask = Ask("POST", self.url + path, orjson.dumps(body), _JSON)
        with closing(self._arriving(ask)) as arriving:
            for piece in arriving:
                if isinstance(piece, int):
                    status = piece
                elif piece is None:
                    yield None
                elif status == HTTPStatus.OK:
                    yield from lines.feed(piece)
                elif len(rest) < LARGEST_ANSWER_BYTES:
                    rest += piece
        if status != HTTPStatus.OK:
            raise self._refusal(status, rest)
        yield from lines.end()

    def _arriving(self, ask: Ask) -> Generator[int | bytes | None, None, None]:
        with Exchange(self._client, ask) as exchange:
            try:
                for piece in exchange.arriving():
                    if self._stop.is_set():
                        raise stopped(self._subject)
                    yield piece
            except BrokenExchangeError as error:
                raise no_answer(self.url, str(error)) from None

    def _object(self, method: str, path: str) -> dict[str, Any]:
        return self._checked(*self._answer(method, path))

    def _checked(self, status: int, body: bytes) -> dict[str, Any]:
        if status != HTTPStatus.OK:
            raise self._refusal(status, body)
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise self._stranger(plain(body[:200].decode(errors="replace")))
        return found

    def _done(self, method: str, path: str, body: Mapping[str, object]) -> bool:
        status, answer = self._answer(method, path, body)
        if status == HTTPStatus.OK:
            return True
        if status == HTTPStatus.NOT_FOUND and self._said(answer):
            return False
        raise self._refusal(status, answer)

    def _answer(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, bytes]:
        content, headers = (None, {}) if body is None else (orjson.dumps(body), _JSON)
        ask = Ask(method, self.url + path, content, headers)
        return self._collect(ask, self._answer_s)

    def _collect(self, ask: Ask, wait_s: float, so_far: Callable[[], int] = lambda: 0) -> tuple[int, bytes]:
        """Return the status and the body. The wait starts again whenever `so_far` changes."""
        status, body, since, mark = 0, b"", monotonic(), so_far()
        with closing(self._arriving(ask)) as arriving:
            for piece in arriving:
                if isinstance(piece, bytes):
                    body += piece
                elif piece is not None:
                    status = piece
                if (now := so_far()) != mark:
                    mark, since = now, monotonic()
                if monotonic() - since > wait_s:
                    raise no_answer(self.url, f"nothing for {wait_s:g} s")
                if len(body) > LARGEST_ANSWER_BYTES:
                    raise self._stranger(f"more than {LARGEST_ANSWER_BYTES} bytes")
        return status, body

    def _said(self, body: bytes) -> str:
        """Return the text of an error body; "" when it is none of Ollama's."""
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            return ""
        return str(found.get("error") or "") if isinstance(found, dict) else ""

    def _refusal(self, status: int, body: bytes) -> ProvisionError:
        said = self._said(body)
        if not said:
            text = f"HTTP {status}: {plain(body.decode(errors='replace'))}"
            return no_answer(self.url, text) if status >= _SERVER_ERROR else self._stranger(text)
        error = explain(said, self._subject)
        if isinstance(error, SourceUnavailableError) and _BAD_REQUEST <= status < _SERVER_ERROR:
            what = f"Ollama refuses what was asked about {self._subject} ({plain(said)})"
            return SourceRefusedError(what, INTACT, "correct the name in the catalogue")
        return error

    def _stranger(self, what: str) -> SourceRefusedError:
        return SourceRefusedError(
            f"{self.url} does not speak Ollama's API ({what})", INTACT, "point this host to its Ollama server"
        )


class _Sent:
    """A file as a body: its pieces, and how many bytes of it were taken."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
                self.bytes += len(piece)
