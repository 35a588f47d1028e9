"""Which files of a repository a runtime loads. Pure.

A repository often holds the same weights several times over: openai/whisper-large-v3 is 24.7 GB, of which
a server needs 3.1. Each runtime has a rule; it takes the listing and gives back what is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from tasks.contracts import RuntimeName, WeightFile

Files = tuple[WeightFile, ...]
Rule = Callable[[Files, str, bool], Files]

_SPLIT = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")
_SHARDS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_CONSOLIDATED = re.compile(r"consolidated([-.]\d+(-of-\d+)?)?\.safetensors")
_PICKLED = re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin")
_MODULE = re.compile(r"\d+_\w+/")
_BESIDE = frozenset({".json", ".txt", ".model", ".jinja", ".tiktoken"})
_NOT_BESIDE = re.compile(r"training_args|trainer_state|optimizer|^README|\.index\.(\w+\.)?json$")
_CT2 = re.compile(r"model\.bin|config\.json|tokenizer\.json|preprocessor_config\.json|vocabulary\.(txt|json)")
_PROJECTORS = ("f16", "fp16", "bf16", "q8_0", "f32")
_ALIASES = {"fp16": ("fp16", "f16"), "fp32": ("fp32", "f32")}


def needed(runtime: RuntimeName, quantisation: str, files: Sequence[WeightFile], *, projector: bool) -> Files:
    """Return the files that `runtime` loads of a repository; empty where it does not hold the weights.

    Args:
        runtime: Who loads them.
        quantisation: The variant's name: "q4_k_m", "bf16".
        files: The whole listing.
        projector: Whether a vision projector belongs to it.
    """
    rule = RULES.get(runtime, _transformers)
    return tuple(sorted(rule(tuple(files), quantisation, projector), key=lambda file: file.path))


def _gguf(files: Files, quantisation: str, projector: bool) -> Files:  # noqa: FBT001  # a rule's shape
    ggufs = [file for file in files if file.path.lower().endswith(".gguf")]
    projectors = [file for file in ggufs if "mmproj" in file.path.lower()]
    weights = [file for file in ggufs if "mmproj" not in file.path.lower()]
    named = [file for file in weights if _names(file.path, quantisation)]
    chosen = named or (weights if len({_SPLIT.sub("-pieces", one.path) for one in weights}) == 1 else [])
    groups: dict[str, list[WeightFile]] = {}
    for file in chosen:
        groups.setdefault(_SPLIT.sub("-pieces", file.path), []).append(file)
    best = min(groups, key=lambda name: (len(groups[name]), len(name), name), default=None)
    if best is None:
        return ()
    return (*groups[best], *(_projector(projectors) if projector else ()))


def _names(path: str, quantisation: str) -> bool:
    """Whether a file name carries the quantisation as a word of its own."""
    words = "|".join(map(re.escape, _ALIASES.get(quantisation, (quantisation,))))
    return re.search(rf"(^|[-._/])({words})([-._]|$)", path.lower()) is not None


def _projector(files: list[WeightFile]) -> Files:
    def rank(file: WeightFile) -> tuple[int, str]:
        found = (place for place, name in enumerate(_PROJECTORS) if _names(file.path, name))
        return next(found, len(_PROJECTORS)), file.path

    return (min(files, key=rank),) if files else ()


def _transformers(files: Files, _quantisation: str, _projector: bool) -> Files:  # noqa: FBT001  # the same
    """Take the safetensors once, what stands beside them, and sentence-transformers' modules."""
    root = [file for file in files if "/" not in file.path]
    weights = _first(root, _SHARDS, _CONSOLIDATED, _PICKLED)
    if not weights:
        return ()
    sharded = len(weights) > 1
    beside = [
        file
        for file in root
        if PurePosixPath(file.path).suffix in _BESIDE
        and (not _NOT_BESIDE.search(file.path) or (sharded and _is_index(file.path, weights)))
    ]
    modules = [file for file in files if _MODULE.match(file.path)]
    return (*weights, *beside, *_one_kind(modules))


def _is_index(path: str, weights: list[WeightFile]) -> bool:
    suffix = PurePosixPath(weights[0].path).suffix
    return path.endswith(f"{suffix}.index.json")


def _one_kind(modules: list[WeightFile]) -> list[WeightFile]:
    """Drop a module's pickled weights where it has safetensors too."""
    safe = {str(PurePosixPath(one.path).parent) for one in modules if one.path.endswith(".safetensors")}
    return [
        one
        for one in modules
        if not (one.path.endswith(".bin") and str(PurePosixPath(one.path).parent) in safe)
    ]


def _first(files: list[WeightFile], *patterns: re.Pattern[str]) -> list[WeightFile]:
    """Return the files that fit the first pattern that fits any."""
    found = ([file for file in files if pattern.fullmatch(file.path)] for pattern in patterns)
    return next((group for group in found if group), [])


def _ctranslate2(files: Files, _quantisation: str, _projector: bool) -> Files:  # noqa: FBT001  # the same
    chosen = tuple(file for file in files if _CT2.fullmatch(file.path))
    return chosen if any(file.path == "model.bin" for file in chosen) else ()


RULES: dict[RuntimeName, Rule] = {"llama.cpp": _gguf, "speaches": _ctranslate2}
"""All other runtimes load what transformers loads."""
