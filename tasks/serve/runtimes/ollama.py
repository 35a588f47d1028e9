"""Ollama: decoders, vision and embeddings. Its server runs before weights come, because they come through it.

Requests to its OpenAI-compatible API cannot say how long a context is, and the default depends on the card.
So each model is served under a name of ours, made from what was pulled with the planned `num_ctx` and
`num_gpu` as parameters; it has the same blobs (https://github.com/ollama/ollama/blob/main/docs/api.md,
"Create a Model").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tasks.contracts import Mount, PlannedModel, PlannedServer, PulledModel, RerankApi, RuntimeName
from tasks.effects.http import OK, Http, HttpError
from tasks.serve import inside
from tasks.serve.wanted import Places, Wanted

name: RuntimeName = "ollama"
health_path = "/api/version"
rerank_api: RerankApi = ""
pulls_itself = True

FOREVER = -1
SHORT_S = 30.0
MOST_CHARACTERS = 80


def wanted(server: PlannedServer, _models: Sequence[PlannedModel], places: Places) -> Wanted:
    """Describe the container; models are brought to it while it runs."""
    return Wanted(
        environment=(
            *inside.environment(server.settings),
            ("HOME", "/tmp"),  # noqa: S108  # inside the container, on a tmpfs: its key lies there
            ("OLLAMA_HOST", f"0.0.0.0:{server.image.port if server.image else 0}"),
            ("OLLAMA_MODELS", inside.MODELS),
            # Several servers share the folder: one that starts would delete what another is pulling.
            ("OLLAMA_NOPRUNE", "1"),
        ),
        mounts=(Mount(str(places.ollama), inside.MODELS, read_only=False),),
        writes=str(places.ollama),
    )


def parameters(planned: PlannedModel) -> dict[str, int]:
    """Return what a model of ours sets: its context, and that all layers (or none) go to the card."""
    given = {key: int(value) for key, value in planned.settings}
    return {key: value for key, value in given.items() if value or key == "num_gpu"}


def asked_as(pulled: PulledModel) -> str:
    """Return the name of ours, which says with what it is served."""
    planned = pulled.planned
    set_to = parameters(planned)
    if not set_to:
        return pulled.snapshot
    context = f"-{set_to['num_ctx']}" if "num_ctx" in set_to else ""
    tag = f"{planned.quantisation or 'served'}{context}"
    return f"pmoves/{_part(planned.model)}:{_part(tag)}"


def _part(text: str) -> str:
    """Return a text as a part of Ollama's names may be.

    What may be in one: https://github.com/ollama/ollama/blob/main/types/model/name.go
    """
    plain = re.sub(r"[^\w.-]", "-", text, flags=re.ASCII)[:MOST_CHARACTERS]
    return plain if plain[:1].isalnum() else f"_{plain}"[:MOST_CHARACTERS]


def load(root_url: str, pulled: PulledModel, http: Http, *, timeout_s: float) -> None:
    """Give the model its name and parameters, and load it where it is to stay in memory."""
    model = asked_as(pulled)
    if model != pulled.snapshot and (
        pulled.change.kind != "keep" or not _made(root_url, model, pulled, http)
    ):
        made = {
            "model": model,
            "from": pulled.snapshot,
            "parameters": parameters(pulled.planned),
            "stream": False,
        }
        _asked(http, f"{root_url}/api/create", made, timeout_s=timeout_s)
    if pulled.change.kind == "replace" and not pulled.planned.external:
        # A runner that read damaged blobs keeps them, whatever the disk holds by now.
        http.post(f"{root_url}/api/generate", {"model": model, "keep_alive": 0}, timeout_s=SHORT_S)
    if pulled.planned.residency != "on-demand":
        _bring(root_url, model, pulled.planned, http, timeout_s=timeout_s)


def _made(root_url: str, model: str, pulled: PulledModel, http: Http) -> bool:
    """Tell whether the name of ours is there with these parameters, made from this tag."""
    reply = http.post(f"{root_url}/api/show", {"model": model}, timeout_s=SHORT_S)
    if reply.status != OK:
        return False
    body = reply.json()
    if not isinstance(body, dict):
        return False
    lines = (line.split(None, 1) for line in str(body.get("parameters") or "").splitlines())
    there = {line[0]: line[1].strip() for line in lines if len(line) == 2}  # noqa: PLR2004  # name and value
    details = body.get("details")
    parent = str(details.get("parent_model") or "") if isinstance(details, dict) else ""
    same = all(there.get(key) == str(value) for key, value in parameters(pulled.planned).items())
    return same and parent in {"", pulled.snapshot}


def _bring(root_url: str, model: str, planned: PlannedModel, http: Http, *, timeout_s: float) -> None:
    # How long another's server keeps a model is not ours to say.
    stay = {} if planned.external else {"keep_alive": FOREVER}
    if planned.role == "embeddings":
        _asked(http, f"{root_url}/api/embed", {"model": model, "input": "", **stay}, timeout_s=timeout_s)
    else:
        asked = {"model": model, "stream": False, **stay}
        _asked(http, f"{root_url}/api/generate", asked, timeout_s=timeout_s)


def _asked(http: Http, url: str, body: Mapping[str, object], *, timeout_s: float) -> None:
    reply = http.post(url, body, timeout_s=timeout_s)
    said = reply.json() if reply.status == OK and reply.body[:1] == b"{" else None
    if reply.status != OK or (isinstance(said, dict) and said.get("error")):
        raise HttpError(reply.shown())
