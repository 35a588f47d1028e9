"""Ports that a run needs, and who has them."""

from __future__ import annotations

from flows.servers import front, process_ports
from flows.settings import Settings
from tasks.contracts import Plan
from tasks.effects.front.control import NAME as FRONT
from tasks.effects.network import listener
from tasks.effects.supervisord import Supervisord
from tasks.errors import PortTakenError


def refuse_foreign_ports(plan: Plan, settings: Settings, supervisor: Supervisord) -> None:
    """Refuse, before byte one, a port of a model that somebody else listens on.

    Raises:
        PortTakenError: a port of the plan is taken, and not by a process of ours.
    """
    ours = {name for name, state in supervisor.states().items() if state.running}
    moving = {port for name, port in process_ports(supervisor.snapshot() or {}).items() if name in ours}
    fronted = (
        {one.port for one in front(settings, supervisor).backends().values()} if FRONT in ours else set()
    )
    wanted = [(f"model-{one.model}", one.port) for one in plan.models if not one.external]
    for name, port in wanted:
        if name not in ours and port not in fronted | moving and listener(port):
            raise taken(name, port, "PMOVES_MODEL_PORT")


def taken(name: str, port: int, variable: str) -> PortTakenError:
    """Return the refusal of a port that somebody else has."""
    return PortTakenError(
        f"port {port} on 127.0.0.1, planned for {name}, is taken by another program",
        "nothing was downloaded or started",
        f"free it (`ss -ltnp 'sport = :{port}'` shows who holds it) or set {variable}",
    )
