"""speaches: faster-whisper behind OpenAI's audio API. It loads a model when it is told to, or asked.

It finds its models by scanning a Hugging Face cache, takes only those whose model card (README.md) names the
library ctranslate2 and the task, and of several revisions the one that `main` points to
(https://github.com/speaches-ai/speaches/blob/master/src/speaches/hf_utils.py). Pinned weights have neither
card nor `main`, so it is shown a small cache of our own: a card, a ref, and links to the pinned files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tasks.contracts import (
    Mount,
    PlannedModel,
    PlannedServer,
    PulledModel,
    RerankApi,
    RuntimeName,
)
from tasks.effects.http import OK, Http, HttpError
from tasks.serve import inside
from tasks.serve.wanted import Places, Wanted

name: RuntimeName = "speaches"
health_path = "/health"
rerank_api: RerankApi = ""
pulls_itself = False
LOADED_ALREADY = 409

CARD = """\
---
library_name: ctranslate2
pipeline_tag: automatic-speech-recognition
tags:
- ctranslate2
- automatic-speech-recognition
---
Written by pmoves-provisioner, because speaches looks for a model card. The weights are those of {repo}.
"""


def wanted(server: PlannedServer, models: Sequence[PlannedModel], places: Places) -> Wanted:
    """Describe the container of all models that are transcribed with on one device."""
    hub = places.state / "hubs" / server.name
    return Wanted(
        environment=(
            *inside.environment(server.settings),
            ("DO_NOT_TRACK", "1"),
            ("ENABLE_UI", "false"),
            ("HF_HUB_CACHE", inside.HUB),
            ("HF_HUB_OFFLINE", "1"),
            ("UVICORN_HOST", "0.0.0.0"),
            ("UVICORN_PORT", str(server.image.port if server.image else 0)),
        ),
        mounts=(*inside.weights_mounts(models, places.store), Mount(str(hub), inside.HUB)),
        files=tuple(file for one in models for file in _hub_files(one, hub)),
    )


def _hub_files(planned: PlannedModel, hub: Path) -> tuple[tuple[Path, str], ...]:
    """Return the files of a small cache; a text that begins with "-> " is where a link points to."""
    weights = inside.pinned(planned)
    repo = hub / inside.repo_folder(weights.repo)
    snapshot = repo / "snapshots" / weights.revision
    there = inside.snapshot(weights)
    return (
        (repo / "refs" / "main", weights.revision),
        (snapshot / "README.md", CARD.format(repo=weights.repo)),
        *(
            (snapshot / file.path, f"-> {PurePosixPath(there, file.path)}")
            for file in weights.files
            if file.path != "README.md"
        ),
    )


def asked_as(pulled: PulledModel) -> str:
    """Return the repository: speaches names models by it."""
    return inside.pinned(pulled.planned).repo


def load(root_url: str, pulled: PulledModel, http: Http, *, timeout_s: float) -> None:
    """Load a model; one that is loaded already stays."""
    model = quote(asked_as(pulled), safe="/")
    reply = http.post(f"{root_url}/api/ps/{model}", {}, timeout_s=timeout_s)
    if reply.status not in {OK, 201, LOADED_ALREADY}:
        raise HttpError(reply.shown())
