"""An Ollama server on loopback that pulls as the real one was measured to, with faults on demand.

It really fetches, from `tests.lab.ollama_registry`, into a folder like the real one's; it keeps its progress
when a client goes away, and never looks again at a blob that is there. `registry` stands in for those
whose name has no port. `python -m tests.lab.ollama --port N --models DIR --registry URL` is a
server of its own, to be killed; POST /_ctl {"fault": ..., "times": n} breaks it like `fail` does.

    drop      the connection ends after the first progress     stall    nothing comes, and the lines go on
    hang      there is no answer at all                        404      what a web server says
    garbage   lines that are no JSON stand between             unlisted /api/tags does not show the model
    line:...  this error line comes after the first
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import httpx

from tests.lab.ollama_registry import ACCEPT
from tests.lab.ollama_store import ASKING, Fetch, PullFault, Store, Wanted, entries

ROOT = Path(__file__).parents[2]
TICK_S = 0.06
GARBAGE = (b"", b"not json", b"[1, 2]", b'{"status": 7}', b'{"status":"something new"}', b"\xff\xfe", b"null")


@dataclass
class OllamaLab:
    """The server. Use as a context manager."""

    models: Path
    registry: str
    port: int = 0
    part_bytes: int = 1_000_000
    backoff_s: float = 0.02
    deadline_s: float = 0.3
    requests: Counter[str] = field(default_factory=Counter)
    pulls: list[dict[str, object]] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    fetches: dict[str, Fetch] = field(default_factory=dict)
    stalled: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.store = Store(self.models)
        handler = type("Handler", (_Handler,), {"lab": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.closing.set()
        for fetch in list(self.fetches.values()):
            fetch.cancelled.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def fail(self, fault: str, *, times: int = 1_000_000) -> None:
        """Break the next `times` answers."""
        self.faults[fault] = times

    def takes(self, fault: str) -> str:
        """Return the text of a fault, "" when there is none now, and count it down."""
        found = next((name for name, left in self.faults.items() if name.startswith(fault) and left > 0), "")
        if found:
            self.faults[found] -= 1
        return found

    # --- pulling -----------------------------------------------------------------------------

    def pull(self, name: Wanted, *, insecure: bool) -> Iterator[dict[str, object]]:
        """Yield the lines of a pull; closing it is what a client that goes away does."""
        yield {"status": "pulling manifest"}
        if fault := self.takes("line:"):
            yield {"error": fault.removeprefix("line:")}
            return
        try:
            base = self._base(name, insecure=insecure)
            raw = _manifest(f"{base}/manifests/{name.tag}")
            cached = set()
            for entry in entries(json.loads(raw)):
                digest = entry["digest"]
                path = self.store.blob(digest)
                if path.exists():
                    cached.add(digest)
                    yield _layer(digest, path.stat().st_size, path.stat().st_size)
                else:
                    yield from self._fetch(f"{base}/blobs/{digest}", digest)
            yield {"status": "verifying sha256 digest"}
            self._verify({entry["digest"] for entry in entries(json.loads(raw))} - cached)
            yield {"status": "writing manifest"}
            with self.store.lock:
                self.store.write(name, raw)
            yield {"status": "success"}
        except PullFault as fault:
            yield {"error": str(fault)}

    def _base(self, name: Wanted, *, insecure: bool) -> str:
        path = f"v2/{name.namespace}/{name.model}"
        if ":" not in name.host:
            return f"{self.registry.removesuffix('v2/')}{path}"
        if not insecure:
            said = "http: server gave HTTP response to HTTPS client"
            raise PullFault(
                f'pull model manifest: Get "https://{name.host}/{path}/manifests/{name.tag}": {said}'
            )
        return f"http://{name.host}/{path}"

    def _fetch(self, url: str, digest: str) -> Iterator[dict[str, object]]:
        with self.store.lock:
            fetch = self.fetches.get(digest)
            if fetch is None or fetch.cancelled.is_set():
                path = self.store.blob(digest)
                fetch = Fetch(url, path, self.part_bytes, self.backoff_s, self.deadline_s, self.stalled)
                fetch.prepare()
                self.fetches[digest] = fetch
                threading.Thread(target=fetch.run, daemon=True).start()
            fetch.clients += 1
        try:
            while not fetch.done.wait(TICK_S):
                yield _layer(digest, fetch.total, fetch.completed)
        finally:
            with self.store.lock:
                fetch.clients -= 1
                if fetch.clients == 0:
                    fetch.cancelled.set()
                    fetch.done.wait()
                    self.fetches.pop(digest, None)
        if fetch.error:
            raise PullFault(fetch.error)

    def _verify(self, digests: set[str]) -> None:
        for digest in digests:
            path = self.store.blob(digest)
            got = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
            if got != digest:
                path.unlink(missing_ok=True)
                text = "digest mismatch, file must be downloaded again"
                raise PullFault(f"{text}: want {digest}, got {got}")


def _manifest(url: str) -> bytes:
    try:
        answer = ASKING.get(url, headers={"Accept": ACCEPT})
    except httpx.HTTPError as error:
        raise PullFault(f'pull model manifest: Get "{url}": {error}') from error
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise PullFault("pull model manifest: file does not exist")
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise PullFault(f"pull model manifest: {answer.status_code}: {answer.text}")
    return answer.content


def _layer(digest: str, total: int, completed: int) -> dict[str, object]:
    counts = {"total": total, "completed": completed}
    known = {key: value for key, value in counts.items() if value}
    return {"status": f"pulling {digest[7:19]}", "digest": digest, **known}


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    lab: OllamaLab
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer HEAD."""
        self._answer()

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    def do_POST(self) -> None:
        """Answer POST."""
        self._answer()

    def do_DELETE(self) -> None:
        """Answer DELETE."""
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path)
        self.lab.requests[f"{self.command} {path.partition('/sha256:')[0]}"] += 1
        if path.startswith("/api/blobs/"):
            self._blob(path.removeprefix("/api/blobs/"))
            return
        body = self._json_body()
        if path == "/api/pull" and self.lab.takes("404"):
            self._send(404, b"404 page not found", "text/plain")
            return
        answers = {
            "GET /": lambda _body: self._send(200, b"Ollama is running", "text/plain"),
            "GET /api/version": lambda _body: self._json(200, {"version": "0.33.0"}),
            "GET /api/tags": lambda _body: self._tags(),
            "POST /api/show": self._show,
            "POST /api/copy": self._copy,
            "POST /api/pull": self._pull,
            "POST /api/create": self._create,
            "DELETE /api/delete": self._delete,
            "POST /_ctl": self._control,
        }
        answer = answers.get(f"{self.command} {path}")
        if answer is None:
            self._send(404, b"404 page not found", "text/plain")
        else:
            answer(body)

    def _json_body(self) -> dict[str, Any]:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found: dict[str, Any] = json.loads(raw) if raw else {}
        return found

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, status: int, body: object) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _control(self, body: dict[str, Any]) -> None:
        self.lab.fail(str(body["fault"]), times=int(body.get("times", 1)))
        self._json(200, {})

    def _tags(self) -> None:
        hidden = bool(self.lab.pulls) and bool(self.lab.takes("unlisted"))
        self._json(200, {"models": [] if hidden else self.lab.store.listed()})

    def _known(self, text: object) -> Wanted | None:
        """Return the model of this name, or say that there is none."""
        name = Wanted.parse(text)
        if name is None or not self.lab.store.manifest(name).exists():
            self._json(404, {"error": f"model '{text}' not found"})
            return None
        return name

    def _show(self, body: dict[str, Any]) -> None:
        if name := self._known(body.get("model")):
            layers = self.lab.store.read(name)["layers"]
            files = {entry["mediaType"]: self.lab.store.blob(entry["digest"]) for entry in layers}
            licence = files.get("application/vnd.ollama.image.license")
            shown = {
                "modelfile": "".join(f"FROM {path}\n" for path in files.values()),
                "license": licence.read_text() if licence else None,
                "capabilities": ["completion"],
            }
            self._json(200, {key: value for key, value in shown.items() if value is not None})

    def _copy(self, body: dict[str, Any]) -> None:
        if name := self._known(body.get("source")):
            to = Wanted.parse(body.get("destination"))
            assert to is not None
            self.lab.store.write(to, self.lab.store.manifest(name).read_bytes())
            self._send(200, b"", "text/plain")

    def _delete(self, body: dict[str, Any]) -> None:
        if name := self._known(body.get("model")):
            self.lab.store.delete(name)
            self._send(200, b"", "text/plain")

    def _pull(self, body: dict[str, Any]) -> None:
        self.lab.pulls.append(body)
        name = Wanted.parse(body.get("model"))
        if name is None:
            self._json(400, {"error": "invalid model name"})
            return
        if self.lab.takes("hang"):
            self.lab.closing.wait()
            return
        if self.lab.takes("stall"):
            self.lab.stalled.set()
        else:
            self.lab.stalled.clear()
        drops, garbles = bool(self.lab.takes("drop")), bool(self.lab.takes("garbage"))
        self._stream(self.lab.pull(name, insecure=bool(body.get("insecure"))), drops=drops, garbles=garbles)

    def _stream(
        self, lines: Iterator[dict[str, object]], *, drops: bool = False, garbles: bool = False
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in lines:
                for raw in (*(GARBAGE if garbles else ()), json.dumps(line, separators=(",", ":")).encode()):
                    self._chunk(raw + b"\n")
                if drops and line.get("completed"):
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            lines.close()  # type: ignore[attr-defined]  # a generator; its end is what a lost client means

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _blob(self, digest: str) -> None:
        path = self.lab.store.blob(digest)
        if self.command == "HEAD":
            self._send(200 if path.exists() else 404, b"", "text/plain")
            return
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        got = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if path.exists():
            self._send(200, b"", "text/plain")
            return
        self.lab.store.blob(got).write_bytes(data)
        if got == digest:
            self._send(201, b"", "text/plain")
        else:
            self._json(400, {"error": f'digest mismatch, expected "{digest}", got "{got}"'})

    def _create(self, body: dict[str, Any]) -> None:
        name = Wanted.parse(body.get("model"))
        assert name is not None
        self._stream(self._created(name, body))

    def _created(self, name: Wanted, body: dict[str, Any]) -> Iterator[dict[str, object]]:
        store, layers = self.lab.store, []
        given = [(kind, digest) for kind in ("files", "adapters") for digest in body.get(kind, {}).values()]
        yield {"status": "parsing GGUF"}
        for kind, digest in given:
            data = store.blob(digest).read_bytes() if store.blob(digest).exists() else b""
            if data[:4] != b"GGUF":
                yield {"error": "supplied file was not in GGUF format"}
                return
            if kind == "files":
                yield {"status": "validating GGUF model", "digest": "0" * 19, "total": len(data)}
                data += b"written anew"
            layers.append(_put(store, "adapter" if kind == "adapters" else "model", data))
        layers.append(_put(store, "license", body["license"].encode()))
        entry = _put(store, "config", json.dumps({"model_format": "gguf"}).encode())
        yield {"status": "writing manifest"}
        with store.lock:
            store.write(name, json.dumps({"config": entry, "layers": layers}).encode())
        yield {"status": "success"}


def _put(store: Store, kind: str, data: bytes) -> dict[str, object]:
    """Write a blob and return its entry in a manifest."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    store.blob(digest).write_bytes(data)
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(data)}


def start(port: int, models: Path, registry: str) -> subprocess.Popen[bytes]:
    """Start a server of its own and return its process once it answers."""
    command = [sys.executable, "-m", "tests.lab.ollama", "--port", str(port)]
    process = subprocess.Popen([*command, "--models", str(models), "--registry", registry], cwd=ROOT)
    while process.poll() is None:
        try:
            ASKING.get(f"http://127.0.0.1:{port}/")
        except httpx.HTTPError:
            time.sleep(0.02)
        else:
            break
    return process


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--registry", required=True)
    given = parser.parse_args()
    with OllamaLab(given.models, given.registry, port=given.port):
        threading.Event().wait()


if __name__ == "__main__":
    main()
