"""What the planner needs from outside, gathered: the same for a run and for `pmoves plan`."""

from __future__ import annotations

from collections.abc import Mapping

from flows.settings import Settings
from tasks import catalogue
from tasks.contracts import Catalogue, HostFacts, Plan, RuntimeName, RuntimeOffer, StoreView
from tasks.detect.look import Where
from tasks.plan.choose import Request, make_plan
from tasks.pull import store
from tasks.pull.claim import store_errors
from tasks.serve import runtimes


def where(settings: Settings) -> Where:
    """Return where detection looks."""
    return Where(
        host=settings.host,
        hostname=settings.hostname,
        state=settings.state,
        store=settings.store,
        engine=settings.engine,
        hub=settings.hub,
        ollama_library=settings.ollama_library,
        proxies=settings.proxies,
    )


def cache_view(
    settings: Settings, shelf: Catalogue, offered: Mapping[RuntimeName, RuntimeOffer]
) -> StoreView:
    """Return what the weight store already holds of the models that can be served here.

    Every file is hashed, so models that no runtime here can serve are left out.
    """
    usable = [
        model
        for model in shelf.models.values()
        if any(name in offered and offered[name].available for name in model.runtimes)
    ]
    with store_errors(settings.store, 0):
        return store.view(settings.store, usable)


def planned(settings: Settings, facts: HostFacts, request: Request) -> Plan:
    """Plan this host with the shipped catalogue."""
    shelf = catalogue.load(catalogue.DEFAULT)
    offered = offers(facts)
    view = cache_view(settings, shelf, offered)
    return make_plan(facts, shelf, offers=offered, store=view, request=request)


def offers(facts: HostFacts) -> Mapping[RuntimeName, RuntimeOffer]:
    """Return which runtimes can be used on this host."""
    return {offer.name: offer for offer in runtimes.offers(facts)}
