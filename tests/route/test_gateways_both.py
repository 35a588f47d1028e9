"""Gateways of two kinds on one host: an engine came, or went, since the gateway in use was started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.contracts import ProcessState
from tasks.errors import RouteError
from tasks.route.gateways.both import BothGateways
from tasks.route.gateways.contract import Generation, Instance


@dataclass
class Some:
    """Gateways of one kind, by generation. `away` lets every call that looks or ends fail."""

    kind: str
    there: list[str] = field(default_factory=list)
    away: bool = False
    did: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Note it."""
        self.did.append("prepare")

    def instances(self) -> tuple[Instance, ...]:
        """Return what runs."""
        self._answer()
        process = ProcessState(self.kind, running=True, state="", pid=1, started_at=0, spec_hash="", log="")
        return tuple(Instance(name, 1, process) for name in self.there)

    def start(self, generation: Generation, *, deadline_s: float) -> Instance:  # noqa: ARG002  # in memory
        """Start one."""
        self._answer()
        self.there.append(generation.name)
        return self.instances()[-1]

    def stop(self, generation: str) -> None:
        """End one."""
        self._answer()
        self.did.append(f"stop {generation}")
        self.there = [name for name in self.there if name != generation]

    def log_tail(self, generation: str) -> str:
        """Say which kind was asked."""
        return f"{self.kind} of {generation}"

    def _answer(self) -> None:
        if self.away:
            raise RouteError("the engine is away", "all is as it was", "start it")


def generation(name: str) -> Generation:
    """Return a generation of which only the name counts."""
    return Generation(name, Path("/none"), "", Path("/none"))


def kinds(both: BothGateways) -> dict[str, str]:
    """Return the kind of each gateway that is found."""
    return {one.generation: one.process.name for one in both.instances()}


def test_the_gateway_in_use_is_found_whatever_its_kind() -> None:
    """So that it answers until the next rollout has switched, and is ended then."""
    boxes, wheel = Some("container"), Some("wheel", ["g1"])
    both = BothGateways(boxes, wheel)
    both.prepare()
    both.start(generation("g2"), deadline_s=1)

    assert both.kind == "container"
    assert kinds(both) == {"g1": "wheel", "g2": "container"}
    assert (both.log_tail("g1"), both.log_tail("g2")) == ("wheel of g1", "container of g2")
    both.stop("g1")
    assert kinds(both) == {"g2": "container"}
    assert boxes.did == ["prepare", "stop g1"]
    assert wheel.did == ["stop g1"]


def test_a_generation_is_never_served_twice() -> None:
    """One that is started anew in the other kind takes the place of the first."""
    boxes, wheel = Some("container"), Some("wheel", ["g1"])
    both = BothGateways(boxes, wheel)

    both.start(generation("g1"), deadline_s=1)

    assert kinds(both) == {"g1": "container"}
    assert wheel.there == []


def test_an_engine_that_is_away_has_no_gateway_that_runs() -> None:
    """The wheel takes over, and nobody waits for the engine; where containers are wanted, that is said."""
    boxes, wheel = Some("container", ["g1"], away=True), Some("wheel")
    both = BothGateways(wheel, boxes)

    both.start(generation("g2"), deadline_s=1)
    both.stop("g1")

    assert kinds(both) == {"g2": "wheel"}
    with pytest.raises(RouteError, match="the engine is away"):
        BothGateways(boxes, wheel).instances()
