"""Routes of real plans, and the verified servers that would be behind them; clouds on loopback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from flows.planning import answering
from tasks.contracts import (
    Change,
    ModelServer,
    Performance,
    Plan,
    PlannedModel,
    ProcessState,
    Routing,
    StoreView,
    VerifiedServer,
)
from tasks.detect.replay import read_case, replay
from tasks.plan.choose import make_plan
from tasks.plan.offers import offers
from tasks.plan.request import Request
from tests.lab.bundles import SHIPPED

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
PROMPT_PACE = 20
"""How much faster than it writes a made-up server reads."""


def plan_of(host: str, profile: str, cloud: tuple[str, ...], may_leave: frozenset[str] | None = None) -> Plan:
    """Plan a captured host with the shipped catalogue and some keys."""
    facts = answering(replay(read_case(HOSTS / f"{host}.json"), host=host))
    request = Request(profile, accept_risk=profile != "auto", cloud=cloud, may_leave=may_leave)
    return make_plan(facts, SHIPPED, offers=offers(facts), store=StoreView("/store", {}), request=request)


def servers_of(plan: Plan) -> tuple[VerifiedServer, ...]:
    """Return every server of a plan as one that was verified, as fast as it is planned."""
    return tuple(_verified(one) for one in plan.models)


def _verified(planned: PlannedModel) -> VerifiedServer:
    process = ProcessState(
        planned.server, running=True, state="running", pid=1, started_at=0, spec_hash="", log=""
    )
    base_url = f"http://127.0.0.1:{planned.port}/v1"
    change = Change(planned.model, "keep", "it runs")
    server = ModelServer(planned, planned.server, base_url, process, change, 0.1, load_s=5.0)
    pace = planned.speed.per_s if planned.speed else 0.0
    found = Performance(
        first_token_s=0.2,
        tokens_per_s=pace,
        prompt_tokens_per_s=PROMPT_PACE * pace,
        load_s=5.0,
        context=planned.context,
    )
    return VerifiedServer(server, (), 0.2, texts_per_s=100.0, memory_bytes=1, performance=found)


def loopback(routing: Routing, addresses: Mapping[str, str]) -> Routing:
    """Return the clouds as servers on loopback that speak as OpenAI does, at an address for each provider."""
    return msgspec.structs.replace(
        routing,
        providers=tuple(
            msgspec.structs.replace(one, type="openai", api_base=addresses[one.name] + "/")
            for one in routing.providers
            if one.name in addresses
        ),
    )


def slower(server: VerifiedServer, factor: float) -> VerifiedServer:
    """Return a server that was measured so many times as slow."""
    found = server.performance
    return replace(
        server,
        performance=replace(
            found,
            first_token_s=found.first_token_s * factor,
            tokens_per_s=found.tokens_per_s / factor,
            prompt_tokens_per_s=found.prompt_tokens_per_s / factor,
            load_s=found.load_s * factor,
        ),
    )
