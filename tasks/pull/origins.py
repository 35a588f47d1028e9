"""Which way a planned model comes: from a hub or what stands in for one, or through Ollama."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.contracts import Change, PlannedModel, PulledModel
from tasks.pull import download
from tasks.pull.claim import refused, store_errors
from tasks.pull.ollama.blobs import stored_manifest
from tasks.pull.ollama.create import GgufRole, create_from_gguf
from tasks.pull.ollama.names import blob_path, parse_name
from tasks.pull.ollama.pull import PulledTag, Server, pull_tag
from tasks.pull.receipts import Receipts
from tasks.pull.resolve.resolve import Places, brings_its_own
from tasks.pull.sources.job import PullContext


@dataclass(frozen=True, slots=True)
class Origin:
    """A way for weights to come: whether it is a model's way, and going it."""

    takes: Callable[[PlannedModel], bool]
    pull: Callable[[PlannedModel, Places, Server, PullContext], PulledModel]


def pull(planned: PlannedModel, places: Places, server: Server, ctx: PullContext) -> PulledModel:
    """Bring the weights of one planned model to where its runtime reads them.

    Raises:
        PullError, NoRoomError, StateFolderError, StoppedError: see `download.pull` and `ollama.pull_tag`.
    """
    for origin in ORIGINS:
        if origin.takes(planned):
            return origin.pull(planned, places, server, ctx)
    raise refused(
        f"{planned.model} has no pinned files, so nothing is fetched for it", "pin it in the catalogue"
    )


def _from_sources(planned: PlannedModel, places: Places, _server: Server, ctx: PullContext) -> PulledModel:
    return download.pull(planned, places.cache, ctx)


def _from_ollama(planned: PlannedModel, places: Places, server: Server, ctx: PullContext) -> PulledModel:
    tag = planned.ollama
    assert tag is not None  # noqa: S101  # `takes` saw to that
    started = time.monotonic()
    if ctx.folders and server.models_folder is not None:
        _import_first(planned, server.models_folder, ctx)
    known = Receipts(server.models_folder) if server.models_folder else None

    def trusted(path: Path, digest: str) -> bool:
        return known is not None and not ctx.rehash and known.has(path, f"sha256:{digest}")

    pulled = pull_tag(tag, planned.model, server, places.library, ctx, trusted=trusted)
    if known is not None and server.models_folder is not None:
        _keep_receipts(known, server.models_folder, pulled, fetched=pulled.change.kind != "keep")
    return PulledModel(
        planned=planned,
        cache=str(server.models_folder or server.url),
        snapshot=tag.tag,
        source="ollama" if pulled.fetched_bytes else "",
        fetched_bytes=pulled.fetched_bytes,
        seconds=time.monotonic() - started,
        change=pulled.change,
    )


def _keep_receipts(known: Receipts, models: Path, pulled: PulledTag, *, fetched: bool) -> None:
    """Note that every blob of a tag was verified, so that the next run need not read it."""
    manifest = stored_manifest(models, parse_name(pulled.tag), pulled.digest)
    for layer in manifest.layers if manifest else ():
        path = blob_path(models, layer.digest)
        if fetched or not known.has(path, f"sha256:{layer.digest}"):
            known.add(path, f"sha256:{layer.digest}")
    known.save()


def _import_first(planned: PlannedModel, models: Path, ctx: PullContext) -> None:
    """Copy a tag out of the first folder that holds it; Ollama then finds it there and pulls nothing."""
    from tasks.pull.export import import_ollama  # noqa: PLC0415  # only where there is a folder

    assert planned.ollama is not None  # noqa: S101  # as above
    for folder in ctx.folders:
        with store_errors(models, planned.ollama.size_bytes):
            if import_ollama(folder, planned.ollama, models, stop=ctx.stop, sink=ctx.sink):
                return


def _into_ollama(planned: PlannedModel, places: Places, server: Server, ctx: PullContext) -> PulledModel:
    """Fetch GGUF files as any weights, and let Ollama make a model of them."""
    pulled = download.pull(planned, places.cache, ctx)
    weights = planned.weights
    assert weights is not None  # noqa: S101  # `takes` saw to that
    files = tuple(
        (_gguf_role(file.path), Path(pulled.snapshot, file.path), file.sha256) for file in weights.files
    )
    made = create_from_gguf(f"{planned.model}:{planned.quantisation}", files, server, ctx)
    change = replace(made.change, reason=f"{pulled.change.reason}; {made.change.reason}")
    return replace(pulled, snapshot=made.tag, change=change if made.change.kind != "keep" else pulled.change)


def _gguf_role(path: str) -> GgufRole:
    return "projector" if "mmproj" in path.lower() else "model"


def _none(planned: PlannedModel, _places: Places, _server: Server, _ctx: PullContext) -> PulledModel:
    """Fetch nothing: a server that is not ours has its own weights."""
    change = Change(f"weights {planned.model}", "keep", f"they are on the server at {planned.external}")
    return PulledModel(planned, "", "", "", 0, 0.0, change)


ORIGINS: tuple[Origin, ...] = (
    Origin(brings_its_own, _none),
    Origin(lambda planned: planned.runtime == "ollama" and planned.weights is not None, _into_ollama),
    Origin(lambda planned: planned.weights is not None, _from_sources),
    Origin(lambda planned: planned.ollama is not None, _from_ollama),
)
