"""text-embeddings-inference: one embedding model or BERT-like reranker a server; loads at start.

Options: https://github.com/huggingface/text-embeddings-inference/blob/main/router/src/main.rs. Each can be
given as a variable of its upper-case name; switches are given so, because releases differ in whether the
flag takes a value.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import PlannedModel, PlannedServer, PulledModel, RerankApi, RuntimeName
from tasks.effects.http import Http
from tasks.serve import inside
from tasks.serve.wanted import Places, Wanted

name: RuntimeName = "tei"
health_path = "/health"
rerank_api: RerankApi = "tei"
pulls_itself = False
SWITCHES = {"--auto-truncate"}
BATCH = 256
"""How many texts one request may have; the default of 32 refuses what ingestion sends. Chosen."""


def wanted(server: PlannedServer, models: Sequence[PlannedModel], places: Places) -> Wanted:
    """Describe the container of one model."""
    planned = inside.only(models)
    flags = [one for one in server.settings if one[0] not in SWITCHES]
    switches = [one for one in server.settings if one[0] in SWITCHES]
    return Wanted(
        arguments=(
            *("--model-id", str(inside.snapshot(inside.pinned(planned)))),
            *("--served-model-name", planned.model),
            *("--hostname", "0.0.0.0"),
            *("--port", str(server.image.port if server.image else 0)),
            *("--max-client-batch-size", str(BATCH)),
            *inside.arguments(flags),
        ),
        environment=(
            *inside.environment(flags),
            *((flag.removeprefix("--").replace("-", "_").upper(), value) for flag, value in switches),
            ("HF_HUB_OFFLINE", "1"),
        ),
        mounts=inside.weights_mounts(models, places.store),
    )


def asked_as(pulled: PulledModel) -> str:
    """Return the name that the server was given."""
    return pulled.planned.model


def load(_root_url: str, _pulled: PulledModel, _http: Http, *, timeout_s: float) -> None:
    """Do nothing: a server that answers has loaded its model."""
