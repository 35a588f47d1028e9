"""Which target is in which slot, and which slot gets new requests. Pure.

The table is a file with one entry a line, which HAProxy reads when it starts, and a map in its memory:

    active slot2
    slot1 2026-11-25T17-02-11/40001
    slot2 2026-11-25T19-30-00/40002
    slot3 -/0

A slot is a backend of HAProxy; it is given to another target when nothing is in flight there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.errors import RouteError
from tasks.route.proxy.contract import Target

TARGETS = "targets.map"
ACTIVE = "active"
SLOTS = ("slot1", "slot2", "slot3", "slot4")
NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:@+-]{0,127}")
HIGHEST_PORT = 65535
FREE = "-/0"


@dataclass(frozen=True, slots=True)
class Table:
    """Targets by slot, and the active slot; "" where none is."""

    active: str = ""
    targets: Mapping[str, Target] = field(default_factory=dict)

    @property
    def target(self) -> Target | None:
        """The target that gets new requests."""
        return self.targets.get(self.active)

    def render(self) -> str:
        """Return the table as text; equal tables are equal texts."""
        return "".join(f"{key} {value}\n" for key, value in self._rows())

    def slot_of(self, target: Target) -> str:
        """Return the slot that a target has, "" where it has none."""
        return next((slot for slot, one in self.targets.items() if one == target), "")

    def slot_for(self, target: Target, in_flight: Mapping[str, int]) -> str:
        """Return the slot that a target has or is to get, "" where every other one has requests in flight.

        A slot that was never used comes first, and then one of those whose target has ended its requests.
        """
        if mine := self.slot_of(target):
            return mine
        idle = [slot for slot in SLOTS if slot != self.active and in_flight.get(slot, 0) == 0]
        # A target of the same name on another port is a gateway that was started anew.
        again = [slot for slot in idle if slot in self.targets and self.targets[slot].name == target.name]
        return next(iter((*again, *(slot for slot in idle if slot not in self.targets), *idle)), "")

    def pointed(self, slot: str, target: Target) -> Table:
        """Return the table after `target` took the slot and gets new requests."""
        return Table(slot, {**self.targets, slot: target})

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(ACTIVE, self.active or "none")]
        for slot in SLOTS:
            target = self.targets.get(slot)
            rows.append((slot, f"{target.name}/{target.port}" if target else FREE))
        return rows


def parse(text: str) -> Table:
    """Read a table; other lines are passed over, and an active slot without a target is none."""
    rows = dict(line.split(" ", 1) for line in text.splitlines() if line.count(" ") == 1)
    targets = {slot: found for slot in SLOTS if (found := _target(rows.get(slot, "")))}
    active = rows.get(ACTIVE, "")
    return Table(active if active in targets else "", targets)


def parse_map(text: str) -> Table:
    """Read what `show map` prints: each line of the table behind an address."""
    return parse("\n".join(line.partition(" ")[2] for line in text.splitlines()))


def refuse_wrong(target: Target) -> None:
    """Refuse a target that cannot be written down.

    Raises:
        RouteError: its name or its port.
    """
    if not NAME.fullmatch(target.name) or not 0 < target.port <= HIGHEST_PORT:
        raise RouteError(
            f"the proxy cannot be pointed to {target.name!r} on port {target.port}",
            "it is as it was",
            "report this: names of gateways are made by this program",
        )


def _target(row: str) -> Target | None:
    name, slash, port = row.rpartition("/")
    if not slash or not NAME.fullmatch(name) or not port.isdecimal() or not 0 < int(port) <= HIGHEST_PORT:
        return None
    return Target(name, int(port))
