"""The play Ollama's folder over HTTP: list, show, copy, delete, pull, create, blobs (server/routes.go)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from .command import die, say
from .common import Body, Handler, Play
from .faults import Knobs, Refused, Vanished
from .ollama_models import Memory, Model
from .ollama_pull import Puller, Rows, created
from .ollama_store import Store, Wanted, entries

VERSION = "0.33.0"
GARBAGE = (b"", b"not json", b"[1, 2]", b'{"status": 7}', b'{"status":"something new"}', b"\xff\xfe", b"null")


class Folder(Play):
    """A server that keeps models; `Ollama` runs them, too."""

    def __init__(self, environment: Mapping[str, str], knobs: Knobs, host: str, port: int) -> None:
        super().__init__(knobs, host, port)
        self.store = Store(Path(environment["OLLAMA_MODELS"]))
        registry = environment.get("PLAY_REGISTRY", "https://registry.ollama.ai/")
        self.puller = Puller(self.store, registry, self.faults)
        self.memory = Memory(environment, knobs, self.faults)
        self.prunes = environment.get("OLLAMA_NOPRUNE", "") in {"", "0", "false"}
        self.pulls: list[dict[str, object]] = []
        self.routes |= {
            "GET /": lambda handler, _: handler.send(200, b"Ollama is running", "text/plain"),
            "GET /api/version": lambda handler, _: handler.json(200, {"version": VERSION}),
            "GET /api/tags": self._tags,
            "POST /api/show": self._show,
            "POST /api/copy": self._copy,
            "POST /api/pull": self._pull,
            "POST /api/create": self._create,
            "DELETE /api/delete": self._delete,
            "GET /api/blobs/*": self._has_blob,
            "POST /api/blobs/*": self._blob,
        }

    def load(self) -> None:
        """Log what the real one logs; models come later. What no manifest names is deleted, as it does."""
        if self.prunes:
            kept = {
                entry["digest"] for name in self.store.names() for entry in entries(self.store.read(name))
            }
            for path in (self.store.models / "blobs").iterdir():
                if path.name.replace("-", ":", 1) not in kept:
                    path.unlink()
        say(f'level=INFO source=routes.go msg="Listening on port {self.port} (version {VERSION})"')

    def cannot_listen(self, _error: OSError) -> NoReturn:
        """End as it does when its port is taken."""
        where = "{}:{}".format(*self._server.server_address[:2])
        die(f"Error: listen tcp {where}: bind: address already in use", 1)

    # --- words -------------------------------------------------------------------------------------

    def counted(self, method: str, path: str) -> str:
        """Count all blobs as one."""
        return f"{method} {path.partition('/sha256:')[0]}"

    def missing(self, _method: str, _path: str) -> Refused:
        """Say that there is no such path (gin)."""
        return Refused(404, "404 page not found")

    def unreadable(self, _path: str, problem: ValueError) -> Refused:
        """Say that a body is no JSON."""
        return Refused(400, {"error": f"invalid character in body: {problem}"})

    def _known(self, text: object, *, status: int = 404) -> Model:
        name = Wanted.parse(text)
        if name is None or not self.store.manifest(name).exists():
            raise Refused(status, {"error": f"model '{text}' not found"})
        return Model.read(self.store, name)

    # --- the folder --------------------------------------------------------------------------------

    def _tags(self, handler: Handler, _body: Body) -> None:
        hidden = bool(self.pulls) and self.faults.has("unlisted")
        handler.json(200, {"models": [] if hidden else self.store.listed()})

    def _show(self, handler: Handler, body: Body) -> None:
        model = self._known(body.get("model") or body.get("name"))
        licence = model.layers.get("license")
        shown = {
            "modelfile": "".join(f"FROM {path}\n" for path in model.layers.values()),
            "license": licence.read_text() if licence else None,
            "parameters": "\n".join(f"{key:<30} {value}" for key, value in model.parameters.items()) or None,
            "details": details(model),
            "model_info": {
                key: value for key, value in model.head.items() if not key.startswith("tokenizer")
            },
            "capabilities": model.capabilities,
        }
        handler.json(200, {key: value for key, value in shown.items() if value is not None})

    def _copy(self, handler: Handler, body: Body) -> None:
        model, to = self._known(body.get("source")), Wanted.parse(body.get("destination"))
        assert to is not None
        self.store.write(to, self.store.manifest(model.name).read_bytes())
        handler.send(200, b"", "text/plain")

    def _delete(self, handler: Handler, body: Body) -> None:
        model = self._known(body.get("model"))
        self.memory.unload(model.name)
        self.store.delete(model.name)
        handler.send(200, b"", "text/plain")

    def _has_blob(self, handler: Handler, _body: Body) -> None:
        there = self.store.blob(handler.path.removeprefix("/api/blobs/").replace("%3A", ":")).exists()
        handler.send(200 if there else 404, b"", "text/plain")

    def _blob(self, handler: Handler, _body: Body) -> None:
        digest = handler.path.removeprefix("/api/blobs/").replace("%3A", ":")
        got = f"sha256:{hashlib.sha256(handler.raw).hexdigest()}"
        if self.store.blob(digest).exists():
            handler.send(200, b"", "text/plain")
            return
        self.store.blob(got).write_bytes(handler.raw)
        if got != digest:
            raise Refused(400, {"error": f'digest mismatch, expected "{digest}", got "{got}"'})
        handler.send(201, b"", "text/plain")

    def _pull(self, handler: Handler, body: Body) -> None:
        if self.faults.has("404"):
            raise self.missing("POST", "/api/pull")
        self.pulls.append(body)
        name = Wanted.parse(body.get("model"))
        if name is None:
            raise Refused(400, {"error": "invalid model name"})
        if self.faults.has("hang"):
            self.closing.wait()
            raise Vanished
        if self.faults.has("stall"):
            self.puller.stalled.set()
        else:
            self.puller.stalled.clear()
        self._rows(handler, self.puller.pull(name, insecure=bool(body.get("insecure"))), body)

    def _create(self, handler: Handler, body: Body) -> None:
        name = Wanted.parse(body.get("model"))
        if name is None:
            raise Refused(400, {"error": "invalid model name"})
        self._rows(handler, created(self.store, name, body), body)

    def _rows(self, handler: Handler, rows: Rows, body: Body) -> None:
        """Send progress line by line, or with `"stream": false` its end alone."""
        if body.get("stream") is False:
            last: dict[str, object] = {}
            for last in rows:
                if "error" in last:
                    raise Refused(500, last)
            handler.json(200, last)
            return
        drops, garbles = self.faults.has("drop"), self.faults.has("garbage")
        try:
            handler.chunked("application/x-ndjson", _lines(rows, drops=drops, garbles=garbles))
        finally:
            rows.close()  # type: ignore[attr-defined]  # a generator; its end is what a lost client means


def details(model: Model) -> Body:
    """Return what is said of a model wherever it is named (api/types.go, ModelDetails)."""
    family = model.config.get("model_family", model.architecture)
    return {
        "parent_model": model.parent,
        "format": model.config.get("model_format", "gguf"),
        "family": family,
        "families": [family],
        "parameter_size": model.config.get("model_type", ""),
        "quantization_level": model.config.get("file_type", ""),
    }


def _lines(rows: Rows, *, drops: bool, garbles: bool) -> Iterator[bytes]:
    for row in rows:
        for raw in (*(GARBAGE if garbles else ()), json.dumps(row, separators=(",", ":")).encode()):
            yield raw + b"\n"
        if drops and row.get("completed"):
            raise Vanished
