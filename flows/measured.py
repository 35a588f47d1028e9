"""What earlier runs of a host measured, for its next plan and for the next run's comparison. Pure.

    good runs, oldest first -> a footprint a server that lay where it was planned, with its figures

A server that was kept was asked and not measured at length: its memory is new, its figures are those of the
run that measured the same server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasks.contracts import Measured, PlannedModel, Role, RunRecord, Unknown, VerifiedServer
from tasks.record.history import GOOD

Figure = Literal["tokens_per_s", "texts_per_s", "realtime"]
FIGURES: dict[Role, tuple[Figure, str]] = {
    "llm": ("tokens_per_s", "tokens/s"),
    "vision": ("tokens_per_s", "tokens/s"),
    "code": ("tokens_per_s", "tokens/s"),
    "embeddings": ("texts_per_s", "texts/s"),
    "reranker": ("texts_per_s", "docs/s"),
    "whisper": ("realtime", "x realtime"),
}
"""Which figure tells how fast a role is, and its unit."""
MAIN = "cpu"


def no_container(_name: str) -> tuple[int, ...]:
    """Return the processes of a container where no engine is asked: none."""
    return ()


@dataclass(frozen=True, slots=True)
class Known:
    """Footprints, oldest first; and the processes of the newest good run that still hold memory.

    `main_bytes` is what the servers that still run hold of main memory. What the driver says that one of
    `pids` holds of a card is ours.
    """

    footprints: tuple[Measured, ...] = ()
    pids: frozenset[int] = frozenset()
    main_bytes: int = 0


def known(
    records: Sequence[RunRecord],
    alive: Callable[[int], bool],
    container_pids: Callable[[str], tuple[int, ...]] = no_container,
) -> Known:
    """Return what the records of a host tell its planner.

    Args:
        records: earlier runs, oldest first.
        alive: says whether a process runs.
        container_pids: returns the processes of a container of ours by its name, as the engine counts them on
            the host; none when it does not run.
    """
    good = _good(records)
    newest = good[-1] if good else None
    verified = newest.verified if newest else ()
    ours = dict.fromkeys(_server(one) for one in verified if not one.server.planned.external)
    pids = {server: _pids(server, alive, container_pids) for server in ours}
    running = [one for one in verified if pids.get(_server(one))]
    main = {MAIN, *(_shared_devices(newest) if newest else ())}
    return Known(
        footprints=tuple(one.measured for one in _measurements(good)),
        pids=frozenset(pid for found in pids.values() for pid in found),
        main_bytes=_main_bytes(running, main),
    )


def earlier(records: Sequence[RunRecord], planned: PlannedModel) -> tuple[Measured, ...]:
    """Return what earlier good runs measured of a model as it is planned now, newest last.

    The same model in the same variant by the same runtime, on a device or in main memory as now. Runs that
    kept its server are left out: they measured nothing at length. Context, KV type and parallel requests may
    differ; they stand in each footprint.

    Args:
        records: earlier runs, oldest first.
        planned: the model as this run has it.
    """
    wanted = (planned.model, planned.quantisation, planned.runtime, planned.device != MAIN)
    return tuple(
        one.measured
        for one in _measurements(_good(records))
        if one.at_length
        and wanted
        == (one.measured.model, one.measured.quantisation, one.measured.runtime, one.measured.on_gpu)
    )


def figure(one: VerifiedServer) -> tuple[float, str]:
    """Return how fast a server is, and in what; 0 where it was not measured.

    Records that are older than the other figures have texts a second alone.
    """
    role = one.server.planned.role
    name, unit = FIGURES[role]
    value: float = getattr(one.performance, name)
    return value or (one.texts_per_s if name == "texts_per_s" else 0.0), unit


# --- footprints ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Measurement:
    """A footprint, and whether its figures were measured in its own run."""

    measured: Measured
    at_length: bool


def _good(records: Iterable[RunRecord]) -> list[RunRecord]:
    return [one for one in records if one.outcome in GOOD]


def _measurements(good: Iterable[RunRecord]) -> list[_Measurement]:
    """Return a footprint a server that lay where it was planned, oldest first, each with its best figures."""
    found: list[_Measurement] = []
    figures: dict[Measured, Measured] = {}
    for server in (one for record in good for one in record.verified):
        measured = _footprint(server)
        if measured is None:
            continue
        same = replace(measured, memory_bytes=0, per_s=0.0, first_token_s=0.0, load_s=0.0)
        at_length = server.server.change.kind != "keep"
        before = figures.get(same)
        if before is not None:
            measured = _with_figures(measured, before, at_length=at_length)
        figures[same] = measured
        found.append(_Measurement(measured, at_length))
    return found


def _with_figures(measured: Measured, before: Measured, *, at_length: bool) -> Measured:
    """Take what a run did not measure from the one before, and all figures where it did so in passing."""
    first, second = (measured, before) if at_length else (before, measured)
    return replace(
        measured,
        per_s=first.per_s or second.per_s,
        first_token_s=first.first_token_s or second.first_token_s,
        load_s=first.load_s or second.load_s,
    )


def _footprint(one: VerifiedServer) -> Measured | None:
    """Return what a server took and gave, or None where that would teach the planner something wrong.

    A degraded server lies elsewhere than planned: its memory is not what the plan's place needs.
    """
    planned = one.server.planned
    if isinstance(one.memory_bytes, Unknown) or not planned.quantisation or one.degraded:
        return None
    per_s, unit = figure(one)
    return Measured(
        model=planned.model,
        quantisation=planned.quantisation,
        runtime=planned.runtime,
        on_gpu=planned.device != MAIN,
        memory_bytes=one.memory_bytes,
        context=planned.context,
        kv_type=planned.kv_type,
        parallel=planned.parallel,
        per_s=per_s,
        unit=unit,
        first_token_s=one.performance.first_token_s,
        load_s=one.performance.load_s or one.server.load_s,
    )


# --- what is ours --------------------------------------------------------------------------------


def _server(one: VerifiedServer) -> tuple[str, str, int]:
    """Name the container or process behind a model; models of one server share it."""
    return one.server.name, one.server.container, one.server.process.pid


def _pids(
    server: tuple[str, str, int],
    alive: Callable[[int], bool],
    container_pids: Callable[[str], tuple[int, ...]],
) -> tuple[int, ...]:
    """Return the processes of a server that run; a container's are the engine's to tell, not the record's."""
    _, container, pid = server
    if container:
        return container_pids(container)
    return (pid,) if pid and alive(pid) else ()


def _shared_devices(record: RunRecord) -> tuple[str, ...]:
    """Return the devices of a run's plan that are main memory as well."""
    return tuple(one.device for one in record.plan.devices if one.unified) if record.plan else ()


def _main_bytes(running: Iterable[VerifiedServer], main: set[str]) -> int:
    """Return what running servers hold of main memory; of those that take turns, only the largest counts."""
    turns: dict[str, int] = {}
    total = 0
    for one in running:
        held = _held_main_bytes(one, main)
        group = one.server.planned.group
        if group:
            turns[group] = max(turns.get(group, 0), held)
        else:
            total += held
    return total + sum(turns.values())


def _held_main_bytes(one: VerifiedServer, main: set[str]) -> int:
    """Return what a server holds of main memory, wherever it was planned; as a whole in older records."""
    if one.held:
        return sum(share.memory_bytes for share in one.held if share.device in main)
    held = one.memory_bytes
    return held if isinstance(held, int) and one.server.planned.device in main else 0
