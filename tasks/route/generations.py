"""The configs of one gateway on the disk.

    <state>/gateway/
      generations/<name>/   tensorzero.toml and the files that it names; never changed once it has its name
      keys/<name>.env       its providers' keys, mode 0600; there only while a gateway of it may run
      proven.json           the generations that came through a rollout, the one in use first
      rollout.json          the journal of a rollout that goes on (see `journal`)
      rejected/<utc>-<hash8>/   did not load or did not answer; the newest 5 stay, for reading
      proxy/                the proxy's own

Each generation has keys of its own, so that a gateway which is restarted in the middle of a rollout finds
those that its config names. A folder is written under a name that begins with a dot; what has such a name
after a crash was never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tasks.effects.files import sync_folder, write_atomic
from tasks.route.gateways.contract import CONFIG, Generation
from tasks.route.merge.keys import write_environment

REJECTED_KEPT = 5
OLD_FILES = (CONFIG, "previous.toml", "candidate.toml")
"""What versions before the proxy kept in the folder itself; the first was in use."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A generation that came through a rollout, and what `pmoves.env` had from it."""

    name: str
    environment: tuple[tuple[str, str], ...] = ()


def digest(text: str) -> str:
    """Return the sha256 of a config."""
    return hashlib.sha256(text.encode()).hexdigest()


def current(folder: Path) -> tuple[str, str] | None:
    """Return the name and the text of the config in use, as far as the folder can tell."""
    store = Store(folder)
    for one in store.proven():
        if (text := store.text(one.name)) is not None:
            return one.name, text
    old = read_text(folder / OLD_FILES[0])
    return None if old is None else ("", old)


def active_config(folder: Path) -> str | None:
    """Return the text of the config in use."""
    found = current(folder)
    return found[1] if found else None


def generations(folder: Path) -> tuple[tuple[str, str], ...]:
    """Return names and texts of the configs that came through a rollout and are still here, newest first."""
    store = Store(folder)
    texts = ((one.name, store.text(one.name)) for one in store.proven())
    return tuple((name, text) for name, text in texts if text is not None)


@dataclass(frozen=True, slots=True)
class Store:
    """The folder, which is made when something is first written."""

    path: Path

    def name_for(self, text: str) -> str:
        """Return a name that no generation has yet; names sort by time."""
        while True:
            name = f"{datetime.now(UTC):%Y%m%dt%H%M%S%f}-{digest(text)[:8]}"
            if not self._folder(name).exists():
                return name

    def generation(self, name: str) -> Generation:
        """Return what a gateway of that name is started with."""
        text = self.text(name)
        return Generation(name, self._folder(name), digest(text or ""), self.keys(name))

    def keys(self, name: str) -> Path:
        """Return the file with its keys."""
        return self.path / "keys" / f"{name}.env"

    def text(self, name: str) -> str | None:
        """Return its config."""
        return read_text(self._folder(name) / CONFIG) if name else None

    def write(self, name: str, text: str, keys: str, copy: Callable[[Path], None]) -> Generation:
        """Write a generation as a whole; `copy` puts the files that it names into a folder."""
        folder, part = self._folder(name), self._folder(f".{name}")
        part.mkdir(parents=True)
        copy(part)
        (part / CONFIG).write_bytes(text.encode())
        _sync(part)
        self.give_keys(name, keys)
        part.rename(folder)
        sync_folder(folder.parent)
        return self.generation(name)

    def give_keys(self, name: str, keys: str) -> None:
        """Write its keys."""
        self.keys(name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_environment(self.keys(name), keys)

    def names(self) -> tuple[str, ...]:
        """Return every generation on the disk, proven or not, oldest first."""
        return tuple(one for one in _entries(self.path / "generations") if not one.startswith("."))

    def proven(self) -> tuple[Proven, ...]:
        """Return those that came through a rollout, the one in use first; none where no list can be read."""
        text = read_text(self.path / "proven.json")
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(text or "[]", type=tuple[Proven, ...])
        return ()

    def prove(self, one: Proven) -> None:
        """Note that it is in use and right."""
        others = tuple(other for other in self.proven() if other.name != one.name)
        write_atomic(self.path / "proven.json", msgspec.json.encode((one, *others)).decode())

    def disprove(self, name: str) -> None:
        """Strike it from those that were in use."""
        noted = self.proven()
        others = tuple(one for one in noted if one.name != name)
        if others != noted:
            write_atomic(self.path / "proven.json", msgspec.json.encode(others).decode())

    def same_files(self, name: str, copy: Callable[[Path], None]) -> bool:
        """Whether the files that a config names are those that lie beside it in a generation."""
        part = self._folder(f".{name}")
        _remove(part)
        part.mkdir(parents=True)
        try:
            copy(part)
            return _tree(part) == _tree(self._folder(name))
        finally:
            _remove(part)

    def reject(self, name: str) -> Path | None:
        """Keep a generation for reading only; return where. Nothing is kept where it was never whole."""
        text = self.text(name)
        if text is None:
            self.forget(name)
            return None
        kept = self._rejected(text)
        self._folder(name).rename(kept)
        self._few_rejected()
        return kept

    def reject_text(self, text: str) -> Path:
        """Keep a config that never became a generation; return where."""
        kept = self._rejected(text)
        write_atomic(kept / CONFIG, text)
        self._few_rejected()
        return kept

    def forget(self, name: str) -> None:
        """Remove a generation, its keys first."""
        self.keys(name).unlink(missing_ok=True)
        _remove(self._folder(name))
        _remove(self._folder(f".{name}"))

    def tidy(self, running: Collection[str], keep: int) -> None:
        """Keep the newest `keep` proven generations, those that run and their keys, and nothing else."""
        noted = self.proven()
        proven = tuple(one for one in noted if self._folder(one.name).is_dir())[: max(keep, 1)]
        if proven != noted:
            write_atomic(self.path / "proven.json", msgspec.json.encode(proven).decode())
        kept = {one.name for one in proven} | set(running)
        for name in set(_entries(self.path / "generations")) - kept:
            _remove(self._folder(name))
        for name in set(_entries(self.path / "keys")) - {f"{one}.env" for one in running}:
            (self.path / "keys" / name).unlink(missing_ok=True)
        for name in _entries(self.path):
            if (
                name.startswith(".") and (self.path / name).is_file()
            ):  # what a crash left of a file that was being written
                (self.path / name).unlink(missing_ok=True)

    def _folder(self, name: str) -> Path:
        return self.path / "generations" / name

    def _rejected(self, text: str) -> Path:
        kept = self.path / "rejected" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{digest(text)[:8]}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        return kept

    def _few_rejected(self) -> None:
        for name in _entries(self.path / "rejected")[:-REJECTED_KEPT]:
            old = self.path / "rejected" / name
            if old.is_dir():
                _remove(old)
            else:  # of a version that kept single files
                old.unlink(missing_ok=True)


def read_text(path: Path) -> str | None:
    """Return a text with its line ends as they are."""
    try:
        return path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir())
    except FileNotFoundError:
        return []


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _files(folder: Path) -> Iterator[Path]:
    return (one for one in sorted(folder.rglob("*")) if one.is_file())


def _tree(folder: Path) -> dict[str, bytes]:
    """Return a digest for each file below a folder, the config itself left out."""
    return {
        str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).digest()
        for one in _files(folder)
        if one != folder / CONFIG
    }


def _sync(folder: Path) -> None:
    """Make all that lies in a folder survive a power loss."""
    for one in _files(folder):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for one in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(one)
