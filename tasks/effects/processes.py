"""Local processes that stay up: the seam to supervisord.

Supervisord (one per state folder) restarts what dies, rotates logs, and stops everything by pid.

    <state>/supervisor/
      supervisord.conf      written here; names the socket, the log and the folder of programs
      supervisord.pid       its own pid
      programs/<name>.conf  one program each; its first line holds the hash of the wanted spec
      logs/<name>.log       what the program printed, 3 x 5 MiB
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Protocol

from tasks.contracts import ProcessSpec, ProcessState


class Supervisor(Protocol):
    """What keeps processes running. One real implementation, and one in memory for tests."""

    def states(self) -> dict[str, ProcessState]:
        """Return every process it knows, by name."""

    def start(self, spec: ProcessSpec) -> ProcessState:
        """Start `spec`, in place of a process of the same name, and return once it runs.

        Raises:
            ServeError: it ended at once; the error holds the last lines of its log.
        """

    def stop(self, name: str) -> None:
        """Stop a process and forget it. Nothing happens when the name is not known."""

    def signal(self, name: str, signal: str) -> None:
        """Send a signal ("HUP", "TERM", "KILL") to a process."""

    def log_tail(self, name: str, lines: int = 5) -> str:
        """Return the last lines that a process printed, joined with " | "."""


def spec_hash(spec: ProcessSpec) -> str:
    """Return a digest of everything that is wanted of a process; equal specs have equal digests."""
    return hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()
