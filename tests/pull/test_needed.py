"""Of a repository, only what a runtime loads is fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contracts import RuntimeName, WeightFile
from tasks.pull.resolve.needed import needed

CASES = sorted((Path(__file__).parents[1] / "cases/repositories").glob("*.json"))
"""Listings with the names that the repositories show on the Hub, and what a runtime needs of them."""

GGUF = "README.md reranker-Q8_0.gguf reranker-f16.gguf reranker-Q4_0.gguf reranker-Q5_K_S.gguf"
MINILM = "README.md config.json model.safetensors tokenizer.json onnx/model.onnx"
SPLIT = "m-q4_k_m-00001-of-00002.gguf m-q4_k_m-00002-of-00002.gguf m-q4_k_m.gguf"
PROJECTOR = "Seer-7B-Q4_K_M.gguf mmproj-Seer-7B-Q8_0.gguf mmproj-Seer-7B-f16.gguf"


def files(names: str) -> tuple[WeightFile, ...]:
    """Return a listing."""
    return tuple(WeightFile(path=name, size_bytes=1, sha256="0" * 64) for name in names.split())


def chosen(runtime: RuntimeName, names: str, quantisation: str = "bf16", *, projector: bool = False) -> str:
    """Return the names that are needed, with blanks between them."""
    return " ".join(file.path for file in needed(runtime, quantisation, files(names), projector=projector))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_what_a_runtime_loads(case: Path) -> None:
    """Each runtime gets its weights once, and what it reads beside them."""
    want = json.loads(case.read_text())

    assert want["needed"] == chosen(want["runtime"], " ".join(want["listed"]), want["variant"]).split()


def test_a_single_file_is_taken_before_the_same_in_pieces() -> None:
    """Where a repository holds a quantisation whole and in pieces, the whole file is taken alone."""
    assert "m-q4_k_m.gguf" == chosen("llama.cpp", SPLIT, "q4_k_m")


def test_the_projector_comes_where_the_model_sees() -> None:
    """The finest usual projector is taken, and none for a model that sees nothing."""
    weights, projector = "Seer-7B-Q4_K_M.gguf", "mmproj-Seer-7B-f16.gguf"

    assert f"{weights} {projector}" == chosen("llama.cpp", PROJECTOR, "q4_k_m", projector=True)
    assert weights == chosen("llama.cpp", PROJECTOR, "q4_k_m")


def test_the_only_gguf_is_the_one() -> None:
    """A repository with a single GGUF need not name the quantisation."""
    assert "model.gguf" == chosen("llama.cpp", "README.md model.gguf", "q4_k_m")


@pytest.mark.parametrize(
    ("runtime", "names"),
    [
        ("llama.cpp", GGUF),
        ("llama.cpp", MINILM),
        ("vllm", GGUF),
        ("speaches", MINILM),
        ("tei", "README.md"),
    ],
)
def test_weights_that_are_not_there(runtime: RuntimeName, names: str) -> None:
    """Nothing is chosen where the weights themselves are missing."""
    assert "" == chosen(runtime, names, "q4_k_m")


@given(
    names=st.lists(st.text("abm-_.0/Qq48k", min_size=1, max_size=20), max_size=12), projector=st.booleans()
)
def test_whatever_is_listed(names: list[str], *, projector: bool) -> None:
    """Whatever a hub lists, what is needed is a part of it, once, and the same in any order."""
    listing = tuple(WeightFile(path=name, size_bytes=1) for name in dict.fromkeys(names))
    runtimes: tuple[RuntimeName, ...] = ("llama.cpp", "vllm", "speaches")
    for runtime in runtimes:
        found = needed(runtime, "q4_0", listing, projector=projector)

        assert set(found) <= set(listing)
        assert len(set(found)) == len(found)
        assert found == needed(runtime, "q4_0", listing[::-1], projector=projector)
