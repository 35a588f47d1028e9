"""A host with verified weights and a model of Ollama's, and a disk to export them to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as StopEvent

from tasks.contracts import OllamaTag
from tasks.pull.export import Exported, ExportReport, copying, export
from tests.lab.hub import REVISION
from tests.lab.ollama_registry import Tag, digest_of, lab_tag
from tests.lab.seeding import in_ollama, stocked
from tests.lab.weights import Watcher, contents

SNAPSHOT = f"models--org--name/snapshots/{REVISION}"
TAG = lab_tag(big_bytes=300_000)
PINNED = OllamaTag(tag="lab:1", size_bytes=TAG.size_bytes, digest=TAG.digest)
MANIFEST = "manifests/registry.ollama.ai/library/lab/1"


@dataclass
class Lab:
    """A host with weights and a model of Ollama's, and a disk to export to."""

    home: Path
    stop: StopEvent = field(default_factory=StopEvent)
    sink: Watcher = field(default_factory=Watcher)

    def __post_init__(self) -> None:
        self.cache, self.models, self.target = (self.home / name for name in ("store", "ollama", "usb"))
        self.weights = stocked(self.cache)
        in_ollama(self.models, TAG)

    @property
    def items(self) -> tuple[Exported, ...]:
        """What this host has."""
        return (Exported("lab:f32", self.weights), Exported("chat:q4", ollama=PINNED))

    def export(self, *items: Exported, models: Path | None = None) -> ExportReport:
        """Export some models, or all."""
        given = models or self.models
        return export(items or self.items, self.cache, given, self.target, stop=self.stop, sink=self.sink)


def visible(target: Path) -> set[str]:
    """Return what lies in an export under final names."""
    return {name for name in contents(target) if name != copying.LOCK}


def blob_names(files: dict[str, bytes], tag: Tag | None = None) -> set[str]:
    """Return the names of blobs in an export."""
    every = [*files.values(), *(tag.blobs if tag else ())]
    return {f"blobs/sha256-{digest_of(data)}" for data in every}
