"""What the play servers share: HTTP, faults on demand, a load that takes its time, and a way out.

POST /_ctl {"fault": NAME, "times": N} breaks the next N answers, {"clear": true} heals; GET /_ctl counts
requests. `--fault NAME` or PLAY_FAULT (several, with a space between) breaks it from the start, for good.

    an answer    wrong, gibberish, empty, not-json, wrong-index, unnormed, nan, same, drift, unlisted
    the wire     500, overloaded, hang, slow:S, close, die-mid-stream, endless-stream, endless-body
    the process  exit:N (now), crash (a signal), oom (memory until it is killed)
    at start     exit-loading:N, cuda-oom, slow-load:S, stalled-load, exit-after:S:N
    the plan     cpu, half (layers that went to no card), small-context:N

PLAY_LOAD_S, PLAY_GPU (none: there is no card), PLAY_VISION_ANSWER, PLAY_TRANSCRIPT and PLAY_TOKENS_PER_S are
for images, whose command line belongs to what is tested.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from .command import die, leave
from .faults import Faults, Knobs, Refused, Vanished, allocate

ENDLESS_PAUSE_S = 0.005
LETTER = "G"
RAW = "/api/blobs/"
"""Below it, bodies are bytes."""

Body = dict[str, Any]
Route = Callable[["Handler", Body], None]


class Play:
    """One server. A runtime adds its routes, its loading and its words.

    Attributes:
        listens_first: Whether it answers while it still loads; the others do not even accept a connection.
    """

    listens_first = False
    overloaded: tuple[int, object] = (503, {"error": "overloaded"})
    broken: tuple[int, object] = (500, {"error": "internal error"})

    def __init__(self, knobs: Knobs, host: str = "127.0.0.1", port: int = 0) -> None:
        self.knobs = knobs
        self.faults = Faults()
        for fault in knobs.faults:
            self.faults.fail(fault)
        self.requests: Counter[str] = Counter()
        self.ready = threading.Event()
        self.closing = threading.Event()
        self.started_s = time.time()
        self.routes: dict[str, Route] = {"POST /_ctl": self._control, "GET /_ctl": self._count}
        self.host = host
        self._server = _Server((host, port), Handler, bind_and_activate=False)
        self._server.play = self

    # --- its life ----------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def load(self) -> None:
        """Load the model: a runtime says here what it logs, and fails as it does."""

    def run(self) -> None:
        """Serve until a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.leave())
        if self.listens_first:
            self.listen()
        self._load()
        if not self.listens_first:
            self.listen()
        if (after := self.faults.take("exit-after")) is not None:
            seconds, _, code = after.partition(":")
            threading.Timer(float(seconds), lambda: leave(int(code or 1))).start()
        self.closing.wait()

    def listen(self) -> None:
        """Accept connections from now on."""
        try:
            self._server.server_bind()
        except OSError as error:
            self.cannot_listen(error)
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def cannot_listen(self, error: OSError) -> NoReturn:
        """End as the runtime does when its port is taken."""
        die(f"error: [Errno {error.errno}] {error.strerror}", 1)

    def leave(self) -> None:
        """Stop, as on a signal."""
        self.closing.set()
        leave(0)

    def close(self) -> None:
        """Stop listening (for one that runs inside a test)."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _load(self) -> None:
        if self.faults.has("stalled-load"):
            self.closing.wait()
        slow = self.faults.take("slow-load")
        if self.closing.wait(self.knobs.load_s if slow is None else float(slow)):
            return
        if (code := self.faults.take("exit-loading")) is not None:
            leave(int(code or 1))
        self.load()
        self.ready.set()

    # --- faults ------------------------------------------------------------------------------------

    def trouble(self, handler: Handler) -> None:
        """Do to an answer what was asked for; it comes back from here when nothing was."""
        if (seconds := self.faults.take("slow")) is not None:
            self.closing.wait(float(seconds or 1))
        if (code := self.faults.take("exit")) is not None:
            leave(int(code or 1))
        acts: tuple[tuple[str, Callable[[], object]], ...] = (
            ("crash", self._crash),
            ("oom", allocate),
            ("hang", self._never),
            ("close", self._vanish),
        )
        for name, act in acts:
            if self.faults.has(name):
                act()
        for name in ("500", "overloaded"):
            if self.faults.has(name):
                raise Refused(*(self.broken if name == "500" else self.overloaded))
        if self.faults.has("not-json"):
            handler.send(200, b"<html><body>It works!</body></html>", "text/html")
            raise Vanished
        if self.faults.has("endless-body"):
            handler.chunked("application/json", (b" " * 1000 for _ in self._forever()))
            raise Vanished

    def _never(self) -> None:
        self.closing.wait()
        raise Vanished

    def _crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)
        self._never()  # the signal may come a moment later, and no answer before it

    def _vanish(self) -> None:
        raise Vanished

    def _forever(self) -> Iterator[None]:
        while not self.closing.wait(ENDLESS_PAUSE_S):
            yield

    def said(self, right: str) -> str:
        """Return what is said instead of a right answer, if something is wrong."""
        if self.faults.has("wrong"):
            return "I would rather talk about the weather in Reykjavik."
        if self.faults.has("gibberish"):
            return LETTER * 200
        return "" if self.faults.has("empty") else right

    def pieces(self, text: str) -> Iterator[str]:
        """Yield an answer in the pieces in which it streams."""
        words = text.split(" ")
        for place, word in enumerate(words):
            self.pace()
            yield word if place == len(words) - 1 else f"{word} "
        if self.faults.has("endless-stream"):
            for _ in self._forever():
                yield "and "

    def counted(self, method: str, path: str) -> str:
        """Return under what a request is counted."""
        return f"{method} {path}"

    def missing(self, _method: str, _path: str) -> Refused:
        """Return the answer for a path that is not there."""
        return Refused(404, "")

    def unreadable(self, _path: str, problem: ValueError) -> Refused:
        """Return the answer for a body that is no JSON."""
        return Refused(400, str(problem))

    def while_loading(self, path: str) -> None:
        """Refuse what cannot be answered before the model is there; those that listen late need none."""

    def pace(self, tokens: int = 1) -> None:
        """Take the time that so many tokens take."""
        if self.knobs.tokens_per_s:
            self.closing.wait(tokens / self.knobs.tokens_per_s)

    # --- control -----------------------------------------------------------------------------------

    def _control(self, handler: Handler, body: Body) -> None:
        if body.get("clear"):
            self.faults.clear()
        if "fault" in body:
            self.faults.fail(str(body["fault"]), times=int(body.get("times", 1)))
        handler.json(200, {})

    def _count(self, handler: Handler, _body: Body) -> None:
        handler.json(200, {"requests": dict(self.requests), "faults": dict(self.faults.left)})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    allow_reuse_address = True
    play: Play


class Handler(BaseHTTPRequestHandler):
    """Answers one connection by the routes of its server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    raw: bytes = b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    do_HEAD = do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815  # the names are given

    @property
    def play(self) -> Play:
        """The server."""
        return self.server.play

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.play.requests[self.play.counted(self.command, path)] += 1
        try:
            self._route(path)
        except Refused as refused:
            self._whole(refused.status, refused.body)
        except (Vanished, OSError):
            self.close_connection = True

    def _route(self, path: str) -> None:
        if not self.play.ready.is_set() and path != "/_ctl":
            self.play.while_loading(path)
        routes = self.play.routes
        method = "GET" if self.command == "HEAD" else self.command
        route = routes.get(f"{method} {path}") or next(
            (
                found
                for key, found in routes.items()
                if key[-1] == "*" and f"{method} {path}".startswith(key[:-1])
            ),
            None,
        )
        if route is None:
            raise self.play.missing(self.command, path)
        route(self, self._body(path))

    def _body(self, path: str) -> Body:
        kind = self.headers.get("Content-Type", "application/json")
        if not self.raw or path.startswith(RAW) or not any(one in kind for one in ("json", "urlencoded")):
            return {}
        try:
            found = json.loads(self.raw)
        except ValueError as error:
            raise self.play.unreadable(path, error) from None
        return found if isinstance(found, dict) else {}

    def _whole(self, status: int, body: object) -> None:
        try:
            if isinstance(body, str):
                self.send(status, body.encode(), "text/plain; charset=utf-8")
            else:
                self.json(status, body)
        except OSError:
            self.close_connection = True

    def send(self, status: int, body: bytes, kind: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, status: int, body: object) -> None:
        """Send an object."""
        self.send(status, json.dumps(body).encode(), "application/json")

    def chunked(self, kind: str, pieces: Iterator[bytes]) -> None:
        """Send an answer in pieces; it dies after the second one if it was told to."""
        dies = self.play.faults.has("die-mid-stream")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for count, piece in enumerate(pieces):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
            if dies and count:
                raise Vanished
        self.wfile.write(b"0\r\n\r\n")

    def events(self, rows: Iterator[object], *, done: bool = True) -> None:
        """Send server-sent events."""

        def lines() -> Iterator[bytes]:
            for row in rows:
                yield f"data: {json.dumps(row)}\n\n".encode()
            if done:
                yield b"data: [DONE]\n\n"

        self.chunked("text/event-stream", lines())

    def lines(self, rows: Iterator[object]) -> None:
        """Send one JSON object a line."""
        self.chunked("application/x-ndjson", (json.dumps(row).encode() + b"\n" for row in rows))
