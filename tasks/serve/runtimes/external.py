"""A server that already runs on the host: asked, verified, routed to, and never started, stopped or told."""

from __future__ import annotations

from tasks.contracts import PulledModel, RerankApi, RuntimeName
from tasks.effects.http import Http

name: RuntimeName = "external"
health_path = "/v1/models"
"""Every OpenAI-compatible server lists its models; not every one has a health path."""
rerank_api: RerankApi = "jina"


def asked_as(pulled: PulledModel) -> str:
    """Return the model's name as it was given."""
    return pulled.planned.model


def load(_root_url: str, _pulled: PulledModel, _http: Http, *, timeout_s: float) -> None:
    """Do nothing: what it holds is its owner's to say."""
