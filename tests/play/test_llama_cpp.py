"""The play llama.cpp, pinned against ggml-org/llama.cpp: tools/server/server-*.cpp, common/arg.cpp.

tests/serve/test_llama_cpp_real.py holds it against the real one.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab import gguf
from tests.play.conftest import Start

pytestmark = pytest.mark.real
CHAT = {"messages": [{"role": "user", "content": "What is 6 times 7?"}]}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--foo",), "error: invalid argument: --foo"),
        (("stray",), "error: invalid argument: stray"),
        (("--ctx-size",), 'error while handling argument "--ctx-size": expected value for argument'),
        (("--ctx-size", "x"), 'error while handling argument "--ctx-size": stoi'),
        (("--flash-attn", "maybe"), "unknown value for --flash-attn: 'maybe'"),
        (("--cache-type-k", "q3"), "Unsupported cache type: q3"),
        (
            ("--model", "/no/such.gguf"),
            "failed to open GGUF file '/no/such.gguf' (No such file or directory)",
        ),
    ],
)
def test_it_ends_with_the_real_words(start: Start, words: tuple[str, ...], why: str) -> None:
    """common/arg.cpp, common_params_parse_ex: what does not fit ends it with 1."""
    playing = start("llama_cpp", *words, waits=False)

    assert 1 == playing.ends()
    assert why in playing.log()


def test_a_file_that_is_no_gguf(start: Start, tmp_path: Path) -> None:
    """ggml/src/gguf.cpp: the first four bytes are shown."""
    (tmp_path / "m.gguf").write_bytes(b"hello there")
    playing = start("llama_cpp", "--model", tmp_path / "m.gguf", waits=False)

    assert 1 == playing.ends()
    assert "invalid magic characters: 'hell', expected 'GGUF'" in playing.log()
    assert playing.log().endswith("exiting due to model loading error\n")


def test_a_taken_port(start: Start, tiny_gguf: Path) -> None:
    """tools/server/server-http.cpp: it cannot bind, and ends with 1."""
    first = start("llama_cpp", "--model", tiny_gguf)
    second = start("llama_cpp", "--model", tiny_gguf, "--port", first.port, waits=False)

    assert 1 == second.ends()
    assert f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {first.port}" in second.log()


@pytest.mark.parametrize(
    ("flags", "variables", "layers"),
    [
        (("--n-gpu-layers", "999"), {}, "3/3"),
        (("--n-gpu-layers", "1"), {}, "1/3"),
        (("--n-gpu-layers", "0"), {}, "0/3"),
        (("--n-gpu-layers", "999"), {"PLAY_GPU": "none"}, "0/3"),
        (("--n-gpu-layers", "999"), {"CUDA_VISIBLE_DEVICES": "-1"}, "0/3"),
        (("--n-gpu-layers", "999"), {"PLAY_FAULT": "cpu"}, "0/3"),
        (("--n-gpu-layers", "999"), {"PLAY_FAULT": "half"}, "1/3"),
    ],
)
def test_layers(
    start: Start, tiny_gguf: Path, flags: tuple[str, ...], variables: dict[str, str], layers: str
) -> None:
    """src/llama-model.cpp, load_tensors: how many layers went to the card, of those that the file has."""
    playing = start("llama_cpp", "--model", tiny_gguf, *flags, **variables)
    log = playing.end()

    assert [layers] == re.findall(r"offloaded (\S+) layers to GPU", log)
    assert ("no usable GPU found" in log) == (layers == "0/3" and flags[1] != "0")


def test_slots_share_the_context(start: Start, tiny_gguf: Path) -> None:
    """tools/server/README.md: --ctx-size is for all --parallel slots together."""
    playing = start("llama_cpp", "--model", tiny_gguf, "--ctx-size", 1024, "--parallel", 2, "--alias", "m")
    _, props = playing.ask("GET", "/props")
    _, models = playing.ask("GET", "/v1/models")

    assert (512, 2) == (props["default_generation_settings"]["n_ctx"], props["total_slots"])
    assert ("m", 512, "llamacpp") == tuple(
        models["data"][0][key] if key in models["data"][0] else models["data"][0]["meta"][key]
        for key in ("id", "n_ctx", "owned_by")
    )


def test_embeddings_need_pooling(start: Start, tiny_gguf: Path, tmp_path: Path) -> None:
    """tools/server/server-context.cpp, handle_embeddings_impl: without pooling, a text has many."""
    none = start("llama_cpp", "--model", tiny_gguf, "--embeddings")
    mean = start("llama_cpp", "--model", tiny_gguf, "--embeddings", "--pooling", "mean")
    file = start("llama_cpp", "--model", gguf.write(tmp_path / "e.gguf", pooling=3), "--embeddings")
    asked = {"input": ["a", "b"]}

    assert [400, 200, 200] == [one.ask("POST", "/v1/embeddings", asked)[0] for one in (none, mean, file)]
    assert 64 == len(file.ask("POST", "/v1/embeddings", asked)[1]["data"][1]["embedding"])


def test_max_tokens_cut_an_answer(start: Start, tiny_gguf: Path) -> None:
    """An answer that is cut says so."""
    playing = start("llama_cpp", "--model", tiny_gguf)
    body = {"messages": [{"role": "user", "content": "Count from 1 to 60"}], "max_tokens": 5}
    _, answer = playing.ask("POST", "/v1/chat/completions", body)

    assert ("length", 5) == (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"])
    assert "1 2 3 4 5" == answer["choices"][0]["message"]["content"]


def test_pictures_need_a_projector(start: Start, tiny_gguf: Path) -> None:
    """tools/server/server-common.cpp: a picture without --mmproj is a 500, and a projector must be there."""
    playing = start("llama_cpp", "--model", tiny_gguf)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    status, body = playing.ask(
        "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": [picture]}]}
    )
    gone = start("llama_cpp", "--model", tiny_gguf, "--mmproj", "/no/such", waits=False)

    assert (500, True) == (status, "provide the mmproj" in body["error"]["message"])
    assert 1 == gone.ends()
