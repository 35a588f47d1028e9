"""What an export is to write, checked against the store and Ollama's folder before byte one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import msgspec

from tasks.contracts import OllamaTag, WeightFile, Weights
from tasks.errors import CatalogueError, RefusedError, SourceRefusedError, UsageError
from tasks.pull import store
from tasks.pull.export.copying import Blob, digest_of
from tasks.pull.export.index import Pinned, manifest_name
from tasks.pull.ollama.blobs import damages
from tasks.pull.ollama.names import blob_path, parse_name, short
from tasks.pull.ollama.registry import LARGEST_MANIFEST_BYTES, Manifest, parse_manifest
from tasks.wording import plural


@dataclass(frozen=True, slots=True)
class Exported:
    """A model to export: `key` is "model:variant"; it has pinned files, or a tag of Ollama."""

    key: str
    weights: Weights | None = None
    ollama: OllamaTag | None = None


@dataclass(slots=True)
class Planned:
    """What is to be written: blobs by digest, manifests by their path below the export, and the pins.

    `faults` says what is not there or not right, one clause each.
    """

    blobs: dict[str, Blob] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    pins: list[Pinned] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def planned(items: Sequence[Exported], cache: Path, models: Path | None, *, stop: Event) -> Planned:
    """Look at everything that is to be exported. What has no receipt that holds is read.

    Raises:
        UsageError: there is nothing to export, or an item has no pins.
        RefusedError: files are missing or damaged; names each.
        StoppedError: `stop` was set.
    """
    made = Planned()
    if not items:
        raise UsageError("there is nothing to export", "nothing was written", "name a profile or a model")
    for item in {item.key: item for item in items}.values():
        if item.weights is not None:
            _add_weights(made, item.key, item.weights, cache, stop)
        elif item.ollama is not None:
            _add_tag(made, item.key, item.ollama, models, stop)
        else:
            raise UsageError(
                f"{item.key} has no pinned files, so there is nothing of it to export",
                "nothing was written",
                f"run `pmoves pull {item.key}` first, which pins it",
            )
    if made.faults:
        raise RefusedError(
            f"{plural(len(made.faults), 'file')} cannot be exported: {', '.join(made.faults)}",
            "nothing was written",
            f"run `pmoves pull {' '.join(item.key for item in items)}` first",
        )
    return made


def _add_weights(made: Planned, key: str, weights: Weights, cache: Path, stop: Event) -> None:
    known = store.receipts(cache, weights.repo)
    made.pins.append(Pinned(key=key, weights=weights))
    for file in weights.files:
        path = store.link_path(cache, weights, file)
        name = f"{weights.repo}/{file.path}"
        if file.digest in made.blobs:
            continue
        if known.has(path, file.digest) and _size(path) == file.size_bytes:
            fault = ""
        elif not (fault := _fault(path, file, stop)):
            known.add(path, file.digest)
        if fault:
            made.faults.append(f"{name} ({fault})")
        else:
            made.blobs[file.digest] = Blob(name, file.digest, file.size_bytes, path)
    known.save()


def _fault(path: Path, file: WeightFile, stop: Event) -> str:
    """Read a file, and say what is wrong with it; "" for nothing."""
    size_bytes = _size(path)
    if size_bytes is None:
        return "not in the store"
    if size_bytes != file.size_bytes:
        return f"{size_bytes} bytes instead of {file.size_bytes}"
    try:
        found = digest_of(path, file.digest, file.size_bytes, stop)
    except OSError as error:
        return f"unreadable: {error.strerror or error}"
    wanted = file.digest.partition(":")[2]
    return "" if found == wanted else f"digest {store.short(found)} instead of {store.short(wanted)}"


def _size(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size if path.is_file() else None
    return None


def _add_tag(made: Planned, key: str, tag: OllamaTag, models: Path | None, stop: Event) -> None:
    if models is None:
        made.faults.append(f"{tag.tag} (no folder of Ollama can be read here)")
        return
    try:
        manifest = _manifest(tag, models)
        found = [str(one) for one in damages(models, manifest, stop=stop)]
    except (OSError, CatalogueError, SourceRefusedError) as error:
        found = [str(error.strerror or error) if isinstance(error, OSError) else error.what]
    if found:
        made.faults += [f"{tag.tag} ({fault})" for fault in found]
        return
    for layer in manifest.layers:
        digest = f"sha256:{layer.digest}"
        blob = Blob(
            f"{tag.tag} {short(layer.digest)}", digest, layer.size_bytes, blob_path(models, layer.digest)
        )
        made.blobs.setdefault(digest, blob)
    made.manifests[manifest_name(tag)] = manifest.raw
    # A tag that nothing pinned is pinned by what was verified here, so that the next host gets the same.
    pinned = msgspec.structs.replace(tag, digest=manifest.digest, unpinned=None)
    made.pins.append(Pinned(key=key, ollama=pinned, manifest=manifest_name(tag)))


def _manifest(tag: OllamaTag, models: Path) -> Manifest:
    """Read the manifest of a tag.

    Raises:
        SourceRefusedError: it is none, or not the pinned one.
        OSError: there is none that can be read.
    """
    manifest = read_manifest(models, tag)
    if manifest is None:
        raise _refused("not in the folder of Ollama")
    if tag.digest is not None and manifest.digest != tag.digest:
        raise _refused(f"there with digest {short(manifest.digest)} instead of {short(tag.digest)}")
    return manifest


def read_manifest(models: Path, tag: OllamaTag) -> Manifest | None:
    """Return the manifest of a tag as it lies below `models`, or None where there is none.

    Raises:
        CatalogueError: the tag has a name that Ollama would refuse.
        SourceRefusedError: it is not a model's manifest.
        OSError: it cannot be read.
    """
    name = parse_name(tag.tag)
    path = name.manifest_path(models)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return parse_manifest(name, file.read(LARGEST_MANIFEST_BYTES + 1))


def _refused(what: str) -> SourceRefusedError:
    return SourceRefusedError(what, "nothing was written", "pull it first")
