"""A tag out of an export -> Ollama's own folder: blobs first, its manifest last, everything verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event as StopEvent

from tasks.contracts import Event, OllamaTag, Sink, silent
from tasks.errors import SourceRefusedError, StateFolderError
from tasks.pull.export.copying import Blob, copy, is_there, place, workplace
from tasks.pull.export.disk import require_room, writing
from tasks.pull.export.plan import read_manifest
from tasks.pull.ollama.blobs import Trusted, trust_none
from tasks.pull.ollama.names import blob_path, short
from tasks.pull.ollama.registry import Manifest
from tasks.wording import gib


@dataclass(frozen=True, slots=True)
class Imported:
    """A tag that lies whole in Ollama's folder. `digest` is what `/api/tags` shows: 64 hex digits."""

    tag: str
    digest: str
    copied_bytes: int
    kept_bytes: int


def import_ollama(
    target: Path,
    tag: OllamaTag,
    models: Path,
    *,
    stop: StopEvent,
    sink: Sink = silent,
    trusted: Trusted = trust_none,
) -> Imported | None:
    """Copy a tag from an export into Ollama's folder; return None where the export does not hold it.

    What lies there already with its digest is kept. Ollama need not be stopped: it sees the tag when its
    manifest appears, which is last. A folder that holds the tag at another digest than the pinned one counts
    as one that does not hold it.

    Args:
        target: The export.
        tag: What to copy; without a digest, as it lies there.
        models: Ollama's folder; this user must be able to write there.
        stop: Ends it within a piece of 1 MiB.
        sink: Told of progress.
        trusted: Which blobs in `models` need not be read to know that they are right.

    Raises:
        SourceRefusedError: a blob is missing in the export, or its manifest is none.
        DigestMismatchError: a blob of the export is damaged.
        NoRoomError: Ollama's disk is too small.
        BusyError: another import writes there.
        StateFolderError: one of both cannot be read or written.
        StoppedError: `stop` was set.
    """
    manifest = _found(target, tag, sink)
    if manifest is None:
        return None
    blobs = {
        layer.digest: Blob(
            f"{tag.tag} {short(layer.digest)}",
            f"sha256:{layer.digest}",
            layer.size_bytes,
            blob_path(target, layer.digest),
        )
        for layer in manifest.layers
    }
    with writing(models, manifest.size_bytes):
        models.mkdir(parents=True, exist_ok=True)
        wanted = [blob for digest, blob in blobs.items() if not _has(models, digest, blob, stop, trusted)]
        _require_whole(target, wanted)
        path = manifest.name.manifest_path(models)
        if wanted or not path.is_file() or path.read_bytes() != manifest.raw:
            require_room(models, [blob.size_bytes for blob in wanted])
            _copy(manifest, wanted, models, stop=stop, sink=sink)
    copied_bytes = sum(blob.size_bytes for blob in wanted)
    all_bytes = sum(blob.size_bytes for blob in blobs.values())
    return Imported(tag.tag, manifest.digest, copied_bytes, all_bytes - copied_bytes)


def _found(target: Path, tag: OllamaTag, sink: Sink) -> Manifest | None:
    try:
        manifest = read_manifest(target, tag)
    except OSError as error:
        raise StateFolderError(
            f"the manifest of {tag.tag} in {target} cannot be read ({error.strerror or error})",
            "what Ollama has stays as it is",
            "look at that disk, then run it again",
        ) from error
    if manifest is not None and tag.digest not in {None, manifest.digest}:
        wanted = short(tag.digest or "")
        sink(
            Event("pull", tag.tag, f"{target} has it at {short(manifest.digest)}, not at the pinned {wanted}")
        )
        return None
    return manifest


def _has(models: Path, digest: str, blob: Blob, stop: StopEvent, trusted: Trusted) -> bool:
    path = blob_path(models, digest)
    if path.is_file() and path.stat().st_size == blob.size_bytes and trusted(path, digest):
        return True
    return is_there(path, blob, stop)


def _require_whole(target: Path, wanted: list[Blob]) -> None:
    for blob in wanted:
        size_bytes = blob.source.stat().st_size if blob.source.is_file() else None
        if size_bytes != blob.size_bytes:
            fault = "is missing" if size_bytes is None else f"has {size_bytes} bytes, not {blob.size_bytes}"
            raise SourceRefusedError(
                f"the blob {blob.name} {fault} in {target}",
                "what Ollama has stays as it is",
                "write the export anew, or name another folder",
            )


def _copy(manifest: Manifest, wanted: list[Blob], models: Path, *, stop: StopEvent, sink: Sink) -> None:
    done, total = 0, sum(blob.size_bytes for blob in wanted)
    name = str(manifest.name)

    def tell(count: int) -> None:
        sink(Event("pull", name, f"copying {gib(total)} into Ollama's folder", done + count, total))

    with workplace(models) as work:
        for blob in wanted:
            copy(blob, models / "blobs" / blob.file_name, work, stop=stop, tell=tell)
            done += blob.size_bytes
        place(manifest.raw, manifest.name.manifest_path(models), work)
