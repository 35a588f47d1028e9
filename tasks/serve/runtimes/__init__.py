"""The runtimes: kinds of model servers. Adding one is a file here and its entry in a tuple.

embedded.py    BERT embeddings on the CPU, a process of this program
ollama.py      decoders, vision and embeddings; pulls and swaps models by itself
llama_cpp.py   GGUF files; the only one that reranks with a Qwen3 reranker on small cards
tei.py         embeddings and BERT rerankers
vllm.py        decoders on large cards, and Qwen3 rerankers
speaches.py    faster-whisper
external.py    any OpenAI-compatible server that already runs; it is used and never owned

They only describe. What is done about it is in `tasks.serve.hosts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasks.contracts import (
    PlannedModel,
    PlannedServer,
    ProcessSpec,
    PulledModel,
    RerankApi,
    RuntimeName,
)
from tasks.effects.http import Http
from tasks.serve.runtimes import embedded, external, llama_cpp, ollama, speaches, tei, vllm
from tasks.serve.wanted import Places, Wanted

__all__ = ["CONTAINERS", "OUTSIDE", "PROCESSES", "Container", "Outside", "Process"]


class Speaks(Protocol):
    """What every runtime says of the servers that it makes."""

    @property
    def name(self) -> RuntimeName:
        """Name in the catalogue."""

    @property
    def health_path(self) -> str:
        """Path at the root of the server that answers 200 once it can be asked."""

    @property
    def rerank_api(self) -> RerankApi:
        """How it is asked to score documents."""

    def asked_as(self, pulled: PulledModel) -> str:
        """Return the name by which a server knows a model."""


class Process(Speaks, Protocol):
    """A runtime that is a process of this program."""

    def process(self, pulled: PulledModel, python: str) -> ProcessSpec:
        """Describe the process that serves a model.

        The same model and port must give an equal spec on every run, or a healthy server is replaced.
        """


class Loads(Protocol):
    """A runtime that is told to load a model once its server answers."""

    def load(self, root_url: str, pulled: PulledModel, http: Http, *, timeout_s: float) -> None:
        """Bring a model into memory; one that is there stays.

        Raises:
            HttpError: the server does not, and why.
        """


class Container(Speaks, Loads, Protocol):
    """A runtime that runs in a container."""

    @property
    def pulls_itself(self) -> bool:
        """Whether its server must run before weights can come, because they come through it."""

    def wanted(self, server: PlannedServer, models: Sequence[PlannedModel], places: Places) -> Wanted:
        """Describe a server's container from the plan alone: equal plans give equal answers."""


class Outside(Speaks, Loads, Protocol):
    """A server that already runs and is not ours."""


PROCESSES: tuple[Process, ...] = (embedded,)
CONTAINERS: tuple[Container, ...] = (ollama, llama_cpp, tei, vllm, speaches)
OUTSIDE: tuple[Outside, ...] = (ollama, external)
