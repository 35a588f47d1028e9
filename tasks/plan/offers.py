"""HostFacts -> which runtimes can be used on a host now, and why the others cannot. Pure.

embedded   a process of this program
ollama     a container, or an Ollama that already runs and is not ours
the rest   containers
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tasks.contracts import HostFacts, RuntimeName, RuntimeOffer, Unknown
from tasks.plan.request import OllamaMode
from tasks.plan.support import BY_NAME, CONTAINERS


def offers(facts: HostFacts, *, ollama: OllamaMode = "auto") -> Mapping[RuntimeName, RuntimeOffer]:
    """Return an offer of every runtime; whether the hardware can use it is said place by place.

    Args:
        facts: the host.
        ollama: which Ollama: a container of ours, one that already runs, or what there is. `auto` takes a
            container where an engine answers, but on a Mac the one that runs: no container gets its GPU.
    """
    return {one.name: one for one in _all(facts, ollama)}


def _all(facts: HostFacts, ollama: OllamaMode) -> Iterator[RuntimeOffer]:
    architecture = facts.system.architecture
    here = architecture in BY_NAME["embedded"].architectures
    why = "" if here else f"its engine is not built for {architecture}"
    yield RuntimeOffer("embedded", available=here, reason=why)
    engine = facts.container_engine
    silent = "" if engine.answers else f"no container engine answers ({engine.detail})"
    for name in CONTAINERS:
        if name == "ollama":
            yield _ollama(facts, ollama, silent)
        else:
            yield RuntimeOffer(name, available=engine.answers, reason=silent)


def _ollama(facts: HostFacts, mode: OllamaMode, silent: str) -> RuntimeOffer:
    there = facts.ollama
    theirs = RuntimeOffer("ollama", available=True, external=there.address)
    mute = f"no Ollama answers at {there.address or 'its address'} ({there.detail})"
    if mode == "external":
        return theirs if there.answers else RuntimeOffer("ollama", available=False, reason=mute)
    if mode == "auto" and there.answers and (silent or _mac(facts)):
        return theirs
    reason = silent if mode == "own" or not silent else f"{silent}, and {mute}"
    return RuntimeOffer("ollama", available=not silent, reason=reason)


def _mac(facts: HostFacts) -> bool:
    devices = facts.accelerators
    return not isinstance(devices, Unknown) and any(one.vendor == "apple" for one in devices)
