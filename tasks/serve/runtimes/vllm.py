"""vLLM: one model a server, on one card or on several with tensors cut over them; loads at start.

Flags: https://docs.vllm.ai/en/latest/cli/serve.html
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import PlannedModel, PlannedServer, PulledModel, RerankApi, RuntimeName
from tasks.effects.http import Http
from tasks.serve import inside
from tasks.serve.wanted import Places, Wanted

name: RuntimeName = "vllm"
health_path = "/health"
rerank_api: RerankApi = "jina"
pulls_itself = False

SHM_BYTES = 1 << 30
"""Workers of a model that is cut over cards pass tensors through /dev/shm, of which a container has 64 MiB;
vLLM's documents ask for more or for the host's (docs.vllm.ai, "Using Docker"). Chosen."""


def wanted(server: PlannedServer, models: Sequence[PlannedModel], places: Places) -> Wanted:
    """Describe the container of one model."""
    planned = inside.only(models)
    return Wanted(
        arguments=(
            *("--model", str(inside.snapshot(inside.pinned(planned)))),
            *("--served-model-name", planned.model),
            *("--host", "0.0.0.0"),
            *("--port", str(server.image.port if server.image else 0)),
            *inside.arguments(server.settings),
        ),
        environment=(
            *inside.environment(server.settings),
            ("DO_NOT_TRACK", "1"),
            ("HF_HUB_OFFLINE", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
        ),
        mounts=inside.weights_mounts(models, places.store),
        shm_bytes=SHM_BYTES,
    )


def asked_as(pulled: PulledModel) -> str:
    """Return the name that the server was given."""
    return pulled.planned.model


def load(_root_url: str, _pulled: PulledModel, _http: Http, *, timeout_s: float) -> None:
    """Do nothing: a server that answers has loaded its model."""
