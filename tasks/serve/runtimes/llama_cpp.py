"""llama.cpp's server: one GGUF model a server. It loads at start; /health says 503 until it has.

Flags: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.contracts import PlannedModel, PlannedServer, PulledModel, RerankApi, RuntimeName
from tasks.effects.http import Http
from tasks.errors import ServeError
from tasks.serve import inside
from tasks.serve.wanted import Places, Wanted

name: RuntimeName = "llama.cpp"
health_path = "/health"
rerank_api: RerankApi = "jina"
pulls_itself = False


def wanted(server: PlannedServer, models: Sequence[PlannedModel], places: Places) -> Wanted:
    """Describe the container of one model."""
    planned = inside.only(models)
    weights = inside.pinned(planned)
    folder = inside.snapshot(weights)
    names = sorted(file.path for file in weights.files if file.path.endswith(".gguf"))
    projectors = [one for one in names if "mmproj" in one.lower()]
    # A model that is cut into several files is opened by its first.
    model = next((one for one in names if one not in projectors), None)
    if model is None:
        raise ServeError(
            f"{planned.model} has no GGUF file among its pinned files ({weights.repo})",
            "nothing was started",
            "pin a GGUF variant of it in the catalogue",
        )
    return Wanted(
        arguments=(
            *("--model", str(folder / model)),
            *(("--mmproj", str(folder / projectors[0])) if projectors else ()),
            *("--alias", planned.model),
            *("--host", "0.0.0.0"),
            *("--port", str(server.image.port if server.image else 0)),
            "--no-webui",
            *inside.arguments(server.settings),
        ),
        environment=inside.environment(server.settings),
        mounts=inside.weights_mounts(models, places.store),
    )


def asked_as(pulled: PulledModel) -> str:
    """Return the alias that the server was given."""
    return pulled.planned.model


def load(_root_url: str, _pulled: PulledModel, _http: Http, *, timeout_s: float) -> None:
    """Do nothing: a server that answers has loaded its model."""
