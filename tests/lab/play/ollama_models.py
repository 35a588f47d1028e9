"""What the play Ollama knows of its models, and which of them are loaded, with what context and where."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import gguf_head
from .command import say
from .faults import Faults, Knobs, Refused
from .ollama_store import Store, Wanted

FOREVER_S = 1e9
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DEFAULT_CONTEXT = 4096
DIMENSIONS = 768
SEES = re.compile(r"vl\b|vl\d|[-_]vl|vision|llava|minicpm-v|moondream|ocr", re.IGNORECASE)
"""Stands for the keys of a GGUF file that a lab's few bytes do not have."""


@dataclass(frozen=True)
class Model:
    """A model of the folder."""

    name: Wanted
    digest: str
    path: Path
    size_bytes: int
    parameters: Mapping[str, Any]
    parent: str
    head: Mapping[str, Any]
    config: Mapping[str, Any]
    layers: Mapping[str, Path]

    @property
    def architecture(self) -> str:
        """Its architecture."""
        return str(self.head.get("general.architecture", "llama"))

    def number(self, key: str, default: int) -> int:
        """Return a number of its architecture's."""
        return int(self.head.get(f"{self.architecture}.{key}", default))

    @property
    def capabilities(self) -> list[str]:
        """What it can do (server/images.go, Capabilities)."""
        if f"{self.architecture}.pooling_type" in self.head or "bert" in self.architecture:
            return ["embedding"]
        sees = "projector" in self.layers or bool(SEES.search(self.name.model))
        return ["completion", "vision"] if sees else ["completion"]

    @classmethod
    def read(cls, store: Store, name: Wanted) -> Model:
        """Read it from the folder."""
        manifest = store.read(name)
        layers = {one["mediaType"].rpartition(".")[2]: one for one in manifest["layers"]}
        paths = {kind: store.blob(one["digest"]) for kind, one in layers.items()}
        path = paths.get("model", Path())
        params = json.loads(paths["params"].read_bytes()) if "params" in paths else {}
        try:
            head = gguf_head.read(path)
        except (OSError, ValueError):
            head = {}
        config = store.blob(manifest["config"]["digest"])
        return cls(
            name,
            hashlib.sha256(store.manifest(name).read_bytes()).hexdigest(),
            path,
            int(layers.get("model", {}).get("size", 0)),
            params,
            str(layers.get("model", {}).get("from", "")),
            head,
            json.loads(config.read_bytes()) if config.exists() else {},
            paths,
        )


@dataclass
class Loaded:
    """A model in memory."""

    model: Model
    context: int
    gpu_layers: int
    size_bytes: int
    vram_bytes: int
    stay_s: float
    used: float

    @property
    def ends(self) -> float:
        """When it goes, on the monotonic clock."""
        return self.used + self.stay_s


class Memory:
    """The models that are loaded."""

    def __init__(self, environment: Mapping[str, str], knobs: Knobs, faults: Faults) -> None:
        self.knobs, self.faults = knobs, faults
        self.context = _number(environment, "OLLAMA_CONTEXT_LENGTH", 0) or DEFAULT_CONTEXT
        self.parallel = max(1, _number(environment, "OLLAMA_NUM_PARALLEL", 1))
        self.most = _number(environment, "OLLAMA_MAX_LOADED_MODELS", 0) or 3
        self.stay_s = duration(environment.get("OLLAMA_KEEP_ALIVE", "5m"), 300.0)
        self.loaded: dict[Wanted, Loaded] = {}
        self.lock = threading.RLock()
        self.loading = threading.RLock()

    def bring(self, model: Model, options: Mapping[str, Any], keep_alive: object) -> Loaded:
        """Return the model, loaded with these options; loading takes its time and may fail."""
        with self.loading:  # only one loads at a time, and nobody who looks waits for it
            self.expire()
            context, layers = self._wanted(model, options)
            stay_s = self.stay_s if keep_alive is None else duration(keep_alive, self.stay_s)
            found = self.loaded.get(model.name)
            if found is None or (found.context, found.gpu_layers, found.model.digest) != (
                context,
                layers,
                model.digest,
            ):
                self.unload(model.name)
                self._make_room()
                found = self._load(model, context, layers)
                with self.lock:
                    self.loaded[model.name] = found
            found.stay_s, found.used = stay_s, time.monotonic()
            return found

    def unload(self, name: Wanted) -> None:
        """Let a model go."""
        with self.lock:
            self.loaded.pop(name, None)

    def expire(self) -> None:
        """Let go whose time is over."""
        with self.lock:
            for name, one in list(self.loaded.items()):
                if one.ends < time.monotonic():
                    del self.loaded[name]

    def _wanted(self, model: Model, options: Mapping[str, Any]) -> tuple[int, int]:
        given = {**model.parameters, **options}
        context = int(given.get("num_ctx") or self.context)
        small = self.faults.take("small-context")
        layers = int(given.get("num_gpu", -1))
        return min(int(small) if small else context, model.number("context_length", 1 << 20)), layers

    def _make_room(self) -> None:
        while len(self.loaded) >= self.most:
            self.unload(min(self.loaded, key=lambda name: self.loaded[name].used))

    def _load(self, model: Model, context: int, layers: int) -> Loaded:
        if not model.path.is_file():
            raise Refused(500, {"error": f"open {model.path}: no such file or directory"})
        slow = self.faults.take("slow-load")
        time.sleep(self.knobs.load_s if slow is None else float(slow or 1))
        if self.faults.has("cuda-oom"):
            text = "llama runner process has terminated: cudaMalloc failed: out of memory"
            raise Refused(500, {"error": text})
        blocks = model.number("block_count", 32)
        kv_bytes = 2 * blocks * model.number("attention.head_count_kv", 0) * 128 * context * self.parallel * 2
        size = model.path.stat().st_size + kv_bytes
        vram = size if self.knobs.gpu and layers else 0
        if self.faults.has("cpu"):
            vram = 0
        elif self.faults.has("half"):
            vram = size // 2
        done = (blocks + 1) * vram // max(size, 1)
        say(f"load_tensors: offloaded {done}/{blocks + 1} layers to GPU")
        return Loaded(model, context, layers, size, vram, self.stay_s, time.monotonic())


def duration(value: object, default: float) -> float:
    """Read how long a model stays: a number of seconds, or a text like "5m"; below 0 is forever."""
    if isinstance(value, (int, float)):
        return FOREVER_S if value < 0 else float(value)
    text = str(value)
    if re.fullmatch(r"-?\d+", text):
        return FOREVER_S if text.startswith("-") else float(text)
    parts = re.findall(r"([\d.]+)(ns|us|ms|s|m|h)", text)
    if not parts or "".join(a + b for a, b in parts) != text.lstrip("-"):
        say(f'level=WARN msg="invalid environment variable, using default" value={text}')
        return default
    return FOREVER_S if text.startswith("-") else sum(float(a) * UNITS[b] for a, b in parts)


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    """Read a number; one that is none is logged, and the default goes (envconfig/config.go)."""
    text = environment.get(name, "")
    if text and not text.isdigit():
        say(f'level=WARN msg="invalid environment variable, using default" key={name} value={text}')
        return default
    return int(text or default)
