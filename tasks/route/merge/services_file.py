"""`pmoves.env`, the addresses that the services read: our block in a file that may be the operator's own."""

from __future__ import annotations

import contextlib
import glob
import os
from dataclasses import dataclass
from pathlib import Path

from tasks.effects.files import write_atomic
from tasks.errors import RouteError
from tasks.route.context import INTACT
from tasks.route.merge.env_text import Assignment, read
from tasks.route.merge.pmoves_env import merge_env, parted, unmerge_env

Values = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ServicesFile:
    """The file, where there is to be one. Its mode and owner stay as they are."""

    path: Path | None

    def text(self) -> str | None:
        """Return what it holds; None where there is none.

        Raises:
            RouteError: it cannot be read.
        """
        if self.path is None:
            return None
        try:
            return self.path.read_bytes().decode()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RouteError(f"{self.path} cannot be read ({error})", INTACT, "correct that file") from error

    def merged(self, values: Values) -> str | None:
        """Return what it is to hold: what it holds now, with these values in our block.

        Raises:
            RouteError: a line that a person wrote has one of the names.
        """
        if self.path is None:
            return None
        before = self.text()
        if not values:
            return None if before is None else unmerge_env(before) or None
        return merge_env(before or "", values, name=str(self.path))

    def tidy(self) -> None:
        """Remove what a crash left of a file that was being written."""
        if self.path is not None:
            path = self.path.resolve()
            for one in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}"):
                one.unlink(missing_ok=True)

    def put_back(self, before: str | None) -> bool:
        """Give our block the values that it had in `before`, or take it out; whether that changed anything.

        What a person wrote meanwhile stays.

        Raises:
            RouteError: a line that a person wrote meanwhile has one of the names, or damaged the block.
            RouteError: the file cannot be read or written.
        """
        now = self.text()
        values = self._ours(before)
        if self._ours(now) == values:
            return False
        hand, was = unmerge_env(now or "", name=str(self.path)), unmerge_env(before or "")
        if hand == was:
            return self.put(before)
        return self.put(hand if values is None else merge_env(hand, values, name=str(self.path)))

    def _ours(self, text: str | None) -> Values | None:
        """Return what our block in a text of this file sets; None where there is no block."""
        block = parted(text or "", str(self.path)).block
        found = (one for one in read(block) if isinstance(one, Assignment))
        return tuple((one.name, one.value) for one in found) if block else None

    def put(self, text: str | None) -> bool:
        """Give the file this content, or remove it with None; whether that changed anything.

        Raises:
            RouteError: it cannot be read or written.
        """
        if self.path is None or text == self.text():
            return False
        try:
            _write(self.path.resolve(), text)  # a link stays one
        except OSError as error:
            what = f"{self.path}, which the services read, cannot be written ({error.strerror or error})"
            then = "correct that, or name another file with PMOVES_ENV_FILE, and start the run again"
            raise RouteError(what, INTACT, then) from error
        return True


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
        return
    try:
        before = path.stat()
    except FileNotFoundError:
        write_atomic(path, text)
        return
    write_atomic(path, text, mode=before.st_mode & 0o777)
    with contextlib.suppress(PermissionError):
        os.chown(path, before.st_uid, before.st_gid)
