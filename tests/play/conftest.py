"""Weights as small as a play server can take them, and what starts it on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import gguf
from tests.lab.play.starting import Playing

Start = Callable[..., Playing]
CARD = "---\nlibrary_name: ctranslate2\ntags:\n- automatic-speech-recognition\n---\n"


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts a play server; it ends with the test."""
    with ExitStack() as running:
        yield lambda kind, *words, waits=True, **variables: running.enter_context(
            Playing(
                kind, tuple(map(str, words)), {name: str(value) for name, value in variables.items()}, waits
            )
        )


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a GGUF file that the real llama.cpp loads, too."""
    return gguf.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def safetensors(tmp_path: Path) -> Callable[..., Path]:
    """Return what makes a folder as a snapshot of the hub is; keywords go into config.json."""

    def make(name: str = "model", **config: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        given = {"architectures": ["BertModel"], "hidden_size": 384, "max_position_embeddings": 512, **config}
        (folder / "config.json").write_text(json.dumps(given))
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"\0" * 64)
        return folder

    return make


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Return a Hugging Face cache with one model for transcribing."""
    cache = tmp_path / "hub"
    snapshot = cache / "models--Systran--faster-whisper-tiny/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text(CARD)
    (snapshot / "model.bin").write_bytes(b"\0" * 64)
    return cache
