"""A planned model -> the same with its pins: exact files, bytes and digests, before byte one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from tasks.contracts import Event, OllamaTag, PlannedModel, UnpinnedRepo, Weights
from tasks.errors import SourceUnavailableError
from tasks.pull.claim import refused
from tasks.pull.fetch.partial import peek_bytes
from tasks.pull.ollama import blobs
from tasks.pull.ollama.names import parse_name
from tasks.pull.ollama.registry import Manifest
from tasks.pull.ollama.registry import fetch as fetch_manifest
from tasks.pull.resolve.listing import listing
from tasks.pull.resolve.lock import Moved, Pins, key
from tasks.pull.resolve.needed import needed
from tasks.pull.sources.job import PullContext
from tasks.pull.store import link_path, missing, part_path
from tasks.wording import gib

AT_ONCE = 8
OFF_BY = 0.05
"""A listing that differs by more than this from what the catalogue counts on is said."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where weights lie: the Hugging Face cache, and Ollama's folder where it can be read here.

    `library` is the Ollama library's address, "https://registry.ollama.ai/v2/".
    """

    cache: Path
    ollama_models: Path | None
    library: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A planned model with its pins, the bytes that are missing of it, and the folder they will go to."""

    planned: PlannedModel
    missing_bytes: int
    folder: Path | None
    notes: tuple[str, ...] = ()


def resolve_all(
    models: Sequence[PlannedModel], pins: Pins, places: Places, ctx: PullContext
) -> tuple[Resolved, ...]:
    """Pin every model, several at once. What was unpinned is kept in `pins`, to be saved by the caller.

    Raises:
        PullError: a source does not list a model, or lists none of the files it needs.
        CatalogueError: a file name leads out of its folder.
        StoppedError: the context's stop event was set.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = tuple(pool.map(lambda one: resolve(one, pins, places, ctx), models))
    for one in found:
        for note in one.notes:
            ctx.sink(Event("pull", one.planned.model, note))
    return found


def brings_its_own(planned: PlannedModel) -> bool:
    """Tell whether a model is on a server that is not ours, with weights that are not ours either."""
    return bool(planned.external) and not (planned.ollama or planned.weights or planned.repo)


def resolve(planned: PlannedModel, pins: Pins, places: Places, ctx: PullContext) -> Resolved:
    """Pin one model. See `resolve_all`."""
    if brings_its_own(planned):
        return Resolved(planned, 0, None)
    pins.settle(planned)
    if planned.ollama is not None and planned.weights is None and planned.repo is None:
        return _tag(planned, planned.ollama, pins, places, ctx)
    weights, notes = pins.weights(planned), tuple[str, ...]()
    if weights is None:
        if planned.repo is None:
            raise refused(f"{planned.model} names nothing to fetch")
        if ctx.offline:
            raise refused(f"{planned.model} is not pinned, and no network is to be asked", "export it again")
        ctx.sink(Event("pull", planned.model, f"listing {planned.repo.repo}"))
        weights = pin(planned, planned.repo, ctx)
        notes = _differs(planned, planned.repo.size_bytes, weights.size_bytes)
        pins.keep_weights(planned, weights)
    for file in weights.files:
        link_path(places.cache, weights, file)
    absent = [gap.file for gap in missing(places.cache, weights, rehash=ctx.rehash)]
    there = sum(peek_bytes(part_path(places.cache, weights.repo, file)) for file in absent)
    to_come = max(0, sum(file.size_bytes for file in absent) - there)
    return Resolved(
        replace(planned, weights=weights, repo=None, download_bytes=to_come), to_come, places.cache, notes
    )


def pin(planned: PlannedModel, repo: UnpinnedRepo, ctx: PullContext) -> Weights:
    """Ask the hub which files a planned model needs, and return them with their digests.

    Raises:
        PullError: the hub does not list them.
    """
    found = listing(repo.repo, repo.revision, ctx)
    files = needed(
        planned.runtime, planned.quantisation, found.files, projector=bool(_projector_bytes(planned))
    )
    if not files:
        raise refused(
            f"{repo.repo} has no files that {planned.runtime} could load as {planned.quantisation}",
            "choose another variant or runtime",
        )
    return Weights(repo=repo.repo, revision=found.revision, files=files)


def _projector_bytes(planned: PlannedModel) -> int:
    return planned.need.projector_bytes if planned.need else 0


def _differs(planned: PlannedModel, expected: int, listed: int) -> tuple[str, ...]:
    if abs(listed - expected) <= OFF_BY * expected:
        return ()
    counted = f"{key(planned)} is {gib(listed)} at its source, and the plan counted on {gib(expected)}"
    return (f"{counted}; the footprint is measured when it runs",)


def _tag(planned: PlannedModel, asked: OllamaTag, pins: Pins, places: Places, ctx: PullContext) -> Resolved:
    tag, folder, notes = pins.tag(asked), places.ollama_models, tuple[str, ...]()
    manifest = None if ctx.offline else _manifest(tag, places, ctx)
    if manifest is not None and tag.digest is None:
        pins.keep_tag(asked, manifest.digest, manifest.size_bytes)
        notes = _differs(planned, asked.size_bytes, manifest.size_bytes)
        tag = msgspec.structs.replace(
            tag, digest=manifest.digest, size_bytes=manifest.size_bytes, unpinned=None, size_basis=None
        )
    to_come = tag.size_bytes
    if manifest is not None and folder is not None:
        to_come = blobs.missing_bytes(folder, manifest)
    return Resolved(replace(planned, ollama=tag, download_bytes=to_come), to_come, folder, notes)


def _manifest(tag: OllamaTag, places: Places, ctx: PullContext) -> Manifest | None:
    """Return the manifest of a tag; a library that does not answer is no trouble for a pinned one."""
    try:
        return fetch_manifest(parse_name(tag.tag), places.library, stop=ctx.stop)
    except SourceUnavailableError:
        if tag.digest is None:
            raise
        return None


def update(planned: PlannedModel, pins: Pins, places: Places, ctx: PullContext) -> Moved | None:
    """Pin what the source has now. Returns what moved, or None where nothing did.

    Raises:
        PullError: the source does not answer, or has it no more.
    """
    if planned.ollama is not None and planned.weights is None and planned.repo is None:
        return _update_tag(planned.ollama, pins, places, ctx)
    before, catalogue = pins.weights(planned), planned.weights
    repo = catalogue.repo if catalogue else planned.repo.repo if planned.repo else ""
    now = UnpinnedRepo(repo=repo, size_bytes=1, unpinned="it is being resolved")
    after = pin(planned, now, ctx)
    if before is not None and before.revision == after.revision and before.files == after.files:
        return None
    pins.keep_weights(planned, after, over=catalogue.revision if catalogue else "")
    size = before.size_bytes if before else 0
    return Moved(key(planned), before.revision if before else "", after.revision, size, after.size_bytes)


def _update_tag(asked: OllamaTag, pins: Pins, places: Places, ctx: PullContext) -> Moved | None:
    before = pins.tag(asked)
    after = fetch_manifest(parse_name(asked.tag), places.library, stop=ctx.stop)
    if before.digest == after.digest:
        return None
    pins.keep_tag(asked, after.digest, after.size_bytes, over=asked.digest or "")
    return Moved(
        asked.tag,
        before.digest or "",
        after.digest,
        before.size_bytes if before.digest else 0,
        after.size_bytes,
    )
