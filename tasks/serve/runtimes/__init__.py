"""The runtimes: kinds of model servers. Adding one is a file here and its entry in `RUNTIMES`.

embedded.py   BERT embeddings on the CPU, a process of this program
"""

from __future__ import annotations

from typing import Protocol, get_args

from tasks.contracts import HostFacts, PlannedModel, ProcessSpec, PulledModel, RuntimeName, RuntimeOffer
from tasks.serve.runtimes import embedded


class Runtime(Protocol):
    """What a runtime module has. It only describes; starting and stopping is done by `serve/apply.py`."""

    @property
    def name(self) -> RuntimeName:
        """Name in the catalogue."""

    @property
    def health_path(self) -> str:
        """Path at the root of the server that answers 200 once the model is loaded."""

    def offer(self, facts: HostFacts) -> RuntimeOffer:
        """Say whether this runtime can be used on the host."""

    def process(self, pulled: PulledModel, python: str) -> ProcessSpec:
        """Describe the process that serves a model.

        The same model and port must give an equal spec on every run, or a healthy server is replaced.
        """

    def base_url(self, planned: PlannedModel) -> str:
        """Return the address that an OpenAI client takes as its base URL; it ends in "/v1"."""


RUNTIMES: tuple[Runtime, ...] = (embedded,)
"""What this version can start, the one to prefer first."""


def offers(facts: HostFacts) -> tuple[RuntimeOffer, ...]:
    """Return an offer for every runtime that the catalogue may name."""
    made = {runtime.name: runtime.offer(facts) for runtime in RUNTIMES}
    names: tuple[RuntimeName, ...] = get_args(RuntimeName)
    return tuple(made.get(name) or _missing(name, facts) for name in names)


def _missing(name: RuntimeName, facts: HostFacts) -> RuntimeOffer:
    engine = facts.container_engine
    if engine.answers:
        return RuntimeOffer(name, available=False, reason="this version does not run containers yet")
    return RuntimeOffer(name, available=False, reason=f"no container engine answers ({engine.detail})")
