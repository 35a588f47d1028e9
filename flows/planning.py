"""What the planner needs from outside, gathered: the same for a run and for `pmoves plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from flows.measured import Known, known
from flows.settings import Settings
from flows.settings_gateway import refuse_unknown
from flows.wants import Wants, parse_size
from tasks import catalogue
from tasks.contracts import Catalogue, HostFacts, Plan, RunRecord, RuntimeName, RuntimeOffer, StoreView
from tasks.effects.pids import alive
from tasks.plan.choose import Request, make_plan
from tasks.plan.offers import offers
from tasks.plan.request import parse_overrides
from tasks.wording import listed

if TYPE_CHECKING:
    from tasks.detect.look import Where

OWN_APP = "Ollama's own app runs there, because no container gets its GPU"
ANSWERING = "a container engine, the Hugging Face Hub and the Ollama library answer there"


def where(settings: Settings) -> Where:
    """Return where detection looks."""
    from tasks.detect.look import Where  # noqa: PLC0415  # a host that is not here is not looked at

    return Where(
        host=settings.host,
        hostname=settings.hostname,
        state=settings.state,
        store=settings.store,
        engine=settings.engine,
        hub=settings.hub,
        ollama_library=settings.ollama_library,
        ollama=settings.ollama,
        proxies=settings.proxies,
    )


def shelf(settings: Settings) -> Catalogue:
    """Return the shipped catalogue; it is parsed once for each version of its files."""
    return catalogue.load_cached(settings.profiles, settings.state / "catalogue.cache")


def past(settings: Settings) -> tuple[RunRecord, ...]:
    """Return the earlier runs of this host, oldest first."""
    from tasks.record import history  # noqa: PLC0415  # a host that is not here has no past

    return history.read(history.journal(settings.state, settings.host)).records


def planned(
    settings: Settings,
    facts: HostFacts,
    wants: Wants,
    *,
    records: Sequence[RunRecord] = (),
    everything: bool = False,
) -> Plan:
    """Plan this host with the shipped catalogue.

    Args:
        settings: where everything is.
        facts: what was seen of this host.
        wants: what was asked for.
        records: earlier runs of this host: what they measured replaces estimates.
        everything: plan as if a container engine answered.
    """
    models = shelf(settings)
    there = answering(facts) if everything else facts
    offered = offers(there, ollama=settings.ollama_mode)
    request = asked(settings, wants, models, past_of_host=_known(settings, records))
    view = cache_view(settings, models, offered)
    plan = make_plan(there, models, offers=offered, store=view, request=request)
    return replace(
        plan,
        warnings=(*plan.warnings, *settings.gateway.bad_keys),
        assumed=(ANSWERING,) if everything else plan.assumed,
    )


def _known(settings: Settings, records: Sequence[RunRecord]) -> Known:
    """Return what earlier runs tell; the engine is asked about containers where there were some."""
    if not any(one.server.container for record in records for one in record.verified):
        return known(records, alive)
    from flows.running import container_pids  # noqa: PLC0415  # the engine's client

    return known(records, alive, container_pids(settings))


def simulated(settings: Settings, facts: HostFacts, wants: Wants, *, assumed: Sequence[str]) -> Plan:
    """Plan a host that is not here, with every runtime that its hardware can use and an empty store."""
    models = shelf(settings)
    # What runs on this machine does not run there.
    request = replace(asked(settings, wants, models, past_of_host=Known()), external=())
    view, there = StoreView("its store", {}), answering(facts)
    plan = make_plan(there, models, offers=offers(there), store=view, request=request)
    app = (OWN_APP,) if any(one.external for one in plan.models) else ()
    return replace(plan, assumed=(*assumed, *app, *clouds(plan, request)))


def clouds(plan: Plan, request: Request) -> tuple[str, ...]:
    """Say which keys of this machine a plan for another one rests on."""
    tiers = {tier.name for route in plan.routes for tier in (*route.tiers, *route.complex_tiers)}
    used = [name for name in request.cloud if name in tiers]
    return (f"the keys that are set here are set there ({listed(used)})",) if used else ()


def answering(facts: HostFacts) -> HostFacts:
    """Return the facts of a host as if all that it needs from outside answered."""
    return replace(
        facts,
        container_engine=replace(facts.container_engine, answers=True),
        hub=replace(facts.hub, answers=True),
        ollama_library=replace(facts.ollama_library, answers=True),
    )


def asked(settings: Settings, wants: Wants, models: Catalogue, *, past_of_host: Known) -> Request:
    """Read what was asked for, and add what is known of this host beside its facts.

    Raises:
        SettingsError: PMOVES_CLOUD names a function that no service has.
        UsageError: an override or a cap cannot be used.
    """
    functions = {use.function for one in models.services.values() for use in one.uses if use.function}
    refuse_unknown(settings.gateway, functions)
    return Request(
        profile=wants.profile,
        strict=wants.strict,
        first_port=settings.model_port,
        accept_risk=wants.accept_risk,
        overrides=parse_overrides(wants.overrides, models),
        vram_bytes=parse_size(wants.vram, "the cap of each card"),
        ram_bytes=parse_size(wants.ram, "the cap of main memory"),
        cloud=settings.cloud,
        hub_token=settings.hub_token is not None,
        own_pids=past_of_host.pids,
        own_bytes=past_of_host.main_bytes,
        measured=past_of_host.footprints,
        external=settings.external,
        may_leave=settings.gateway.may_leave,
    )


def cache_view(
    settings: Settings, models: Catalogue, offered: Mapping[RuntimeName, RuntimeOffer]
) -> StoreView:
    """Return what the weight store already holds of the models that can be served here.

    Every file is hashed, so variants that no runtime here can serve are left out.
    """
    from tasks.pull import store  # noqa: PLC0415  # a host that is not here has no store
    from tasks.pull.claim import store_errors  # noqa: PLC0415  # the same

    usable = [
        msgspec.structs.replace(
            model,
            variants=tuple(
                one
                for one in model.variants
                if any(name in offered and offered[name].available for name in one.runtimes)
            ),
        )
        for model in models.models.values()
    ]
    with store_errors(settings.store, 0):
        return store.view(settings.store, usable)
