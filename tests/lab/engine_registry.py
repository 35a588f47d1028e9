"""A registry of images on loopback, the real docker-registry, with faults.

with RegistryLab(folder) as registry:
    image = registry.push("lab/bb", [layer], command=("sh",))       "127.0.0.1:PORT/lab/bb@sha256:…"
    registry.corrupt(digest) ... registry.drop(digest) ... registry.push(...) anew heals

with SlowDoor(registry.port, bytes_per_s=1e6) as door:              another way in, at 127.0.0.1:door.port
    door.stall_after(3_000_000)

An engine takes the port as part of a repository's name, so each door is another repository to it, whose
layers it may have already: use fresh ones (`random_layer`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, Self

from tests.lab.environment import clean_environment, free_port

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
START_S = 15.0
PIECE_BYTES = 1 << 16


def missing() -> str:
    """Return what keeps a registry from running here; "" for nothing."""
    return "" if shutil.which("docker-registry") else "docker-registry is not installed; .ci/run installs it"


class RegistryLab:
    """The registry. Used as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {
                "filesystem": {"rootdirectory": str(self._folder / "data")},
                "cache": {"blobdescriptor": ""},
            },
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }
        path = self._folder / "registry.json"
        path.write_text(json.dumps(config))
        with (self._folder / "registry.log").open("ab") as log:
            command = ("setpriv", "--pdeathsig=TERM", "docker-registry", "serve", str(path))
            self._server = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment())
        self._await_answer()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.terminate()
        self._server.wait()

    def push(
        self,
        name: str,
        layers: Sequence[bytes | Path],
        *,
        tag: str = "1",
        command: Sequence[str] = (),
        environment: Sequence[str] = (),
        **config: Any,  # noqa: ANN401  # fields of an image's config
    ) -> str:
        """Put an image of tar files there; return its pinned reference."""
        described = [self._upload(name, layer, LAYER) for layer in layers]
        body = {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Cmd": list(command), "Env": list(environment), **config},
            "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in described]},
        }
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self._upload(name, json.dumps(body).encode(), CONFIG),
                "layers": described,
            }
        ).encode()
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", manifest, {"Content-Type": MANIFEST})
        return f"{self.repository(name)}@{_digest(manifest)}"

    def repository(self, name: str) -> str:
        """Return a repository's name as an engine on this host says it."""
        return f"127.0.0.1:{self.port}/{name}"

    def layers(self, image: str) -> list[str]:
        """Return the digests of an image's layers."""
        name, _, digest = image.partition("/")[2].partition("@")
        body = self._ask("GET", f"/v2/{name}/manifests/{digest}", b"", {"Accept": MANIFEST})[1]
        return [one["digest"] for one in json.loads(body)["layers"]]

    def blob(self, digest: str) -> Path:
        """Return the file of a blob."""
        hexes = digest.removeprefix("sha256:")
        return self._folder / "data/docker/registry/v2/blobs/sha256" / hexes[:2] / hexes / "data"

    def corrupt(self, digest: str) -> None:
        """Change one byte in the middle of a blob."""
        with self.blob(digest).open("r+b") as file:
            file.seek(self.blob(digest).stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, io.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0xFF]))

    def drop(self, digest: str) -> None:
        """Lose a blob."""
        shutil.rmtree(self.blob(digest).parent)

    def _upload(self, name: str, data: bytes | Path, media_type: str) -> dict[str, Any]:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        digest = _digest(data)
        described = {"mediaType": media_type, "size": size, "digest": digest}
        if self._ask("HEAD", f"/v2/{name}/blobs/{digest}", fails=True)[0] == 200:  # HTTP
            return described
        where = self._ask("POST", f"/v2/{name}/blobs/uploads/")[2]
        path = where.partition(f":{self.port}")[2] or where
        with contextlib.ExitStack() as stack:
            body = stack.enter_context(data.open("rb")) if isinstance(data, Path) else data
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
            self._ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", body, headers)
        return described

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO = b"",
        headers: dict[str, str] | None = None,
        *,
        fails: bool = False,
    ) -> tuple[int, bytes, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400 and not fails:  # HTTP
                raise AssertionError(f"registry: {method} {path}: {answer.status} {text[:200]!r}")
            return answer.status, text, answer.headers.get("Location", "")

    def _await_answer(self) -> None:
        ends = time.monotonic() + START_S
        while time.monotonic() < ends and self._server.poll() is None:
            with contextlib.suppress(OSError):
                self._ask("GET", "/v2/")
                return
            time.sleep(0.05)
        raise AssertionError(f"the registry did not come up: {(self._folder / 'registry.log').read_text()}")


@dataclass
class SlowDoor:
    """A TCP proxy to a port of loopback that sends answers slowly, or stops in the middle of one.

    `sent_bytes` counts what went to clients. `heal` lets everything pass from then on.
    """

    target: int
    bytes_per_s: float = float("inf")
    sent_bytes: int = 0
    _stall_at: float = float("inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)
    _open: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed.set()
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def stall_after(self, sent_bytes: int) -> None:
        """Let so many more bytes through, and then nothing, without an end."""
        self._stall_at = self.sent_bytes + sent_bytes

    def heal(self) -> None:
        """Hold nothing back any more."""
        self._stall_at, self.bytes_per_s = float("inf"), float("inf")

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _peer = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._open += [client, server]
                threading.Thread(target=_copy, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(PIECE_BYTES):
                while self.sent_bytes >= self._stall_at and not self._closed.wait(0.02):
                    pass
                if self._closed.is_set():
                    return
                if self.bytes_per_s < float("inf"):
                    self._closed.wait(len(data) / self.bytes_per_s)
                client.sendall(data)
                with self._lock:
                    self.sent_bytes += len(data)
            client.shutdown(socket.SHUT_WR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def random_layer(size_bytes: int, seed: int, name: str = "blob") -> bytes:
    """Return a layer with one file of bytes that no other layer has."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        member = tarfile.TarInfo(f"{name}-{seed}")
        member.size = size_bytes
        tar.addfile(member, io.BytesIO(Random(seed).randbytes(size_bytes)))  # noqa: S311  # test data
    return made.getvalue()


def _digest(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return f"sha256:{hashlib.sha256(data).hexdigest()}"
    with data.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
