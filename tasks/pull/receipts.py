"""Receipts: which files were verified, and how they looked then.

    <repository>/.pmoves/receipts.json
      {"version": 1, "files": {"blobs/<etag>": {"digest": "sha256:...", "size": 5, "mtime_ns": ...,
       "ctime_ns": ..., "inode": ..., "boot_id": "" or the id, "by": "pmoves" or ""}}}

A file that still looks the same is taken as verified without being read. Whoever writes to it changes
its times; what changes without that (a failing disk) is found by `--verify` and the drift check. A small
file was not synced when it was written, so its receipt counts until the machine starts again.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.effects.files import write_atomic
from tasks.pull.fetch.partial import boot_id

SYNCED_BYTES = 1 << 23
RACY_NS = 20_000_000
"""Two writes within one tick of the kernel's clock look the same; git calls such a file racy."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one file looked when it had its digest. Times are in ns, `size` in bytes.

    `boot_id` is "" when the bytes were synced. `by` is "pmoves" for a file that this program brought.
    """

    digest: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    boot_id: str = ""
    by: str = ""


class Receipts:
    """The receipts of one repository. Threads may share it; without `save` nothing is kept."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._boot_id = boot_id()
        self._folders: dict[Path, Path] = {}
        self._path = repository / ".pmoves/receipts.json"
        self._lock = threading.Lock()
        self._known = _read(self._path)
        self._new: dict[str, Receipt | None] = {}

    def has(self, path: Path, digest: str) -> bool:
        """Whether the file at `path` had this digest when it was verified, and looks as it did then."""
        with suppress(OSError):
            known = self._known.get(self._name(path))
            if known is not None and known.digest == digest:
                seen = _look(path, digest, known.boot_id, known.by)
                return seen == known and known.boot_id in {"", self._boot_id}
        return False

    def add(self, path: Path, digest: str, *, placed: bool = False) -> None:
        """Note that the file at `path` has this digest; `placed` when this program brought it."""
        with suppress(OSError), self._lock:
            name = self._name(path)
            before = self._known.get(name)
            by = "pmoves" if placed or (before is not None and before.by and not placed) else ""
            synced = path.stat().st_size > SYNCED_BYTES or not placed
            self._new[name] = _look(path, digest, "" if synced else self._boot_id, by)

    def drop(self, path: Path) -> None:
        """Forget the file at `path`, which is not what it was."""
        with suppress(OSError), self._lock:
            name = self._name(path)
            if name in self._known:
                self._new[name] = None

    def of(self, path: Path) -> Receipt | None:
        """Return the receipt of the file at `path`, if it holds."""
        with suppress(OSError):
            known = self._known.get(self._name(path))
            if known is not None and self.has(path, known.digest):
                return known
        return None

    def save(self) -> None:
        """Write down what is new. A store that cannot be written is read anew next time."""
        with self._lock:
            if not self._new:
                return
            newest = max((one.ctime_ns for one in self._new.values() if one), default=0)
            time.sleep(min(max(0.0, (newest + RACY_NS - time.time_ns()) / 1e9), RACY_NS / 1e9))
            merged = _read(self._path) | self._new
            still = {name: one for name, one in merged.items() if one and self._still(name, one)}
            self._known, self._new = still, {}
            with suppress(OSError):
                files = {name: asdict(one) for name, one in sorted(still.items())}
                write_atomic(self._path, json.dumps({"version": 1, "files": files}, indent=0))

    def _still(self, name: str, one: Receipt) -> bool:
        with suppress(OSError):
            return _look(self._repository / name, one.digest, one.boot_id, one.by) == one
        return False

    def _name(self, path: Path) -> str:
        """Return the real file behind a link, below the repository."""
        folder = self._real(path.parent)
        real = folder / path.name
        if path.is_symlink():
            # One step, as the hub's client links; whatever else it is, is resolved in full.
            step = Path(os.path.normpath(folder / path.readlink()))
            straight = self._real(step.parent) == step.parent and not step.is_symlink()
            real = step if straight else path.resolve()
        return os.path.relpath(real, self._real(self._repository))

    def _real(self, folder: Path) -> Path:
        if folder not in self._folders:
            self._folders[folder] = folder.resolve()
        return self._folders[folder]


def _look(path: Path, digest: str, boot: str, by: str) -> Receipt:
    seen = path.stat()
    return Receipt(digest, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, boot, by)


def _read(path: Path) -> dict[str, Receipt]:
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        said = json.loads(path.read_text())
        if said.get("version") == 1:
            return {str(name): Receipt(**one) for name, one in said["files"].items()}
    return {}
