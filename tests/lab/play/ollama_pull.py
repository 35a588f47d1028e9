"""How the play Ollama pulls and makes models, as the real one was measured to.

It keeps its progress when a client goes away, and never looks again at a blob that is there.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .faults import Faults
from .ollama_store import Fetch, PullFault, Store, Wanted, entries
from .web import WebError, asked

ACCEPT = "application/vnd.docker.distribution.manifest.v2+json"
TICK_S = 0.06
NOT_FOUND, BAD = 404, 400
Rows = Iterator[dict[str, object]]


@dataclass
class Puller:
    """Pulls from `registry` what is named without a port. `fetches` has the blobs that are on their way."""

    store: Store
    registry: str
    faults: Faults
    part_bytes: int = 1_000_000
    backoff_s: float = 0.02
    deadline_s: float = 0.3
    fetches: dict[str, Fetch] = field(default_factory=dict)
    stalled: threading.Event = field(default_factory=threading.Event)

    def pull(self, name: Wanted, *, insecure: bool) -> Rows:
        """Yield the lines of a pull; closing it is what a client that goes away does."""
        yield {"status": "pulling manifest"}
        if fault := self.faults.take("line"):
            yield {"error": fault}
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
        except (PullFault, WebError) as fault_:
            yield {"error": str(fault_)}

    def cancel(self) -> None:
        """Stop all that is on its way."""
        for fetch in list(self.fetches.values()):
            fetch.cancelled.set()

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

    def _fetch(self, url: str, digest: str) -> Rows:
        with self.store.lock:
            path, fetch = self.store.blob(digest), self.fetches.get(digest)
            if fetch is None and path.exists():  # another client's fetch has just ended
                return
            if fetch is None or fetch.cancelled.is_set():
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
        with asked("GET", url, {"Accept": ACCEPT}) as answer:
            status, content = answer.status, answer.read()
    except WebError as error:
        raise PullFault(f'pull model manifest: Get "{url}": {error}') from error
    if status == NOT_FOUND:
        raise PullFault("pull model manifest: file does not exist")
    if status >= BAD:
        raise PullFault(f"pull model manifest: {status}: {content.decode(errors='replace')}")
    return content


def _layer(digest: str, total: int, completed: int) -> dict[str, object]:
    counts = {"total": total, "completed": completed}
    known = {key: value for key, value in counts.items() if value}
    return {"status": f"pulling {digest[7:19]}", "digest": digest, **known}


# --- making models -----------------------------------------------------------------------------------


def created(store: Store, name: Wanted, body: dict[str, Any]) -> Rows:
    """Yield the lines of a creation: from another model, or from files that were uploaded."""
    made = _from_model(store, body) if body.get("from") else _from_files(store, body)
    layers: list[dict[str, Any]] = []
    entry: dict[str, Any] | None = None
    for row in made:
        if "layers" in row:
            layers, entry = row["layers"], row["config"]
        else:
            yield row
            if "error" in row:
                return
    yield {"status": "writing manifest"}
    with store.lock:
        store.write(name, json.dumps({"config": entry, "layers": layers}).encode())
    yield {"status": "success"}


def _from_model(store: Store, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    base = Wanted.parse(body["from"])
    if base is None:
        yield {"error": "invalid model name"}
        return
    if not store.manifest(base).exists():
        yield {"error": "pull model manifest: file does not exist"}
        return
    manifest = store.read(base)
    kept, params = [], {}
    for layer in manifest["layers"]:
        if layer["mediaType"].endswith("image.params"):
            params = json.loads(store.blob(layer["digest"]).read_bytes())
        else:
            kept.append(
                {**layer, "from": base.shortest} if layer["mediaType"].endswith("image.model") else layer
            )
            yield {"status": f"using existing layer {layer['digest']}"}
    if wanted := {**params, **(body.get("parameters") or {})}:
        kept.append(put(store, "params", json.dumps(wanted).encode()))
        yield {"status": f"creating new layer {kept[-1]['digest']}"}
    yield {"layers": kept, "config": manifest["config"]}


def _from_files(store: Store, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    layers = []
    given = [(kind, digest) for kind in ("files", "adapters") for digest in body.get(kind, {}).values()]
    if not given:
        yield {"error": "neither 'from' or 'files' was specified"}
        return
    yield {"status": "parsing GGUF"}
    for kind, digest in given:
        data = store.blob(digest).read_bytes() if store.blob(digest).exists() else b""
        if data[:4] != b"GGUF":
            yield {"error": "supplied file was not in GGUF format"}
            return
        if kind == "files":
            yield {"status": "validating GGUF model", "digest": "0" * 19, "total": len(data)}
            data += b"written anew"
        layers.append(put(store, "adapter" if kind == "adapters" else "model", data))
    if body.get("license"):
        layers.append(put(store, "license", body["license"].encode()))
    if body.get("parameters"):
        layers.append(put(store, "params", json.dumps(body["parameters"]).encode()))
    yield {"layers": layers, "config": put(store, "config", json.dumps({"model_format": "gguf"}).encode())}


def put(store: Store, kind: str, data: bytes) -> dict[str, object]:
    """Write a blob and return its entry in a manifest."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    store.blob(digest).write_bytes(data)
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(data)}
