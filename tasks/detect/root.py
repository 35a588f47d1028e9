"""The root below which all probes read, and a note of everything that they read there.

A host that was captured is planted below another root, or held in memory, and the same code sees it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

NOT_CAPTURED = '{"unknown": "the capture does not tell what was answered"}'


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

    def asked(self, name: str, ask: Callable[[], str]) -> str:
        """Return what `ask` says, and note it; one look asks once."""
        if name not in self.answers:
            self.answers[name] = ask()
        return self.answers[name]


@dataclass(frozen=True)
class CapturedRoot(Root):
    """A root that is held in memory: it reads no disk and asks nobody.

    `held` is what a capture's files are: text, or None for "it is there". A folder is there when a path
    lies below it. `answers` is what was answered on the captured host.
    """

    held: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def here(self) -> bool:
        """Never: a captured host is not the one that runs this."""
        return False

    def text(self, name: str, *, note: bool = True) -> str:
        """Return a file's text, or an empty text when the capture has none."""
        text = self.held.get(name)
        if note and name in self.held:
            self.files[name] = text
        return text or ""

    def exists(self, name: str) -> bool:
        """Tell whether the capture names it, or something below it."""
        there = name in self.held or any(path.startswith(f"{name}/") for path in self.held)
        if there:
            self.files.setdefault(name, None)
        return there

    def names(self, folder: str, pattern: str = "*", *, note: bool = True) -> tuple[str, ...]:
        """Return the names in a folder that match, in order."""
        start = f"{folder}/"
        below = {path[len(start) :].partition("/")[0] for path in self.held if path.startswith(start)}
        found = tuple(sorted(name for name in below if fnmatchcase(name, pattern)))
        if note:
            for name in found:
                self.files.setdefault(start + name, None)
        return found

    def asked(self, name: str, ask: Callable[[], str]) -> str:  # noqa: ARG002  # it must not be asked
        """Return what was answered on the captured host; where it does not tell, that it does not."""
        return self.answers.setdefault(name, NOT_CAPTURED)
