"""Ollama's folder as neighbours may see it: manifests that are whole, and blobs that were hashed here.

Ollama itself never hashes a blob again after it arrived, so what is damaged there would travel on.
"""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tasks.errors import CatalogueError, SourceRefusedError
from tasks.pull.ollama.names import DEFAULT_HOST, Name, blob_path, is_digest, parse_name
from tasks.pull.ollama.registry import LARGEST_MANIFEST_BYTES, Manifest, parse_manifest
from tasks.pull.seed import wire
from tasks.pull.seed.looks import Known, open_file
from tasks.pull.seed.refusal import Refusal, come_back

WAIT_S = 20.0
"""How long a client waits for a blob to be hashed before it is asked to come back: most give up at 30 s."""
AGAIN_S = 10


@dataclass(frozen=True, slots=True)
class Opened:
    """A blob that is open and has its digest. Whoever has it closes `file`."""

    file: io.FileIO
    digest: str


class Library:
    """The models in one folder of Ollama's. Threads may share it."""

    def __init__(self, models: Path, *, wait_s: float = WAIT_S) -> None:
        self._models = models
        self._wait_s = wait_s
        self._known = Known()
        self._lock = threading.Lock()
        # One at a time: two that read one disk at once are slower than one after the other.
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="seed-hash")
        self._jobs: dict[str, Future[bool]] = {}

    def manifest(self, asked: wire.Manifest) -> Manifest:
        """Return the manifest of a tag whose blobs are all there, with their sizes.

        Raises:
            Refusal: there is none, or a blob is missing or cut.
        """
        with suppress(OSError, RuntimeError, ValueError, SourceRefusedError):
            if name := _name(asked):
                manifest = parse_manifest(name, self._raw(name))
                sizes = {digest: blob_path(self._models, digest).stat().st_size for digest in manifest.sizes}
                if sizes == manifest.sizes:
                    return manifest
        raise Refusal(HTTPStatus.NOT_FOUND, "this host has no such model whole; ask another source")

    async def open(self, digest: str) -> Opened:
        """Open a blob; it is hashed first, unless that was done since it last changed.

        Args:
            digest: "sha256:<64 hex>".

        Raises:
            Refusal: there is none, it is damaged, or hashing it takes longer than a client waits.
        """
        kind, _, wanted = digest.partition(":")
        refusal = Refusal(
            HTTPStatus.NOT_FOUND, "this host has no intact blob of that digest; ask another source"
        )
        if kind != "sha256" or not is_digest(wanted):
            raise refusal
        try:
            file = await asyncio.to_thread(open_file, blob_path(self._models, wanted))
        except OSError:
            raise refusal from None
        try:
            if not self._known.digest(file, kind):
                await self._hashed(wanted)
            if self._known.digest(file, kind) == wanted:
                return Opened(file, wanted)
        except BaseException:
            file.close()
            raise
        file.close()
        raise refusal

    async def _hashed(self, wanted: str) -> None:
        """Wait for the one reading of a blob, however many want it; it goes on when they leave."""
        with self._lock:
            job = self._jobs.get(wanted)
            if job is None or job.done():
                job = self._jobs[wanted] = self._hashing.submit(self._prove, wanted)
        with suppress(OSError):
            try:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(job)), self._wait_s)
            except TimeoutError:
                raise come_back(
                    "the blob is being read to verify it; ask again in a while", AGAIN_S
                ) from None

    def _prove(self, wanted: str) -> bool:
        with open_file(blob_path(self._models, wanted)) as file:
            return self._known.prove(file, f"sha256:{wanted}")

    def _raw(self, name: Name) -> bytes:
        path = name.manifest_path(self._models).resolve(strict=True)
        if not path.is_relative_to(self._models.resolve() / "manifests"):
            raise FileNotFoundError(path)
        with open_file(path) as file:
            return file.read(LARGEST_MANIFEST_BYTES + 1)


def _name(asked: wire.Manifest) -> Name | None:
    with suppress(CatalogueError):
        name = parse_name(f"{DEFAULT_HOST}/{asked.namespace}/{asked.model}:{asked.tag}")
        if (name.namespace, name.model, name.tag) == (asked.namespace, asked.model, asked.tag):
            return name
    return None
