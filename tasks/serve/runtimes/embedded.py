"""The embedded runtime: `tasks.serve.embedded`, run with the Python that runs this program."""

from __future__ import annotations

from tasks.contracts import ProcessSpec, PulledModel, RerankApi, RuntimeName
from tasks.errors import ServeError
from tasks.serve.embedded.options import STOP_TIMEOUT_S

name: RuntimeName = "embedded"
health_path = "/health"
rerank_api: RerankApi = ""


def process(pulled: PulledModel, python: str) -> ProcessSpec:
    """Describe the server of a model whose weights are in a Hugging Face cache."""
    planned = pulled.planned
    weights = planned.weights
    if weights is None:
        raise ServeError(
            f"{planned.model} has no pinned files, so the embedded runtime cannot serve it",
            "nothing was started",
            "pin it in the catalogue",
        )
    command = [python, "-m", "tasks.serve.embedded"]
    command += ["--port", str(planned.port), "--cache", pulled.cache]
    command += ["--repo", weights.repo, "--revision", weights.revision]
    command += ["--model", planned.model]
    if planned.dimensions is not None:
        command += ["--dimensions", str(planned.dimensions)]
    if planned.max_tokens is not None:
        command += ["--max-tokens", str(planned.max_tokens)]
    return ProcessSpec(
        name=f"model-{planned.model}",
        command=tuple(command),
        environment=(
            ("HF_HUB_CACHE", pulled.cache),
            ("HF_HUB_DISABLE_TELEMETRY", "1"),
            ("HF_HUB_OFFLINE", "1"),
            ("TOKENIZERS_PARALLELISM", "false"),
        ),
        stop_timeout_s=STOP_TIMEOUT_S,
    )


def asked_as(pulled: PulledModel) -> str:
    """Return the name that the server was given."""
    return pulled.planned.model
