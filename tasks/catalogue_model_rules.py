"""What the shape of a model in the catalogue cannot say: see catalogue_rules.py."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from tasks.catalogue_rules import BAD_NAME, BAD_SIZE, NAME, Problems, above_0, at_least_0, below, twice
from tasks.contracts import Attention, Model, OllamaTag, UnpinnedRepo, Variant, Weights

_VARIANT = re.compile(r"[a-z0-9_]+")
_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")

_NO_DIGEST = "a catalogue entry without a digest"


def model_problems(model: Model) -> Problems:
    """Yield what is wrong with a model."""
    if not NAME.fullmatch(model.name):
        yield ("name",), BAD_NAME
    yield from below(("roles",), twice(model.roles))
    if not model.unserved:
        yield from _missing(model)
    yield from above_0(model, "parameters", "active_parameters", "context", "dimensions", "max_tokens")
    if "embeddings" in model.roles and model.dimensions is None:
        yield ("name",), "a model for embeddings needs the field dimensions"
    if model.attention:
        yield from below(("attention",), _attention_problems(model.attention))
    yield from below(("variants",), twice((variant.name for variant in model.variants), "name"))
    for index, variant in enumerate(model.variants):
        yield from below(("variants", index), _variant_problems(variant, unserved=bool(model.unserved)))


def _missing(model: Model) -> Problems:
    """Yield what only a model that nothing serves may do without."""
    if not model.roles:
        yield ("roles",), "a model without a role needs the field unserved, which says why"
    if not model.variants:
        yield ("name",), "the model needs at least one variant, or the field unserved, which says why not"


def _attention_problems(attention: Attention) -> Problems:
    yield from above_0(
        attention, "layers", "kv_heads", "head_dim", "heads", "bytes_per_token", "window_tokens"
    )
    yield from at_least_0(attention, "windowed_layers", "recurrent_layers")
    if attention.windowed_layers + attention.recurrent_layers > attention.layers:
        yield ("layers",), "must not be less than windowed_layers and recurrent_layers together"
    if attention.windowed_layers and not attention.window_tokens:
        yield ("windowed_layers",), "layers with a window need the field window_tokens"
    if attention.window_tokens and not attention.windowed_layers:
        yield (
            ("window_tokens",),
            "a window needs the field windowed_layers, which counts the layers that have it",
        )


def _variant_problems(variant: Variant, *, unserved: bool) -> Problems:
    if not _VARIANT.fullmatch(variant.name):
        yield ("name",), "a variant's name is lower-case letters, digits and underscores"
    if not variant.runtimes and not unserved:
        yield (
            ("runtimes",),
            "there must be at least one runtime, or the model's field unserved, which says why not",
        )
    yield from below(("runtimes",), twice(variant.runtimes))
    for index, runtime in enumerate(variant.runtimes):
        if variant.origin(runtime) is None:
            needs = "the field ollama" if runtime == "ollama" else "the field weights or repo"
            yield ("runtimes", index), f'"{runtime}" needs {needs}'
    yield from _origin_problems(variant)
    yield from at_least_0(variant, "projector_bytes")
    sizes = [origin.size_bytes for origin in (variant.weights, variant.ollama, variant.repo) if origin]
    if sizes and variant.projector_bytes >= min(sizes):
        yield ("projector_bytes",), f"must be a part of the size, which is {min(sizes)}"
    if variant.memory:
        yield from below(("memory",), above_0(variant.memory, "value_bytes"))


def _origin_problems(variant: Variant) -> Problems:
    """Yield what is wrong with where the variant's bytes come from."""
    if variant.weights:
        yield from below(("weights",), _weights_problems(variant.weights))
    if variant.ollama:
        yield from below(("ollama",), _ollama_problems(variant.ollama))
    if variant.repo:
        yield from below(("repo",), _unpinned_problems(variant.repo))


def _weights_problems(weights: Weights) -> Problems:
    yield from _repo_problems(weights.repo, weights.revision)
    if not weights.files:
        yield ("files",), "there must be at least one file"
    yield from below(("files",), twice((file.path for file in weights.files), "path"))
    for index, file in enumerate(weights.files):
        yield from below(("files", index), _file_problems(file.path, file.size_bytes, file.sha256))
    if wheel := weights.wheel:
        problems = _file_problems(wheel.prefix, wheel.size_bytes, wheel.sha256, path="prefix")
        yield from below(("wheel",), problems)
        if len(PurePosixPath(wheel.filename).parts) != 1 or not wheel.filename.endswith(".whl"):
            yield ("wheel", "filename"), "must be the plain name of a .whl file"


def _file_problems(inside: str, size_bytes: int, sha256: str, *, path: str = "path") -> Problems:
    if _leads_out(inside):
        yield (path,), f'"{inside}" leads out of the folder'
    if size_bytes <= 0:
        yield ("size_bytes",), BAD_SIZE
    if not _SHA256.fullmatch(sha256):
        yield ("sha256",), "a sha256 is 64 lower-case hex digits" if sha256 else _NO_DIGEST


def _repo_problems(repo: str, revision: str | None) -> Problems:
    if not _REPO.fullmatch(repo):
        yield ("repo",), "a repo is written owner/name"
    if revision is not None and not _REVISION.fullmatch(revision):
        yield ("revision",), "a revision is 40 lower-case hex digits, not a branch or a tag"


def _ollama_problems(ollama: OllamaTag) -> Problems:
    yield from above_0(ollama, "size_bytes")
    if not (ollama.digest or ollama.unpinned):
        yield ("tag",), f"{_NO_DIGEST}, and without the field unpinned that says why"
    if ollama.digest and ollama.unpinned:
        yield ("unpinned",), "there is a digest, so there is nothing to excuse"
    if ollama.digest and not _SHA256.fullmatch(ollama.digest):
        yield ("digest",), "a digest is 64 lower-case hex digits"


def _unpinned_problems(unpinned: UnpinnedRepo) -> Problems:
    yield from _repo_problems(unpinned.repo, unpinned.revision)
    yield from above_0(unpinned, "size_bytes")
    if not unpinned.unpinned:
        yield ("unpinned",), f"{_NO_DIGEST}, and without a reason for it"


def _leads_out(path: str) -> bool:
    """Say whether a path inside a repository or wheel would leave the folder it is unpacked to."""
    parts = PurePosixPath(path).parts
    return not parts or parts[0] == "/" or ".." in parts or "\\" in path or "\0" in path
