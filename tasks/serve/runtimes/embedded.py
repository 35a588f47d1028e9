"""The embedded runtime: `tasks.serve.embedded`, run with the Python that runs this program."""

from __future__ import annotations

from tasks.contracts import HostFacts, PlannedModel, ProcessSpec, PulledModel, RuntimeName, RuntimeOffer
from tasks.errors import ServeError
from tasks.serve.embedded.options import HOST, STOP_TIMEOUT_S

name: RuntimeName = "embedded"
health_path = "/health"

ARCHITECTURES = ("x86_64",)
"""Those that embed_anything has Linux wheels for."""


def offer(facts: HostFacts) -> RuntimeOffer:
    """Say yes on every processor that the engine is built for; it needs nothing else."""
    architecture = facts.system.architecture
    if architecture in ARCHITECTURES:
        return RuntimeOffer(name, available=True)
    return RuntimeOffer(name, available=False, reason=f"its engine is not built for {architecture}")


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


def base_url(planned: PlannedModel) -> str:
    """Return the address that an OpenAI client takes as its base URL."""
    return f"http://{HOST}:{planned.port}/v1"
