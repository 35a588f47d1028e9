"""ModelServer -> VerifiedServer: ready, listed, right, where it should be, and as good as before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.contracts import (
    Accelerator,
    Answer,
    Measured,
    ModelServer,
    Performance,
    Sink,
    Unknown,
    VerifiedServer,
    silent,
)
from tasks.effects.http import Http
from tasks.effects.resident import resident_bytes
from tasks.verify import compare, deadlines, probe_files
from tasks.verify.asking import Asked, Found
from tasks.verify.kinds import KINDS
from tasks.verify.probe_shapes import ProbeFile
from tasks.verify.ready import listed, wait_until_ready
from tasks.verify.where import placed
from tasks.verify.where.look import Look, Placed
from tasks.wording import gib


def _no_devices() -> Unknown:
    return Unknown("the devices were not looked at")


@dataclass(frozen=True, slots=True)
class VerifyContext:
    """What verifying needs from outside.

    `deadline_s` is for waiting and for all questions together; None lets it grow with the model. `light`
    leaves the measuring out: speed then comes from the questions themselves. `health_path` replaces the
    runtime's own. `progress` is a number that changes while the server does anything. `devices` looks at all
    accelerators now; `pids` are those of the server, as the host counts them; `log` is what it printed since
    it started. `earlier` are measures of this host, oldest first. `misplaced` says what happens when a model
    does not lie where it is planned; see `Limits`.
    """

    http: Http
    deadline_s: float | None = None
    light: bool = False
    health_path: str = ""
    memory: Callable[[int], int | Unknown] = resident_bytes
    stop: threading.Event | None = None
    sink: Sink = silent
    progress: Callable[[], float] | None = None
    devices: Callable[[], tuple[Accelerator, ...] | Unknown] = _no_devices
    pids: Callable[[], tuple[int, ...]] = tuple
    log: Callable[[], str] = str
    earlier: tuple[Measured, ...] = ()
    misplaced: Literal["refuse", "degrade"] = "refuse"
    probes: Path = probe_files.DEFAULT


def verify(server: ModelServer, ctx: VerifyContext) -> VerifiedServer:
    """Return the server as verified: it is ready, lists its model, answers right, and lies where it should.

    Raises:
        VerifyError: it answers wrongly, too late or not at all, lies elsewhere, or a role has no questions.
        StoppedError: the run was asked to stop.
        CatalogueError: a file of questions is wrong.
    """
    total_s = deadlines.deadline_for(server.planned) if ctx.deadline_s is None else ctx.deadline_s
    asked = Asked(
        server,
        ctx.http,
        time.monotonic() + total_s,
        light=ctx.light,
        stop=ctx.stop,
        sink=ctx.sink,
        folder=ctx.probes,
        loading=deadlines.load_s(server.planned),
    )
    questions = _questions(asked)
    ready_s = deadlines.load_s(server.planned) if ctx.deadline_s is None else ctx.deadline_s
    wait_until_ready(asked, ready_s, health_path=ctx.health_path, progress=ctx.progress)
    answers = list(asked.check([listed(asked)]))
    found = [one for probes in questions for one in _ask(probes, asked)]
    answers += [answer for one in found for answer in one.answers]
    place = placed(Look(asked, ctx.devices, ctx.pids, ctx.log, ctx.memory))
    if place.wrong and ctx.misplaced == "refuse":
        raise asked.error(place.wrong)
    return _verified(asked, tuple(answers), found, place, ctx)


def _questions(asked: Asked) -> tuple[ProbeFile, ...]:
    """Return the questions for every role of the model."""
    files = probe_files.load(asked.folder)
    found = []
    for role, probes in probe_files.questions(asked.planned, files):
        if probes is None:
            known = ", ".join(dict.fromkeys(one.role for one in files))
            raise asked.error(f"has the role {role}, for which there are no questions (only for {known})")
        found.append(probes)
    return tuple(found)


def _ask(probes: ProbeFile, asked: Asked) -> list[Found]:
    found = (kind(probes, asked) for kind in KINDS)
    return [one for one in found if one is not None]


def _verified(
    asked: Asked, answers: tuple[Answer, ...], found: list[Found], place: Placed, ctx: VerifyContext
) -> VerifiedServer:
    measured = _together(asked.server, found)
    worse = () if ctx.light else compare.findings(asked.planned, measured, place.memory_bytes, ctx.earlier)
    made = VerifiedServer(
        server=asked.server,
        answers=answers,
        latency_s=next((one.latency_s for one in found if one.latency_s), 0.0),
        texts_per_s=measured.texts_per_s,
        memory_bytes=place.memory_bytes,
        performance=measured,
        held=place.held,
        findings=(*(one for each in found for one in each.findings), *place.findings, *worse),
        degraded=place.wrong,
    )
    asked.say(_summary(made))
    return made


def _together(server: ModelServer, found: list[Found]) -> Performance:
    """Return all figures: of each, the first that a kind of questions has."""

    def first(name: str) -> float:
        return next((value for one in found if (value := float(getattr(one.performance, name)))), 0.0)

    return Performance(
        first_token_s=first("first_token_s"),
        tokens_per_s=first("tokens_per_s"),
        prompt_tokens_per_s=first("prompt_tokens_per_s"),
        texts_per_s=first("texts_per_s"),
        realtime=first("realtime"),
        load_s=server.load_s,
        context=int(first("context")),
    )


def _summary(made: VerifiedServer) -> str:
    per_s, unit = compare.pace(made.performance)
    parts = [f"{len(made.answers)} right answers"]
    if made.latency_s:
        parts.append(f"the first after {made.latency_s * 1000:.0f} ms")
    if per_s:
        parts.append(f"{per_s:.3g} {unit}")
    if isinstance(made.memory_bytes, int):
        parts.append(f"{gib(made.memory_bytes)} of memory")
    return ", ".join([*parts, *((f"degraded: {made.degraded}",) if made.degraded else ())])
