"""Looks at a store all the time: whatever appears below `snapshots/` must be right from its first moment."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from pathlib import Path
from typing import Self

LOOK_S = 0.002
_ON_ITS_WAY = re.compile(r"^\.(.+)\.[0-9a-f]{8}$")


class Watch:
    """Hashes each file that can be seen, again whenever it changed. Use as a context manager."""

    def __init__(self, store: Path, sha256: dict[str, str]) -> None:
        self.faults: list[str] = []
        self.seen = 0
        self._store, self._sha256 = store, sha256
        self._known: dict[str, tuple[int, ...]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.wait(LOOK_S):
                self.look()
        except Exception as error:  # noqa: BLE001  # a watch that ended early saw nothing
            self.faults.append(f"the watch ended: {error!r}")

    def look(self) -> None:
        """Look once."""
        for folder in self._store.glob("models--*/snapshots"):
            for where, _folders, names in os.walk(folder):
                for name in names:
                    self._check(Path(where, name))

    def _check(self, path: Path) -> None:
        plain = _ON_ITS_WAY.sub(r"\1", path.name)
        name = str(path.with_name(plain).relative_to(self._store))
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                look = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                if self._known.get(name) == look:
                    return
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            if path.is_symlink():
                self.faults.append(f"{name} was a link to nothing")
            return
        self.seen += 1
        self._known[name] = look
        if sha256 != self._sha256.get(name, ""):
            self.faults.append(f"{name} was seen with sha256 {sha256}, {stat.st_size} bytes")
