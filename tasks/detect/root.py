"""The root below which all probes read, and a note of everything that they read there.

A host that was captured is planted below another root, and the same code sees it again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True)
class Root:
    """One root. `files` holds what was read there (None: only seen), `answers` what was asked elsewhere."""

    path: Path = Path("/")
    files: dict[str, str | None] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def here(self) -> bool:
        """Whether this is the running host's own root."""
        return self.path == Path("/")

    def text(self, name: str, *, note: bool = True) -> str:
        """Return a file's text, or an empty text when it cannot be read. A noted file is read once.

        One look sees one moment; and the kernel takes 10 ms to write /proc/cpuinfo.
        """
        known = self.files.get(name) if note else None
        if known is not None:
            return known
        try:
            text = (self.path / name).read_text(errors="replace")
        except OSError:
            return ""
        if note:
            self.files[name] = text
        return text

    def value(self, name: str) -> str:
        """Return a one-line file's text without the space around it."""
        return self.text(name).strip("\0\n ")

    def number(self, name: str) -> int | None:
        """Return the number that a file holds, if it holds one."""
        text = self.value(name)
        return int(text) if text.isdecimal() else None

    def line(self, name: str, start: str) -> str:
        """Return the first line of a long file that begins with `start`; only that line is noted."""
        for line in self.text(name, note=False).splitlines():
            if line.upper().startswith(start.upper()):
                before = self.files.get(name) or ""
                self.files[name] = before if f"{line}\n" in before else f"{before}{line}\n"
                return line
        return ""

    def exists(self, name: str) -> bool:
        """Tell whether something of that name is there."""
        try:
            there = (self.path / name).exists()
        except OSError:
            return False
        if there:
            self.files.setdefault(name, None)
        return there

    def names(self, folder: str, pattern: str = "*", *, note: bool = True) -> tuple[str, ...]:
        """Return the names in a folder that match, in order."""
        try:
            found = sorted(name for name in os.listdir(self.path / folder) if fnmatchcase(name, pattern))  # noqa: PTH208  # names are wanted
        except OSError:
            return ()
        if note:
            for name in found:
                self.files.setdefault(f"{folder}/{name}", None)
        return tuple(found)
