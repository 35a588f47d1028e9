"""The files in the folder of a HAProxy, and their way back when a change of them is refused."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.effects.files import write_atomic
from tasks.errors import RouteError
from tasks.route.proxy.haproxy_config import CONFIG, INTACT, SCRIPT
from tasks.route.proxy.haproxy_targets import TARGETS, Table, parse

KEPT = (CONFIG, SCRIPT, TARGETS)


@dataclass(frozen=True, slots=True)
class Files:
    """What lies in the folder."""

    folder: Path

    def table(self) -> Table:
        """Return where a HAProxy that starts now would send requests; the empty table where none."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return parse((self.folder / TARGETS).read_text())
        return Table()

    def write(self, name: str, text: str) -> None:
        """Write a file that has another text."""
        path = self.folder / name
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.read_text() == text:
                return
        write_atomic(path, text, mode=0o600)

    def saved(self) -> dict[str, bytes | None]:
        """Return all of them as they are, for `put_back`."""
        return {name: _content(self.folder / name) for name in KEPT}

    def put_back(self, files: Mapping[str, bytes | None]) -> None:
        """Let them be as they were."""
        for name, content in files.items():
            if content is None:
                (self.folder / name).unlink(missing_ok=True)
            else:
                self.write(name, content.decode(errors="replace"))


def script() -> str:
    """Return the text of haproxy.lua."""
    return Path(__file__).with_name(SCRIPT).read_text()


def digest(certificate: Path) -> str:
    """Return a digest of a certificate's file.

    Raises:
        RouteError: it cannot be read.
    """
    try:
        return hashlib.sha256(certificate.read_bytes()).hexdigest()
    except OSError as error:
        raise RouteError(
            f"the certificate {certificate} cannot be read ({error.strerror})",
            INTACT,
            "name a PEM file with certificate and key",
        ) from error


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
