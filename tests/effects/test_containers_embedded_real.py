"""Real servers in hardened containers: this Python, and the embedded model server with its real model."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tasks.contracts import ContainerState, Mount
from tasks.effects.containers.docker import Docker
from tests.lab.embedded_server import MODEL, REPO, REVISION
from tests.lab.engine_fixtures import eventually, shell_spec
from tests.lab.environment import free_port

pytestmark = pytest.mark.real

FOLDER = f"models--{REPO.replace('/', '--')}"


def answers(containers: Docker, made: ContainerState, path: str) -> bool:
    """Tell whether a container answers; fail with its log when it fell."""
    seen = containers.inspect(made.id)
    assert seen is not None
    assert 0 == seen.restarts, containers.logs(made.id)
    try:
        url = f"http://127.0.0.1:{made.published}{path}"
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_a_python_server_runs(containers: Docker, python_image: str) -> None:
    """With nothing but its standard library."""
    spec = shell_spec(
        python_image, "", command=("python3", "-m", "http.server", "8080", "--directory", "/usr")
    )
    made = containers.create(spec, host_port=free_port())
    containers.start(made.id)

    assert eventually(lambda: answers(containers, made, "/bin/"))


def test_the_embedded_server_runs(containers: Docker, embedded_image: str, minilm_cache: Path) -> None:
    """Read-only, as an ordinary user, with its weights mounted: 384 dimensions, and unit length."""
    command = ("python3", "-m", "serve_embedded", "--port", "8080", "--cache", "/weights")
    spec = shell_spec(
        embedded_image,
        "",
        command=(*command, "--repo", REPO, "--revision", REVISION, "--model", MODEL, "--dimensions", "384"),
        environment=(("HF_HUB_OFFLINE", "1"), ("HOME", "/tmp")),  # noqa: S108  # inside
        mounts=(Mount(str(minilm_cache / FOLDER), f"/weights/{FOLDER}"),),
        memory_bytes=1 << 30,
        pids=64,
        health=("wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/health"),
    )
    made = containers.create(spec, host_port=free_port())
    containers.start(made.id)
    eventually(lambda: answers(containers, made, "/health"), within_s=60)

    url = f"http://127.0.0.1:{made.published}/v1/embeddings"
    answer = httpx.post(url, json={"model": MODEL, "input": ["a cat"]}, timeout=30, trust_env=False)

    (row,) = answer.json()["data"]
    assert 384 == len(row["embedding"])
    assert sum(one * one for one in row["embedding"]) == pytest.approx(1.0, abs=1e-3)
