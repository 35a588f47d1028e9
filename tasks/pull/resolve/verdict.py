"""The whole bundle against the disks that really hold it, before byte one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import NoRoomError
from tasks.pull.claim import free_bytes
from tasks.pull.resolve.resolve import Resolved
from tasks.wording import gib, listed, plural

LEAST_MARGIN_BYTES = 1 << 30
MARGIN_SHARE = 0.02
"""Room that stays free beside the bundle: a gibibyte, or a fiftieth of what comes; chosen."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one file system is to take."""

    folder: Path
    models: tuple[str, ...]
    missing_bytes: int
    free_bytes: int

    @property
    def margin_bytes(self) -> int:
        """What is to stay free, 0 where nothing comes."""
        return max(LEAST_MARGIN_BYTES, int(MARGIN_SHARE * self.missing_bytes)) if self.missing_bytes else 0

    @property
    def fits(self) -> bool:
        """Whether it has the room."""
        return self.missing_bytes + self.margin_bytes <= self.free_bytes


def demands(resolved: Iterable[Resolved]) -> tuple[Demand, ...]:
    """Group what is missing by the file system that it goes to. A model is counted once.

    A model whose folder is not known here (an Ollama in a container of its own) is in none.
    """
    groups: dict[int, list[Resolved]] = {}
    for one in resolved:
        if one.folder is not None:
            groups.setdefault(_device(one.folder), []).append(one)
    return tuple(_demand(group) for group in groups.values())


def require(found: Iterable[Demand]) -> None:
    """Refuse a bundle that does not fit.

    Raises:
        NoRoomError: with what is needed and what is free, for the first file system that is too small.
    """
    for one in found:
        if not one.fits:
            raise NoRoomError(
                f"{plural(len(one.models), 'model')} ({listed(one.models)}) still need"
                f" {gib(one.missing_bytes)} and {gib(one.margin_bytes)} of margin on the disk of"
                f" {one.folder}, which has {gib(one.free_bytes)} free",
                "nothing was downloaded",
                "make room there (`pmoves gc` shows what no record needs), or take a larger disk",
            )


def _demand(group: list[Resolved]) -> Demand:
    seen: dict[object, Resolved] = {}
    for one in group:
        seen.setdefault(one.planned.weights or one.planned.ollama, one)
    folder = group[0].folder
    assert folder is not None  # noqa: S101  # only those with a folder are grouped
    return Demand(
        folder=folder,
        models=tuple(dict.fromkeys(one.planned.model for one in seen.values() if one.missing_bytes)),
        missing_bytes=sum(one.missing_bytes for one in seen.values()),
        free_bytes=free_bytes(folder),
    )


def _device(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.stat().st_dev
