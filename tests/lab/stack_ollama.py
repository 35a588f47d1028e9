"""The lab's catalogue with Ollama: three models on one server, and a host that has them already.

A container reaches no registry on loopback, so a play Ollama on the host pulls the tags first, into the
folder that the container then has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.lab import gguf, stack
from tests.lab.engine_registry import RegistryLab
from tests.lab.ollama import OllamaLab
from tests.lab.ollama_registry import OllamaRegistry, Tag

ROLES = {"lab-llm": "llm", "lab-vision": "vision", "lab-nomic": "embeddings"}


@dataclass(frozen=True)
class OllamaStack:
    """A catalogue, and the library that its tags are in."""

    made: stack.Stack
    tags: dict[str, Tag]

    def environment(self, engine: str, library: OllamaRegistry) -> dict[str, str]:
        """Return what a host is told of it."""
        return {**self.made.environment(engine), "PMOVES_OLLAMA_LIBRARY": library.base}


def tags() -> dict[str, Tag]:
    """Return what the library has."""
    return {
        f"library/{name}:q4_0": Tag((("model", gguf.model(seed=seed, pooling=int(role == "embeddings"))),))
        for seed, (name, role) in enumerate(ROLES.items(), start=1)
    }


def make(folder: Path, registry: RegistryLab, library: dict[str, Tag]) -> OllamaStack:
    """Write a catalogue whose bundle Ollama serves, beside a reranker."""
    made = stack.make(folder, registry)
    _edit(made, "models/lab.yaml", lambda data: data["models"].extend(_models(library)))
    _edit(made, "hardware/lab.yaml", _bundle)
    _edit(made, "images.yaml", lambda data: data["images"].append(_image(registry)))
    return OllamaStack(made, library)


def fetch(models: Path, library: OllamaRegistry, names: dict[str, Tag]) -> None:
    """Pull the tags into a folder, as an Ollama on the host would have done."""
    with OllamaLab(models, library.base) as ollama:
        for name in names:
            asked = {"model": name.removeprefix("library/"), "stream": False}
            reply = httpx.post(f"{ollama.url}/api/pull", json=asked, timeout=60, trust_env=False)
            assert reply.json() == {"status": "success"}, reply.text


def _models(library: dict[str, Tag]) -> list[dict[str, Any]]:
    found = []
    for name, role in ROLES.items():
        tag = library[f"library/{name}:q4_0"]
        model = {
            "name": name,
            "title": name,
            "roles": [role],
            "licence": "MIT",
            "parameters": 1_000_000,
            "variants": [
                {
                    "name": "q4_0",
                    "runtimes": ["ollama"],
                    "ollama": {
                        "tag": f"{name}:q4_0",
                        "size_bytes": tag.size_bytes,
                        "digest": tag.digest,
                    },
                }
            ],
            "sources": stack.SOURCES,
        }
        decoder = {"attention": stack.LLAMA_ARCHITECTURE, "context": 4096}
        found.append(
            {**model, **(decoder if role != "embeddings" else {"dimensions": 64, "max_tokens": 512})}
        )
    return found


def _bundle(data: dict[str, Any]) -> None:
    data["bundle"] = [
        {"role": "llm", "models": ["lab-llm"], "context": 2048, "may": ["cpu"]},
        {"role": "vision", "models": ["lab-vision"], "context": 2048, "may": ["cpu"]},
        {"role": "embeddings", "models": ["lab-nomic"], "may": ["cpu"]},
        {"role": "reranker", "models": ["lab-reranker"], "context": 1024, "may": ["cpu"]},
    ]


def _image(registry: RegistryLab) -> dict[str, Any]:
    made: dict[str, Any] = stack._image(  # one module in two files
        "ollama", registry.repository("lab/play"), [*stack.PLAY, "/opt/play/ollama_chat.py", "serve"]
    )
    return made


def _edit(made: stack.Stack, file: str, change: Any) -> None:  # noqa: ANN401  # what YAML gives
    path = made.profiles / file
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))
