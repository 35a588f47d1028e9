"""What a running HAProxy is asked and told, over its two sockets.

admin.sock    the process that takes requests now
master.sock   its parent: reloads, and the way to processes of before that end their last requests

Commands: docs.haproxy.org/2.6/management.html, sections 9.3 and 9.4.
"""

from __future__ import annotations

import csv
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from tasks.route.proxy.contract import Count
from tasks.route.proxy.haproxy_config import ADMIN, COUNTS, MASTER
from tasks.route.proxy.haproxy_targets import SLOTS, TARGETS, Table, parse_map

TIMEOUT_S = 5.0
VERSION = re.compile(r"New version created: (\d+)")
PID = re.compile(r"^Pid: (\d+)$", re.MULTILINE)
DESCRIPTION = re.compile(r"^description: (.*)$", re.MULTILINE)
COUNT = re.compile(r"([^|]+)\|([^|]*)\|([^|]*)\|([^|]*)\|(\d+) (\d+)")


class SilentError(Exception):
    """Raised when no HAProxy answers, or it says what it should not; its text is one clause."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets in the folder of a proxy."""

    folder: Path

    def mark(self) -> str:
        """Return which config runs (`haproxy_config.mark`); "" where nobody answers."""
        return self._who()[1]

    def table(self, worker: str = "") -> Table:
        """Return where requests go in truth."""
        return parse_map(self.ask(f"show map {TARGETS}", worker))

    def use(self, table: Table) -> None:
        """Replace the whole table in one step, and ask whether that came true.

        Raises:
            SilentError: it did not.
        """
        found = VERSION.search(self.ask(f"prepare map {TARGETS}"))
        if not found:
            raise SilentError("it does not take a new table")
        self.ask(f"add map @{found[1]} {TARGETS} <<\n{table.render()}")
        self.ask(f"commit map @{found[1]} {TARGETS}")
        if (now := self.table()) != table:
            raise SilentError(f"it goes on with {now.target.name if now.target else 'no target'}")

    def goes_by(self, table: Table) -> bool:
        """Whether a process that will stay goes by a table.

        After its parent was killed, a process answers for a moment, beside one that may have begun with
        another table. So the process is asked who it is, before and after.
        """
        before, found, after = self._who(), self.table(), self._who()
        return before == after and before[0] != "" and found == table

    def in_flight(self, worker: str = "") -> dict[str, int]:
        """Return how many requests are in flight in each slot. Idle connections of clients do not count."""
        rows = csv.DictReader(self.ask("show stat", worker).lstrip("# ").splitlines())
        found = {row["pxname"]: int(row["scur"]) for row in rows if row.get("svname") == "BACKEND"}
        if missing := [slot for slot in SLOTS if slot not in found]:
            raise SilentError(f"it does not know {missing[0]}")
        return {slot: found[slot] for slot in SLOTS}

    def in_flight_at(self, name: str) -> int:
        """Return how many requests are in flight at a target, those in processes of before included."""
        return sum(
            count
            for worker in ("", *self.old_workers())
            for table in (self.table(worker),)
            for slot, count in self.in_flight(worker).items()
            if slot in table.targets and table.targets[slot].name == name
        )

    def old_workers(self) -> tuple[str, ...]:
        """Return the pids of processes that a reload left behind for their last requests."""
        return _workers(self.master("show proc").partition("# old workers")[2])

    def failed_reloads(self) -> int:
        """Return how many reloads in a row did not work."""
        found = re.search(r"\[failed: (\d+)\]", self.master("show proc"))
        return int(found[1]) if found else 0

    def counts(self) -> tuple[Count, ...]:
        """Return what was counted."""
        return parse_counts(self.ask(COUNTS))

    def _who(self) -> tuple[str, str]:
        """Return pid and mark of the process that answers, where its parent knows it."""
        try:
            said = self.ask("show info")
            pid, mark = PID.search(said), DESCRIPTION.search(said)
            if pid and mark and pid[1] in _workers(self.master("show proc")):
                return pid[1], mark[1]
        except SilentError:
            pass
        return "", ""

    def ask(self, command: str, worker: str = "") -> str:
        """Ask the process that takes requests, or one of before by its pid."""
        if worker:
            return self.master(f"@!{worker} {command}")
        return _spoken(self.folder, ADMIN, command)

    def master(self, command: str) -> str:
        """Ask the parent."""
        return _spoken(self.folder, MASTER, command)


def parse_counts(text: str) -> tuple[Count, ...]:
    """Read what `show pmoves-counts` prints; other lines are passed over."""
    found = (COUNT.fullmatch(line) for line in text.splitlines())
    return tuple(
        Count(one[1], one[2], one[3], one[4], status=int(one[5]), requests=int(one[6]))
        for one in found
        if one
    )


def _workers(text: str) -> tuple[str, ...]:
    rows = (line.split() for line in text.splitlines())
    return tuple(row[0] for row in rows if len(row) > 1 and row[1] == "worker")


def _spoken(folder: Path, name: str, command: str) -> str:
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise SilentError(error.strerror or str(error)) from None
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(TIMEOUT_S)
            # A socket's path holds at most 107 bytes on Linux (unix(7)), and this one fits.
            made.connect(f"/proc/self/fd/{descriptor}/{name}")
            made.sendall(f"{command}\n".encode())
            made.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: made.recv(1 << 16), b"")).decode(errors="replace")
    except TimeoutError:
        raise SilentError(f"its {name} is silent for {TIMEOUT_S:g} s") from None
    except OSError as error:
        raise SilentError(error.strerror or str(error)) from None
    finally:
        os.close(descriptor)
