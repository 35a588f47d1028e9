"""Generations as a rollout writes them, and questions to gateways."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import httpx

from tasks.route.gateways.contract import CONFIG, Generation, Instance
from tests.lab.gateway import MODEL

BROKEN = '[embedding_models.m]\nrouting = ["gone"]\nproviderz = {}\n'


def generation(folder: Path, name: str, config: str, keys: str = "") -> Generation:
    """Write a generation, and the file with its keys."""
    made = folder / "generations" / name
    made.mkdir(parents=True)
    (made / CONFIG).write_text(config)
    environment = folder / "keys" / f"{name}.env"
    environment.parent.mkdir(mode=0o700, exist_ok=True)
    environment.write_text(keys)
    environment.chmod(0o600)
    return Generation(name, made, hashlib.sha256(config.encode()).hexdigest(), environment)


def embed(instance: Instance, text: str) -> list[float]:
    """Ask a gateway for the vector of a text."""
    body = {"model": MODEL, "input": text}
    reply = httpx.post(f"{instance.base_url}/embeddings", json=body, timeout=60, trust_env=False)
    if reply.status_code != httpx.codes.OK:
        raise AssertionError(reply.text)
    return list(reply.json()["data"][0]["embedding"])


def refused(port: int) -> bool:
    """Whether nobody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False
