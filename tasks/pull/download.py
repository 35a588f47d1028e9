"""PlannedModel -> PulledModel: fetch what is missing from the first source that gives the pinned bytes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tasks.contracts import Change, ChangeKind, Event, PlannedModel, PulledModel, WeightFile, Weights
from tasks.errors import DigestMismatchError, PullError, SourceRefusedError, SourceUnavailableError
from tasks.pull.claim import exclusive, refused, require_room, staging, stopped, store_errors
from tasks.pull.fetch.partial import discard, peek_bytes
from tasks.pull.receipts import Receipts
from tasks.pull.sources import Job, PullContext, Source, of
from tasks.pull.store import (
    INTACT,
    UNSYNCED_BYTES,
    Gap,
    adopt,
    install,
    link_twin,
    missing,
    part_path,
    parts_folder,
    receipts,
    settle,
    snapshot_folder,
)
from tasks.wording import gib


def pull(
    planned: PlannedModel, cache: Path, ctx: PullContext, *, sources: tuple[Source, ...] | None = None
) -> PulledModel:
    """Bring the weights of one planned model to the store; do nothing when they are there.

    Pulls of one repository, in whatever processes, wait for each other and fetch once. What is
    fetched is installed file by file, and what is fetched of a file is gone on with, by whatever
    source comes next: the digest decides.

    Raises:
        NoRoomError: the disk is too small, before byte one or while it fills.
        StateFolderError: the store cannot be read or written.
        StoppedError: the stop event was set.
        PullError: no source gave the files; retryable when one of them may give them later.
    """
    weights = planned.weights
    if weights is None:
        raise SourceRefusedError(
            f"{planned.model} has no pinned files, so nothing is fetched for it",
            INTACT,
            "pin it in the catalogue",
        )
    run = _Pull(planned, weights, cache, ctx, of(ctx) if sources is None else sources)
    with store_errors(cache, run.room_bytes(weights.files)):
        # The lock is for those who write: a complete store may be read-only.
        gaps = missing(cache, weights, rehash=ctx.rehash)
        if not gaps:
            settle(cache, weights)
            tidy(cache, weights)
            return run.kept("digests match")
        with exclusive(cache, weights.repo, stop=ctx.stop, on_wait=run.tell_waiting):
            return run.fill(gaps)


def tidy(cache: Path, weights: Weights) -> None:
    """Remove what is left of the parts of files that are whole: a pull may be killed before it does so."""
    folder = parts_folder(cache, weights.repo)
    with suppress(OSError):  # a store that cannot be written keeps them
        if folder.is_dir():
            for file in weights.files:
                discard(part_path(cache, weights.repo, file))
            folder.rmdir()


@dataclass(slots=True)
class _Pull:
    """One pull, and what became of it so far."""

    planned: PlannedModel
    weights: Weights
    cache: Path
    ctx: PullContext
    sources: tuple[Source, ...]
    started: float = field(default_factory=time.monotonic)
    left: dict[str, WeightFile] = field(default_factory=dict)
    receipts: Receipts = field(init=False)
    failures: list[tuple[str, PullError]] = field(default_factory=list)
    fetched_bytes: int = 0

    def __post_init__(self) -> None:
        self.receipts = receipts(self.cache, self.weights.repo)

    def fill(self, gaps: tuple[Gap, ...]) -> PulledModel:
        """Fetch `gaps`, as far as nobody else did so meanwhile. The repository is held."""
        weights = self.weights
        found = missing(self.cache, weights, among=(gap.file for gap in gaps))
        adopted = {gap.file.path for gap in found if adopt(self.cache, weights, gap.file)}
        for gap in found:
            if gap.file.path in adopted:
                discard(part_path(self.cache, weights.repo, gap.file))
        wanted = tuple(gap for gap in found if gap.file.path not in adopted)
        if not wanted:
            settle(self.cache, weights)
            return self.kept("linked to what another revision brought" if found else "fetched by another run")
        self.left = {gap.file.path: gap.file for gap in wanted}
        try:
            source = next((one for one in self.sources if self._served_by(one)), None)
        finally:
            self.receipts.save()
        if source is None:
            raise self._failure()
        settle(self.cache, weights)
        tidy(self.cache, weights)
        return self._changed(source, wanted)

    def _served_by(self, source: Source) -> bool:
        """Ask one source for what is left, and note why when it did not give all."""
        # Files with the same bytes are asked for once; see `_deliver`.
        asked = tuple({file.digest: file for file in self.left.values()}.values())
        held = sum(peek_bytes(part_path(self.cache, self.weights.repo, file)) for file in asked)
        require_room(self.cache, source.room_bytes(self.weights, asked) - held)
        self._tell(f"asking {source.NAME} for {_count(asked)}")
        try:
            self.fetched_bytes += self._fetch(source, asked)
        except PullError as error:
            gone = [file for file in asked if file.path not in self.left]
            self.fetched_bytes += sum(file.size_bytes for file in gone)
            self.failures.append((source.NAME, error))
            self._tell(f"{source.NAME}: {error.what}")
            return False
        return True

    def _fetch(self, source: Source, files: tuple[WeightFile, ...]) -> int:
        if self.ctx.stop.is_set():
            raise stopped(self.planned.model)
        weights = self.weights
        parts = parts_folder(self.cache, weights.repo)
        with staging(self.cache, weights.repo) as folder:
            fetched_bytes = source.fetch(
                Job(self.planned.model, weights, files, folder, parts, self._deliver, self.ctx, self.cache)
            )
        if self.left:
            raise refused(f"it did not give {', '.join(self.left)}")
        return fetched_bytes

    def _deliver(self, file: WeightFile, staged: Path, *, digest: str = "") -> None:
        link = install(self.cache, self.weights, file, staged, digest=digest)
        discard(part_path(self.cache, self.weights.repo, file))
        self.receipts.add(link, file.digest, placed=True)
        if file.size_bytes > UNSYNCED_BYTES:
            self.receipts.save()
        for twin in [one for one in self.left.values() if one.digest == file.digest]:
            if twin.path != file.path:
                link_twin(self.cache, self.weights, twin, link)
            del self.left[twin.path]

    def room_bytes(self, files: tuple[WeightFile, ...]) -> int:
        """Return the room that suffices whichever source gives `files`."""
        return max((source.room_bytes(self.weights, files) for source in self.sources), default=0)

    def tell_waiting(self) -> None:
        """Say that another provisioner holds the repository."""
        self._tell("waiting for another run that fills this repository")

    def _tell(self, message: str) -> None:
        self.ctx.sink(Event("pull", self.planned.model, message))

    def kept(self, why: str) -> PulledModel:
        """Return the record of a pull that fetched nothing."""
        return self._pulled("keep", f"{_count(self.weights.files)}, {why}")

    def _changed(self, source: Source, wanted: tuple[Gap, ...]) -> PulledModel:
        damaged = [f"{gap.file.path} was damaged ({gap.damage})" for gap in wanted if gap.damage]
        copied = sum(gap.file.size_bytes for gap in wanted)
        brought = f"fetched {gib(self.fetched_bytes)}" if self.fetched_bytes else f"copied {gib(copied)}"
        fetched = f"{brought} from {source.NAME}"
        reason = "; ".join([*damaged, fetched, *self._reasons()])
        self._tell(fetched)
        return self._pulled("replace" if damaged else "create", reason, source=source.NAME)

    def _pulled(self, kind: ChangeKind, reason: str, *, source: str = "") -> PulledModel:
        return PulledModel(
            planned=self.planned,
            cache=str(self.cache),
            snapshot=str(snapshot_folder(self.cache, self.weights)),
            source=source,
            fetched_bytes=self.fetched_bytes,
            seconds=time.monotonic() - self.started,
            change=Change(f"weights {self.planned.model}", kind, reason),
        )

    def _reasons(self) -> list[str]:
        return [f"{name}: {error.what}" for name, error in self.failures]

    def _failure(self) -> PullError:
        """Return one error for all sources; it is retryable when one of them is."""
        errors = [error for _, error in self.failures]
        kinds = (SourceUnavailableError, DigestMismatchError, SourceRefusedError)
        worst = next((kind for kind in kinds if any(isinstance(error, kind) for error in errors)), PullError)
        files = tuple(self.left.values())
        what = f"no source gave {self.planned.model} ({_count(files)}): {', '.join(self._reasons())}"
        then = next((error.then for error in errors if isinstance(error, worst)), "add a source")
        return worst(what, INTACT, then)


def _count(files: tuple[WeightFile, ...]) -> str:
    noun = "file" if len(files) == 1 else "files"
    return f"{len(files)} {noun}, {gib(sum(file.size_bytes for file in files))}"
