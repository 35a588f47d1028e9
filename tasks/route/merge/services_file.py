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
from tasks.route.merge.pmoves_env import merge_env, unmerge_env

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

    def put(self, text: str | None) -> bool:
        """Give the file this content, or remove it with None; whether that changed anything."""
        if self.path is None or text == self.text():
            return False
        path = self.path.resolve()  # a link stays one
        if text is None:
            path.unlink(missing_ok=True)
            return True
        try:
            before = path.stat()
        except FileNotFoundError:
            write_atomic(path, text)
            return True
        write_atomic(path, text, mode=before.st_mode & 0o777)
        with contextlib.suppress(PermissionError):
            os.chown(path, before.st_uid, before.st_gid)
        return True
