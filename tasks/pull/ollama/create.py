"""Files of ours -> a model that Ollama serves: GGUF files that another source brought, uploaded and named.

Ollama writes the weights anew when it makes a model (`llama-quantize COPY`, from 0.33 on), so the blob that
it serves need not have the digest of the file. What a model was made of is therefore noted in the model, as a
licence text, and what Ollama made is checked against the manifest that Ollama wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.contracts import Change, ChangeKind
from tasks.errors import CatalogueError, DigestMismatchError, SourceUnavailableError
from tasks.pull.claim import require_room
from tasks.pull.ollama import blobs
from tasks.pull.ollama.api import Api
from tasks.pull.ollama.faults import INTACT
from tasks.pull.ollama.names import Name, blob_path, is_digest, parse_name, short
from tasks.pull.ollama.pull import PulledTag, Server, folder_errors, withdraw
from tasks.pull.ollama.registry import Layer, Manifest
from tasks.pull.ollama.stream import PullStream
from tasks.pull.ollama.transfer import Watch
from tasks.pull.sources import PullContext
from tasks.wording import gib, plural

GgufRole = Literal["model", "projector", "adapter"]
GgufFile = tuple[GgufRole, Path, str]
"""What a file is in its model, where it lies, and its sha256."""

ROLES: tuple[GgufRole, ...] = ("model", "projector", "adapter")
COPIES = 2
"""Ollama writes the weights to a temporary file and then copies that to a blob, beside what was uploaded."""


def create_from_gguf(name: str, files: tuple[GgufFile, ...], server: Server, ctx: PullContext) -> PulledTag:
    """Make an Ollama model of files on this host; do nothing when it is there and made of them.

    Args:
        name: What Ollama will call it.
        files: At least one "model".
        server: Where Ollama listens, and its folder.
        ctx: As for `pull_tag`.

    Returns:
        `fetched_bytes` counts what was uploaded, and `digest` is that of the manifest which Ollama made.

    Raises:
        CatalogueError: the name, a role or a digest is none.
        DigestMismatchError: a file does not have its sha256.
        SourceRefusedError: Ollama does not take the files.
        SourceUnavailableError: Ollama does not answer, or nothing moves any more.
        NoRoomError: the disk of Ollama's folder is too small.
        StateFolderError: a file or Ollama's folder cannot be read.
        StoppedError: the stop event was set.
    """
    wanted = _checked(name, files)
    with (
        Api(server.url, str(wanted), ctx.stop, quiet_s=ctx.quiet_s) as api,
        folder_errors(server, sum(path.stat().st_size for _, path, _ in files if path.is_file())),
    ):
        sizes = {sha256: path.stat().st_size for _, path, sha256 in files}
        return _Creation(wanted, files, sizes, server, ctx, api).run()


def _checked(name: str, files: tuple[GgufFile, ...]) -> Name:
    why = next(_problems(files), "")
    if why:
        raise CatalogueError(f"{name} cannot be made: {why}", "nothing was asked for", "correct the entry")
    return parse_name(name)


def _problems(files: tuple[GgufFile, ...]) -> Iterator[str]:
    for role, path, sha256 in files:
        if role not in ROLES:
            yield f"{path} has the role {role!r}, which no file has"
        if not is_digest(sha256):
            yield f"{path} has the sha256 {sha256!r}, which is not 64 hex digits"
        if not path.is_file():
            yield f"{path} is not there"
    if not any(role == "model" for role, _, _ in files):
        yield "none of its files is the model"


@dataclass(slots=True)
class _Creation:
    """One model that is made of files; `sizes` are theirs in bytes, by digest."""

    name: Name
    files: tuple[GgufFile, ...]
    sizes: Mapping[str, int]
    server: Server
    ctx: PullContext
    api: Api
    uploaded_bytes: int = 0

    def run(self) -> PulledTag:
        """Compare, then keep or make."""
        served = self.api.tags().get(self.name.key, "")
        damaged = self._damages(served)
        count = plural(len(self.sizes), "file")
        if served and not damaged and self._is_made_of_them():
            return self._made("keep", served, f"Ollama has it, made of {count}")
        self._clear(damaged)
        watch = Watch(str(self.name), str(self.name), self.ctx)
        for _, path, sha256 in self.files:
            self._bring(path, sha256, watch)
        self._create(watch)
        digest = self._confirmed()
        found = [str(damage) for damage in damaged]
        reason = "; ".join([*found, f"made of {count}, {gib(self.uploaded_bytes)} of them uploaded"])
        return self._made("replace" if served else "create", digest, reason)

    def _damages(self, served: str) -> tuple[blobs.Damage, ...]:
        """Return what is wrong with the model's blobs, and with those of these files that are there."""
        folder = self.server.models_folder
        if folder is None or not folder.is_dir():
            return ()
        layers = tuple(Layer("", digest, size) for digest, size in self.sizes.items())
        ours = blobs.damages(folder, Manifest(self.name, "", b"", layers), stop=self.ctx.stop)
        stored = blobs.stored_manifest(folder, self.name, served)
        made = blobs.damages(folder, stored, stop=self.ctx.stop) if stored else ()
        return (*(damage for damage in ours if not damage.absent), *made)

    def _clear(self, damaged: tuple[blobs.Damage, ...]) -> None:
        """Make room: delete what is damaged, and look at the disk before byte one."""
        left = blobs.remove(damaged)
        if left:
            what = f"{left[0]}, and this user cannot delete it"
            raise DigestMismatchError(what, INTACT, f"delete {left[0].path}, then run it again")
        folder = self.server.models_folder
        if folder is not None and folder.is_dir():
            absent = sum(
                size for digest, size in self.sizes.items() if not blob_path(folder, digest).exists()
            )
            models = {sha256 for role, _, sha256 in self.files if role == "model"}
            require_room(folder, absent + COPIES * sum(self.sizes[sha256] for sha256 in models))

    def _bring(self, path: Path, sha256: str, watch: Watch) -> None:
        if self.api.has_blob(sha256):
            return

        def tell(sent_bytes: int) -> None:
            watch.often(f"uploading {path.name}", done_bytes=sent_bytes, total_bytes=self.sizes[sha256])

        self.api.upload(path, sha256, tell)
        self.uploaded_bytes += self.sizes[sha256]

    def _create(self, watch: Watch) -> None:
        named: dict[str, dict[str, str]] = {role: {} for role in ROLES}
        for place, (role, _, sha256) in enumerate(self.files):
            named[role][f"{role}-{place}.gguf"] = sha256
        asked = self.api.create(
            str(self.name),
            files=named["model"] | named["projector"],
            adapters=named["adapter"],
            note="Made by pmoves of " + ", ".join(self._marks()),
        )
        with closing(asked) as lines:
            hashed_bytes = sum(self.sizes.values())
            for _ in watch.follow(lines, PullStream(str(self.name), {}), hashed_bytes=hashed_bytes):
                pass

    def _confirmed(self) -> str:
        """Return the digest that Ollama lists; a model that is not as it should be is deleted."""
        digest = self.api.tags().get(self.name.key, "")
        if digest and self._is_made_of_them():
            return digest
        withdraw(self.server, str(self.name))
        raise SourceUnavailableError(
            f"Ollama says that it made {self.name} and does not list it so",
            INTACT,
            "look at Ollama's log, then run it again",
        )

    def _marks(self) -> tuple[str, ...]:
        return tuple(f"{role} sha256-{sha256}" for role, _, sha256 in self.files)

    def _is_made_of_them(self) -> bool:
        shown = self.api.show(str(self.name)).get("license")
        return isinstance(shown, str) and all(mark in shown for mark in self._marks())

    def _made(self, kind: ChangeKind, digest: str, reason: str) -> PulledTag:
        change = Change(f"weights {self.name}", kind, f"{reason}, at {short(digest)}")
        return PulledTag(str(self.name), digest, self.uploaded_bytes, change)
