"""The command line of vLLM's server (vllm-project/vllm, vllm/utils/argparse_utils.py; docs: cli/serve)."""

from __future__ import annotations

import json
from typing import NoReturn

from .command import die, flags, say

_VALUES = (
    "--model --served-model-name --host --port --api-key --dtype --max-model-len --max-num-seqs"
    " --max-num-batched-tokens --gpu-memory-utilization --kv-cache-memory-bytes --kv-cache-dtype"
    " --tensor-parallel-size -tp --pipeline-parallel-size --hf-overrides --quantization -q --load-format"
    " --download-dir --revision --tokenizer --runner --convert --task --seed --chat-template"
    " --limit-mm-per-prompt --swap-space --cpu-offload-gb --reasoning-parser --tool-call-parser"
    " --uvicorn-log-level --generation-config"
)
_SWITCHES = (
    "--trust-remote-code --enforce-eager --enable-prefix-caching --no-enable-prefix-caching"
    " --enable-auto-tool-choice --disable-log-requests --no-enable-log-requests"
    " --disable-uvicorn-access-log"
)
FLAGS = {**dict.fromkeys(_VALUES.split(), True), **dict.fromkeys(_SWITCHES.split(), False)}
WHOLE = ("--port", "--max-num-seqs", "--kv-cache-memory-bytes", "--tensor-parallel-size")
SUFFIXES = {"k": 1000, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def refuse(why: str, flag: str) -> NoReturn:
    """End as argparse does."""
    text = (
        f"unrecognized arguments: {flag}" if why == "unknown" else f"argument {flag}: expected one argument"
    )
    die(f"usage: vllm serve [model_tag] [options]\nvllm serve: error: {text}", 2)


def bad(flag: str, why: str) -> NoReturn:
    """End as argparse does for a value that does not fit."""
    die(f"usage: vllm serve [model_tag] [options]\nvllm serve: error: argument {flag}: {why}", 2)


def number(text: str) -> int:
    """Read a length as vLLM does: 4096, 4k, 4K."""
    return int(float(text[:-1]) * SUFFIXES[text[-1]]) if text[-1:] in SUFFIXES else int(text)


def parse(arguments: list[str]) -> dict[str, str]:
    """Read the command line, or end as argparse does."""
    given, rest = flags(arguments, FLAGS, refuse)
    rest = rest[1:] if rest[:1] == ["serve"] else rest
    if "--model" in given:
        say(
            "WARNING [argparse_utils.py] With `vllm serve`, you should provide the model"
            " as a positional argument or in"
            " a config file instead of via the `--model` option."
        )
    elif rest:
        given["--model"] = rest.pop(0)
    else:
        given["--model"] = "Qwen/Qwen3-0.6B"
    if rest:
        refuse("unknown", " ".join(rest))
    for name in WHOLE:
        if name in given and not given[name].isdigit():
            bad(name, f"invalid int value: '{given[name]}'")
    if not 0 < float(given.get("--gpu-memory-utilization", "0.9")) <= 1:
        die(
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for"
            " CacheConfig\ngpu_memory_utilization\n"
            "  Input should be greater than 0 and less than or equal to 1",
            1,
        )
    try:
        json.loads(given.get("--hf-overrides") or "{}")
    except ValueError:
        bad("--hf-overrides", f"Value {given['--hf-overrides']} cannot be converted to <function loads>.")
    return given
