"""A tag of the Ollama library -> a tag that Ollama serves, of the pinned digest, every blob checked.

What is there already is compared first, and a tag that has the digest is left alone. Where Ollama's folder
can be read, each blob is hashed: before a tag is kept, and after one was pulled.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopEvent

from tasks.contracts import Change, ChangeKind, OllamaTag
from tasks.errors import DigestMismatchError, ProvisionError, PullError, SourceUnavailableError
from tasks.pull.claim import require_room, stopped, store_errors
from tasks.pull.ollama import blobs
from tasks.pull.ollama.api import Api
from tasks.pull.ollama.faults import INTACT
from tasks.pull.ollama.names import Name, parse_name, short
from tasks.pull.ollama.registry import Manifest, Origin, fetch, origin
from tasks.pull.ollama.transfer import Retry, Transfer, Watch
from tasks.pull.sources import PullContext
from tasks.wording import gib, plural

ROUNDS = 2
"""A blob that arrives damaged is fetched once more; then something between here and the library is broken."""
WITHDRAW_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """An Ollama server: its address, its folder of models where that can be read here, and how to insist."""

    url: str
    models_folder: Path | None = None
    retry: Retry = field(default_factory=Retry)


@dataclass(frozen=True, slots=True)
class PulledTag:
    """A tag that Ollama serves. `digest` is the manifest's, 64 hex digits, as Ollama lists it.

    `fetched_bytes` is what crossed the network, as Ollama told it; `repaired` names blobs that were fetched
    again because they were damaged.
    """

    tag: str
    digest: str
    fetched_bytes: int
    change: Change
    repaired: tuple[str, ...] = ()


def pull_tag(
    tag: OllamaTag,
    model: str,
    server: Server,
    registry: str,
    ctx: PullContext,
    *,
    trusted: blobs.Trusted = blobs.trust_none,
) -> PulledTag:
    """Bring a tag to an Ollama server; do nothing when it is there and whole.

    Args:
        tag: What to pull. With `digest`, nothing else than that is kept or pulled.
        model: The catalogue's name of the model, for events and the change.
        server: Where Ollama listens, and its folder.
        registry: "https://registry.ollama.ai/v2/", or a registry that stands in for it.
        ctx: `sink` hears how far it is, `stop` ends it within half a second, `quiet_s` is how long nothing
            may move.
        trusted: Whether a blob need not be hashed.

    Raises:
        CatalogueError: the tag is not a name that Ollama takes.
        SettingsError: an address is none.
        DigestMismatchError: the library's tag, or what came, is not what is pinned.
        SourceRefusedError: the library has no such tag or does not give it, or Ollama refuses.
        SourceUnavailableError: the library or Ollama does not answer, or nothing moves any more.
        NoRoomError: the disk of Ollama's folder is too small, before byte one or while it fills.
        StateFolderError: Ollama's folder cannot be used.
        StoppedError: the stop event was set; Ollama does not go on, and keeps what it has.
    """
    name = parse_name(tag.tag)
    with (
        Api(server.url, str(name), ctx.stop, quiet_s=ctx.quiet_s) as api,
        folder_errors(server, tag.size_bytes),
    ):
        return _TagPull(tag, name, model, server, origin(name, registry), registry, ctx, trusted, api).run()


def folder_errors(server: Server, needed_bytes: int) -> AbstractContextManager[None]:
    """Turn what the file system of Ollama's folder says into errors that a person understands."""
    return store_errors(server.models_folder, needed_bytes) if server.models_folder else nullcontext()


def withdraw(server: Server, model: str) -> bool:
    """Delete a model that must not be used, also while a stop is asked for. Returns whether it is gone."""
    with suppress(ProvisionError):
        with Api(server.url, model, StopEvent(), quiet_s=WITHDRAW_S, answer_s=WITHDRAW_S) as api:
            api.delete(model)
        return True
    return False


@dataclass(slots=True)
class _TagPull:
    """One pull of one tag, and what became of it so far."""

    tag: OllamaTag
    name: Name
    model: str
    server: Server
    where: Origin
    registry: str
    ctx: PullContext
    trusted: blobs.Trusted
    api: Api
    repaired: list[blobs.Damage] = field(default_factory=list)
    fetched_bytes: int = 0

    def run(self) -> PulledTag:
        """Compare, then keep or bring."""
        served = self.api.tags().get(self.name.key, "")
        is_pinned = served != "" and served == self.tag.digest
        found = self._damages(self._stored(served), self.name) if is_pinned else ()
        if is_pinned and not found:
            return self._kept(served)
        manifest = self._resolve(found)
        if served == manifest.digest:
            found = found or self._damages(manifest, self.name)
            if not found:
                return self._kept(served)
        self._bring(manifest, found)
        return self._changed(manifest, served)

    # --- looking -----------------------------------------------------------------------------

    def _stored(self, served: str) -> Manifest | None:
        """Return the manifest that Ollama keeps, so that a whole model needs no network to be kept."""
        folder = self.server.models_folder
        return blobs.stored_manifest(folder, self.name, served) if folder else None

    def _damages(self, manifest: Manifest | None, name: Name) -> tuple[blobs.Damage, ...]:
        """Return what is wrong below Ollama's folder, where it can be read and holds `name`."""
        folder = self.server.models_folder
        if manifest is None or folder is None or not blobs.is_readable(folder, name):
            return ()
        self._tell(f"checking {plural(len(manifest.sizes), 'blob')}, {gib(manifest.size_bytes)}")
        return blobs.damages(folder, manifest, stop=self.ctx.stop, trusted=self.trusted)

    def _resolve(self, found: tuple[blobs.Damage, ...]) -> Manifest:
        """Ask the library what the tag is now, and refuse what is not pinned."""
        self._tell(f"asking the Ollama library for {self.name}")
        try:
            manifest = fetch(self.name, self.registry, stop=self.ctx.stop)
            self._require_pin(manifest)
        except PullError as error:
            if not found:
                raise
            what = f"{self.name} is damaged in Ollama ({_listed(found)}) and cannot be repaired: {error.what}"
            raise type(error)(what, error.intact, error.then) from None
        return manifest

    def _require_pin(self, manifest: Manifest) -> None:
        pin = self.tag.digest
        if pin is not None and pin != manifest.digest:
            raise DigestMismatchError(
                f"the Ollama library changed {self.name}: it is {short(manifest.digest)} there now,"
                f" and {short(pin)} is pinned",
                "nothing was fetched, and what Ollama holds stays",
                "accept the new one with `pmoves lock --update`, or pin another tag",
            )

    # --- doing -------------------------------------------------------------------------------

    def _bring(self, manifest: Manifest, found: tuple[blobs.Damage, ...]) -> None:
        watch = Watch(str(self.name), self.model, self.ctx)
        transfer = Transfer(self.api, manifest, self.where, watch, self.ctx, self.server.retry)
        for _ in range(ROUNDS):
            self._repair(found, manifest)
            transfer.run(self._before(manifest))
            self.fetched_bytes = transfer.fetched_bytes
            is_listed = self._is_listed(manifest)
            found = self._damages(manifest, self.where.remote)
            if is_listed and not found:
                self._publish(manifest)
                return
            if not found:
                break
        raise self._withdrawn(found)

    def _before(self, manifest: Manifest) -> dict[str, int]:
        """Look at the disk before byte one, and return what is there of each blob."""
        folder = self.server.models_folder
        if folder is None or not folder.is_dir():
            return {}
        require_room(folder, blobs.missing_bytes(folder, manifest))
        return blobs.fetched_bytes(folder, manifest)

    def _repair(self, found: tuple[blobs.Damage, ...], manifest: Manifest) -> None:
        """Delete damaged blobs; Ollama itself deletes them, with the tag, where this program may not."""
        if not found:
            return
        self._tell(f"{_listed(found)}, so it is fetched again")
        if blobs.remove(found):
            for name in {str(self.name), str(self.where.remote)}:
                self.api.delete(name)
        left = tuple(damage for damage in found if damage.path.exists())
        if left:
            raise DigestMismatchError(
                f"{_listed(left)}, this user cannot delete it, and Ollama keeps it for another model",
                INTACT,
                f"delete {left[0].path}, then run it again",
            )
        self.repaired += found
        self._tell(f"{gib(sum(manifest.sizes[damage.digest] for damage in found))} to fetch again")

    def _is_listed(self, manifest: Manifest) -> bool:
        """Whether Ollama lists what was wanted; something else of the same name is deleted at once."""
        tags = self.api.tags()
        digest = tags.get(self.where.remote.key) or tags.get(self.name.key)
        if digest is not None and digest != manifest.digest:
            gone = withdraw(self.server, str(self.where.remote))
            raise DigestMismatchError(
                f"Ollama pulled {self.name} as {short(digest)} instead of {short(manifest.digest)},"
                " so the library changed it meanwhile",
                "it was deleted from Ollama again" if gone else "it could not be deleted from Ollama",
                "run it again, and compare the pin with the library",
            )
        return digest is not None

    def _withdrawn(self, found: tuple[blobs.Damage, ...]) -> PullError:
        gone = withdraw(self.server, str(self.where.remote))
        intact = "it was deleted from Ollama again" if gone else "it could not be deleted from Ollama"
        if found:
            what = f"{self.name} arrived damaged {ROUNDS} times ({_listed(found)})"
            return DigestMismatchError(what, intact, "check the disk and the memory of this host")
        what = f"Ollama says that it pulled {self.name} and does not list it"
        return SourceUnavailableError(what, intact, "look at Ollama's log, then run it again")

    def _publish(self, manifest: Manifest) -> None:
        """Give the model the name that is wanted, where it was pulled under that of another registry."""
        if self.where.remote.key == self.name.key:
            return
        if self.api.tags().get(self.name.key) != manifest.digest:
            self.api.copy(str(self.where.remote), str(self.name))
        if self.api.tags().get(self.name.key) != manifest.digest:
            raise SourceUnavailableError(
                f"Ollama does not give {self.where.remote} the name {self.name}", INTACT, "run it again"
            )
        self.api.delete(str(self.where.remote))

    # --- telling -----------------------------------------------------------------------------

    def _tell(self, message: str) -> None:
        if self.ctx.stop.is_set():
            raise stopped(str(self.name))
        Watch(str(self.name), self.model, self.ctx).tell(message)

    def _kept(self, digest: str) -> PulledTag:
        checked = self.server.models_folder is not None and blobs.is_readable(
            self.server.models_folder, self.name
        )
        how = "every blob has its digest" if checked else "its blobs cannot be read here and were not hashed"
        return self._pulled("keep", digest, f"Ollama has {self.name} at {short(digest)}, {how}")

    def _changed(self, manifest: Manifest, served: str) -> PulledTag:
        parts = [_listed(tuple(self.repaired))] if self.repaired else []
        if served and served != manifest.digest:
            parts.append(f"{self.name} was at {short(served)}")
        parts.append(f"Ollama fetched {gib(self.fetched_bytes)} and has it at {short(manifest.digest)}")
        if self.tag.digest is None:
            parts.append("which is not pinned")
        self._tell(parts[-1])
        return self._pulled(
            "replace" if served or self.repaired else "create", manifest.digest, "; ".join(parts)
        )

    def _pulled(self, kind: ChangeKind, digest: str, reason: str) -> PulledTag:
        return PulledTag(
            tag=str(self.name),
            digest=digest,
            fetched_bytes=self.fetched_bytes,
            change=Change(f"weights {self.model}", kind, reason),
            repaired=tuple(damage.digest for damage in self.repaired),
        )


def _listed(found: tuple[blobs.Damage, ...]) -> str:
    return ", ".join(str(damage) for damage in found)
