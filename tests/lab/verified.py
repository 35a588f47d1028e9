"""Verified model servers, made up for tests."""

from __future__ import annotations

from tasks.contracts import (
    Change,
    ModelServer,
    PlannedModel,
    ProcessState,
    Role,
    RuntimeName,
    VerifiedServer,
    Weights,
)


def verified_server(
    model: str = "all-minilm-l6-v2",
    *,
    base_url: str = "http://127.0.0.1:8101/v1",
    role: Role = "embeddings",
    runtime: RuntimeName = "embedded",
) -> VerifiedServer:
    """Return a server of one model that is said to have answered rightly."""
    planned = PlannedModel(
        role=role,
        model=model,
        runtime=runtime,
        residency="cpu",
        device="cpu",
        port=8101,
        memory_bytes=300 << 20,
        memory_measured=False,
        download_bytes=0,
        weights=Weights(repo="maker/model", revision="0" * 40, files=()),
    )
    process = ProcessState("model", running=True, state="running", pid=1, started_at=0, spec_hash="", log="")
    server = ModelServer(planned, "model", base_url, process, Change("model", "keep", "it runs"), 0.1)
    return VerifiedServer(server, answers=(), latency_s=0.01, texts_per_s=100.0, memory_bytes=300 << 20)
