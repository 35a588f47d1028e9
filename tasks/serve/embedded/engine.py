"""The weights: texts in, vectors out."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from tasks.errors import ServeError
from tasks.serve.embedded.options import Options

Vector: TypeAlias = "array[float]"

FILES = ("config.json", "tokenizer.json", "model.safetensors")
SELF_TEST = "a cat sits"
NORM_TOLERANCE = 1e-3


class EngineError(Exception):
    """Raised when the engine fails on a call."""


class Engine(Protocol):
    """What turns texts into vectors. One real implementation, and simple ones in tests."""

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one vector for each text, in order.

        Raises:
            EngineError: the call failed.
        """


class Candle:
    """BERT on Candle, from a Hugging Face cache, without the network."""

    def __init__(self, options: Options) -> None:
        # The Rust side reads these two from the process and takes no argument for them. It honours
        # HF_HUB_CACHE above HF_HOME. putenv reaches it after the interpreter has started.
        os.putenv("HF_HUB_CACHE", str(options.cache))
        os.putenv("HF_HUB_OFFLINE", "1")
        from embed_anything import EmbeddingModel, TextEmbedConfig, embed_query  # noqa: PLC0415  # 0.2 s

        self._embed_query = embed_query
        self._config = TextEmbedConfig(batch_size=options.limits.call_texts)
        self._model = EmbeddingModel.from_pretrained_hf(options.repo, revision=options.revision)

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return one vector for each text, in order."""
        try:
            rows = self._embed_query(list(texts), embedder=self._model, config=self._config)
            vectors = [array("f", row.embedding) for row in rows]
        except BaseException as error:  # A Rust panic is a BaseException that has no importable class.
            raise EngineError(_first_line(error)) from error
        if len(vectors) != len(texts):
            raise EngineError(f"it gave {len(vectors)} vectors for {len(texts)} texts")
        return vectors


def check_files(options: Options) -> None:
    """Refuse when a file that the engine needs is not in the cache.

    Raises:
        ServeError: with the names of the missing files; the loader would ask the hub for them.
    """
    missing = [name for name in FILES if not (options.snapshot / name).is_file()]
    if missing:
        raise ServeError(
            f"{' and '.join(missing)} of {options.repo} are not in {options.snapshot}",
            "no server was started",
            "pull the weights first, or give --cache the folder that holds them",
        )


def load(options: Options) -> tuple[Engine, int]:
    """Load the weights, embed one text, and return the engine with its number of dimensions.

    Raises:
        ServeError: the weights cannot be loaded, or the self-test gave a wrong vector.
    """
    try:
        engine = Candle(options)
        vector = engine.embed([SELF_TEST])[0]
    except BaseException as error:
        raise _refusal(options, f"do not load: {_first_line(error)}") from error
    norm = math.sqrt(sum(value * value for value in vector))
    if options.dimensions not in (None, len(vector)):
        raise _refusal(options, f"give {len(vector)} dimensions, {options.dimensions} are wanted")
    if not abs(norm - 1) < NORM_TOLERANCE:
        raise _refusal(options, f"failed the self-test: the vector has the norm {norm:.3f} instead of 1")
    return engine, len(vector)


def _refusal(options: Options, what: str) -> ServeError:
    return ServeError(
        f"the weights in {options.snapshot} {what}",
        "nothing is served",
        "delete that folder and pull the weights again",
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
