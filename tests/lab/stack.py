"""A whole bundle for the tests: a catalogue of its own, with images that this machine can make.

role         runtime     what serves it
llm, code    llama.cpp   tests/lab/play/llama_cpp.py
embeddings   tei         the real embedded server with the real all-MiniLM-L6-v2
reranker     llama.cpp   tests/lab/play/llama_cpp.py
whisper      speaches    tests/lab/play/speaches.py
"""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.lab import images
from tests.lab.engine_fixtures import EMBEDDED
from tests.lab.engine_registry import RegistryLab

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
PLAY = ("python3", "-u")
SOURCES = ["made for the tests"]
LLAMA_ARCHITECTURE = {"layers": 2, "kv_heads": 2, "head_dim": 8}


@dataclass(frozen=True)
class Stack:
    """A catalogue, and the folder that its weights come from."""

    profiles: Path
    weights: Path

    def environment(self, engine: str) -> dict[str, str]:
        """Return what a host is told of it."""
        return {
            "DOCKER_HOST": engine,
            "PMOVES_PROFILES": str(self.profiles),
            "PMOVES_WEIGHTS_FROM": f"{self.weights}:{ROOT / '.cache' / 'hub'}",
        }

    def change(self, file: str, old: str, new: str) -> None:
        """Replace a text in a file of the catalogue."""
        path = self.profiles / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new))


def gguf(size_bytes: int, seed: int) -> bytes:
    """Return what begins as a GGUF file."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    return head + random.Random(seed).randbytes(size_bytes - len(head))  # noqa: S311  # bytes to fill a file


def play_layer() -> bytes:
    """Return a layer with the servers that play runtimes, and the recording that one of them knows."""
    found = sorted((ROOT / "tests/lab/play").glob("*.py"))
    return images.files_layer({f"opt/play/{one.name}": one.read_bytes() for one in found})


def push_play(registry: RegistryLab, name: str = "lab/play", tag: str = "1") -> str:
    """Push the image that plays runtimes; return it, pinned."""
    return registry.push(
        name,
        [
            images.busybox_layer(),
            images.python_layer(),
            play_layer(),
            images.files_layer({"opt/tag": tag.encode()}),
        ],
        tag=tag,
        environment=images.PYTHON_ENVIRONMENT,
    )


def push_embedded(registry: RegistryLab) -> str:
    """Push the image with the real embedded server behind the options of TEI; return it, pinned."""
    adapter = (ROOT / "tests/lab/tei_embedded.py").read_bytes()
    return registry.push(
        "lab/tei",
        [
            images.busybox_layer(),
            images.python_layer(),
            images.packages_layer(*EMBEDDED),
            images.program_layer(),
            images.files_layer({"opt/program/tei_embedded.py": adapter}),
        ],
        environment=images.PYTHON_ENVIRONMENT,
    )


def make(folder: Path, registry: RegistryLab) -> Stack:
    """Write a catalogue below `folder`, with images of the registry, and the files of its weights."""
    stack = Stack(folder / "profiles", folder / "files")
    shutil.copytree(ROOT / "profiles", stack.profiles)
    stack.weights.mkdir()
    stack.change("models/embeddings.yaml", "runtimes: [embedded, tei, vllm]", "runtimes: [tei]")
    models = [
        _model(stack, "lab-chat", ["llm", "code"], "llama.cpp", {"chat-q4_0.gguf": gguf(3_000_000, 1)}),
        _model(stack, "lab-reranker", ["reranker"], "llama.cpp", {"rerank-q8_0.gguf": gguf(1_000_000, 2)}),
        _model(stack, "lab-whisper", ["whisper"], "speaches", _whisper_files()),
    ]
    _write(stack.profiles / "models/lab.yaml", {"models": models})
    _write(stack.profiles / "hardware/lab.yaml", _profile())
    for name, there in (("tensorzero/gateway", "gateway"), ("docker.io/library/haproxy", "haproxy")):
        stack.change(
            "routing.yaml", f"repository: {name}\n", f"repository: {registry.repository(f'lab/{there}')}\n"
        )
    play, tei = registry.repository("lab/play"), registry.repository("lab/tei")
    _write(
        stack.profiles / "images.yaml",
        {
            "images": [
                _image("llama.cpp", play, [*PLAY, "/opt/play/llama_cpp.py"]),
                _image("speaches", play, [*PLAY, "/opt/play/speaches.py"]),
                _image("tei", tei, [*PLAY, "/opt/program/tei_embedded.py"]),
            ],
            "jetpacks": yaml.safe_load((ROOT / "profiles/images.yaml").read_text())["jetpacks"],
        },
    )
    return stack


def _whisper_files() -> dict[str, bytes]:
    return {
        "config.json": b"{}",
        "model.bin": random.Random(3).randbytes(500_000),  # noqa: S311  # the same
        "tokenizer.json": b"{}",
        "vocabulary.txt": b"a\n",
    }


def _model(
    stack: Stack, name: str, roles: list[str], runtime: str, files: dict[str, bytes]
) -> dict[str, Any]:
    repo = f"lab/{name}"
    folder = stack.weights / f"models--lab--{name}" / "snapshots" / REVISION
    folder.mkdir(parents=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
    decoder = {"attention": LLAMA_ARCHITECTURE, "context": 4096} if runtime == "llama.cpp" else {}
    return {
        "name": name,
        "title": name,
        "roles": roles,
        "licence": "MIT",
        "parameters": 1_000_000,
        **decoder,
        "variants": [
            {
                "name": "q4_0" if runtime == "llama.cpp" else "fp16",
                "runtimes": [runtime],
                "weights": {
                    "repo": repo,
                    "revision": REVISION,
                    "files": [
                        {"path": path, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                        for path, data in files.items()
                    ],
                },
            }
        ],
        "sources": SOURCES,
    }


def _profile() -> dict[str, Any]:
    return {
        "name": "lab",
        "title": "What the tests can serve",
        "hardware": "a processor",
        "match": {},
        "example": {"memory_mib": 8192},
        "limits": {"accelerators": False},
        "bundle": [
            {"role": "llm", "models": ["lab-chat"], "context": 2048, "min_context": 2048, "may": ["cpu"]},
            {"role": "code", "models": ["lab-chat"], "context": 2048, "may": ["share", "cpu"]},
            {"role": "embeddings", "models": ["all-minilm-l6-v2"], "may": ["cpu"]},
            {"role": "reranker", "models": ["lab-reranker"], "context": 1024, "may": ["cpu"]},
            {"role": "whisper", "models": ["lab-whisper"], "may": ["cpu"]},
        ],
        "sources": SOURCES,
    }


def _image(runtime: str, repository: str, command: list[str]) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "accelerator": "cpu",
        "architectures": ["x86_64"],
        "repository": repository,
        "tag": "1",
        "unpinned": "it is made by the tests",
        "port": 8080,
        "size_bytes": 100_000_000,
        "size_basis": "made by the tests",
        "command": command,
        "health": ["python3", "-c", "pass"],
        "sources": SOURCES,
    }


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(data, sort_keys=False))
