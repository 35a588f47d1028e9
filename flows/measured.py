"""What earlier runs of a host measured, for its next plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.contracts import Measured, RunRecord, Unknown, VerifiedServer
from tasks.record.history import GOOD


@dataclass(frozen=True, slots=True)
class Known:
    """Footprints, oldest first; and the processes of the newest good run that still hold memory."""

    footprints: tuple[Measured, ...] = ()
    pids: frozenset[int] = frozenset()
    main_bytes: int = 0


def known(records: Sequence[RunRecord], alive: Callable[[int], bool]) -> Known:
    """Return what the records of a host tell its planner.

    Args:
        records: earlier runs, oldest first.
        alive: says whether a process runs.
    """
    good = [one for one in records if one.outcome in GOOD]
    found = [footprint for one in good for server in one.verified for footprint in _footprint(server)]
    running = [server for server in (good[-1].verified if good else ()) if alive(server.server.process.pid)]
    main = {"cpu", *(_shared_devices(good[-1]) if good else ())}
    return Known(
        footprints=tuple(found),
        pids=frozenset(server.server.process.pid for server in running),
        main_bytes=sum(_main_bytes(server, main) for server in running),
    )


def _shared_devices(record: RunRecord) -> tuple[str, ...]:
    """Return the devices of a run's plan that are main memory as well."""
    return tuple(one.device for one in record.plan.devices if one.unified) if record.plan else ()


def _footprint(server: VerifiedServer) -> tuple[Measured, ...]:
    planned = server.server.planned
    if isinstance(server.memory_bytes, Unknown) or not planned.quantisation:
        return ()
    return (
        Measured(
            model=planned.model,
            quantisation=planned.quantisation,
            runtime=planned.runtime,
            on_gpu=planned.device != "cpu",
            memory_bytes=server.memory_bytes,
            context=planned.context,
            kv_type=planned.kv_type,
            parallel=planned.parallel,
            per_s=server.texts_per_s,
        ),
    )


def _main_bytes(server: VerifiedServer, main: set[str]) -> int:
    """Return what a server holds of main memory."""
    held = server.memory_bytes
    return held if isinstance(held, int) and server.server.planned.device in main else 0
