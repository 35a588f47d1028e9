"""The command line of llama.cpp's server (ggml-org/llama.cpp, common/arg.cpp; tools/server/README.md)."""

from __future__ import annotations

from typing import NoReturn

from .command import die, flags

_VALUES = (
    "--alias -a --api-key --batch-size -b --cache-type-k -ctk --cache-type-v -ctv --chat-template"
    " --ctx-size -c --device --fit -fit --fit-ctx -fitc --fit-target -fitt --flash-attn -fa --gpu-layers"
    " --n-gpu-layers -ngl --host --log-verbosity -lv --main-gpu -mg --mmproj -mm --model -m --n-predict -n"
    " --parallel -np --pooling --port --reasoning-format --seed --split-mode -sm --temp --tensor-split -ts"
    " --threads -t --timeout -to --ubatch-size -ub"
)
_SWITCHES = (
    "--cont-batching -cb --embedding --embeddings --jinja --metrics --mlock --no-jinja --no-mmap --no-ui"
    " --no-warmup --no-webui --offline --props --rerank --reranking --slots --ui --webui"
)
FLAGS = {**dict.fromkeys(_VALUES.split(), True), **dict.fromkeys(_SWITCHES.split(), False)}
ALIASES = {
    "-a": "--alias",
    "-b": "--batch-size",
    "-c": "--ctx-size",
    "-m": "--model",
    "-np": "--parallel",
    "-ub": "--ubatch-size",
    "-ngl": "--n-gpu-layers",
    "--gpu-layers": "--n-gpu-layers",
    "-fa": "--flash-attn",
    "-ctk": "--cache-type-k",
    "-ctv": "--cache-type-v",
    "--embedding": "--embeddings",
    "--rerank": "--reranking",
    "-mm": "--mmproj",
    "-ts": "--tensor-split",
}
NUMBERS = ("--ctx-size", "--batch-size", "--ubatch-size", "--parallel", "--port")
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")


def refuse(why: str, flag: str) -> NoReturn:
    """End as `common_params_parse` does (common/arg.cpp)."""
    if why == "unknown":
        die(f"error: invalid argument: {flag}", 1)
    bad(flag, "expected value for argument")


def bad(flag: str, why: str) -> NoReturn:
    """End as a value that does not fit ends it."""
    usage = "usage:\n" + flag + "\n\n\nto show complete usage, run with -h"
    die(f'error while handling argument "{flag}": {why}\n\n{usage}', 1)


def parse(arguments: list[str]) -> dict[str, str]:
    """Read the command line, or end as llama.cpp does."""
    given, rest = flags(arguments, FLAGS, refuse)
    if rest:
        refuse("unknown", rest[0])
    given = {ALIASES.get(name, name): value for name, value in given.items()}
    for name in NUMBERS:
        if name in given and not given[name].lstrip("-").isdigit():
            bad(name, "stoi")
    if (value := given.get("--flash-attn", "auto")) not in {"on", "off", "auto", "true", "false", "1", "0"}:
        bad("--flash-attn", f"error: unknown value for --flash-attn: '{value}'\n")
    for name in ("--cache-type-k", "--cache-type-v"):
        if given.get(name, "f16") not in CACHE_TYPES:
            bad(name, f"Unsupported cache type: {given[name]}")
    return given
