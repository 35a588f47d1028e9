"""An export: what is planned -> a folder that holds it, and an index that says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event as StopEvent

from tasks.contracts import Event, Sink, silent
from tasks.errors import UsageError
from tasks.pull.export.copying import Blob, copy, is_there, place, workplace
from tasks.pull.export.disk import filesystem_of, require_room, require_shape, writing
from tasks.pull.export.index import FILE_NAME, Index, encoded, merged, read_index
from tasks.pull.export.plan import Exported, Planned, planned
from tasks.wording import gib, plural

SUBJECT = "export"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written where. `keys` are the models of this export, `all_keys` those that lie there now."""

    target: str
    keys: tuple[str, ...]
    all_keys: tuple[str, ...]
    copied_files: int
    copied_bytes: int
    kept_files: int
    kept_bytes: int
    manifests: int
    seconds: float

    def __str__(self) -> str:
        """Return it in a sentence."""
        speed = f" in {self.seconds:.1f} s" if self.copied_bytes else ""
        kept = f"; {plural(self.kept_files, 'file')} ({gib(self.kept_bytes)}) lay there before"
        return (
            f"{self.target} holds {plural(len(self.all_keys), 'model')}: {', '.join(self.all_keys)}\n"
            f"{plural(self.copied_files, 'file')} ({gib(self.copied_bytes)}) copied{speed}"
            f"{kept if self.kept_files else ''}"
        )


def export(
    items: Sequence[Exported],
    cache: Path,
    ollama_models: Path | None,
    target: Path,
    *,
    stop: StopEvent,
    sink: Sink = silent,
) -> ExportReport:
    """Write verified weights to a folder; what is there already with its digest is kept.

    Args:
        items: What to export.
        cache: The weight store.
        ollama_models: Ollama's folder, where this host can read it.
        target: The folder; it is made where it is missing. An export that lies there is added to.
        stop: Ends it within a piece of 1 MiB; what was copied whole stays, for the next to go on from.
        sink: Told of progress; `done_bytes` counts what is copied of what is to be copied.

    Raises:
        UsageError: there is nothing to export, or the folder holds an index that no export wrote.
        RefusedError: files are missing or damaged here, or the disk there holds no such file.
        NoRoomError: the disk there is too small, before byte one or while it fills.
        BusyError: another export writes there.
        StateFolderError: one of both cannot be read or written.
        DigestMismatchError: a file changed while it was copied.
        StoppedError: `stop` was set.
    """
    begun = time.monotonic()
    before = _index_in(target)
    sink(Event("pull", SUBJECT, "looking whether all of it is here"))
    plan = planned(items, cache, ollama_models, stop=stop)
    kind = filesystem_of(next(folder for folder in (target, *target.parents) if folder.exists()))
    sizes = {blob.name: blob.size_bytes for blob in plan.blobs.values()}
    require_shape(target, kind, sizes, tuple(plan.manifests))
    with writing(target, sum(sizes.values())):
        target.mkdir(parents=True, exist_ok=True)
        with workplace(target) as work:
            made = _Export(plan, target, work, stop, sink)
            made.copy_all()
            index = merged(before, plan.pins)
            place(encoded(index), target / FILE_NAME, work)
    return made.report(index, time.monotonic() - begun)


def _index_in(target: Path) -> Index:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is not a folder", "nothing was written", "name a folder")
    return read_index(target) if (target / FILE_NAME).exists() else Index()


@dataclass(slots=True)
class _Export:
    """One export, and how far it is."""

    plan: Planned
    target: Path
    work: Path
    stop: StopEvent
    sink: Sink
    copied: list[Blob] = field(default_factory=list)
    done_bytes: int = 0
    total_bytes: int = 0

    def copy_all(self) -> None:
        """Copy what is not there yet: blobs first, so that each manifest finds its own."""
        self.sink(Event("pull", SUBJECT, f"looking at what lies in {self.target}"))
        wanted = [
            blob for blob in self.plan.blobs.values() if not is_there(self._path(blob), blob, self.stop)
        ]
        require_room(self.target, [blob.size_bytes for blob in wanted])
        self.total_bytes = sum(blob.size_bytes for blob in wanted)
        for blob in wanted:
            tell = partial(self._tell, blob.name)
            copy(blob, self._path(blob), self.work, stop=self.stop, tell=tell)
            self.copied.append(blob)
            self.done_bytes += blob.size_bytes
        for name, raw in self.plan.manifests.items():
            path = self.target / name
            if not (path.is_file() and path.read_bytes() == raw):
                place(raw, path, self.work)

    def _path(self, blob: Blob) -> Path:
        return self.target / "blobs" / blob.file_name

    def _tell(self, name: str, count: int) -> None:
        self.sink(Event("pull", SUBJECT, f"copying {name}", self.done_bytes + count, self.total_bytes))

    def report(self, index: Index, seconds: float) -> ExportReport:
        """Return what became of it."""
        all_bytes = sum(blob.size_bytes for blob in self.plan.blobs.values())
        return ExportReport(
            target=str(self.target),
            keys=tuple(pin.key for pin in self.plan.pins),
            all_keys=tuple(item.key for item in index.items),
            copied_files=len(self.copied),
            copied_bytes=self.done_bytes,
            kept_files=len(self.plan.blobs) - len(self.copied),
            kept_bytes=all_bytes - self.done_bytes,
            manifests=len(self.plan.manifests),
            seconds=seconds,
        )
