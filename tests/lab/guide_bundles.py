"""The recommendation guide's bundles, and what becomes of them when they are planned as they are written.

A role is planned twice: alone, and together with the rest of its bundle. As written means one model in one
quantisation, always in memory, with f16 KV; chat and code with the context that the guide names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from tasks.contracts import Catalogue, Decision, HostFacts, Need, OllamaTag, Plan, Role, StoreView, Wish
from tasks.detect.example import from_example
from tasks.plan.budget import Pools, pools
from tasks.plan.candidates import Maker
from tasks.plan.choose import Request, make_plan
from tasks.plan.explain import Explainer
from tasks.plan.fill import Board
from tasks.plan.search import solve
from tests.lab.bundles import ALL_OFFERS

CONTEXT = 32768


# --- what the guide writes -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Words:
    """The guide's own words for a role, and the model and quantisation that they mean."""

    role: Role
    written: str
    model: str = ""
    quantisation: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle of the guide, and the profiles whose example hosts it is planned on.

    `memory` begins a sentence about how much they have. `others` are what the guide allows in place of one.
    """

    title: str
    profiles: tuple[str, ...]
    memory: str
    words: tuple[Words, ...]
    others: tuple[Words, ...] = ()


QWEN_RERANKER = Words("reranker", "qwen-reranker-4b", "qwen3-reranker-4b", "bf16")
QWEN_VISION = Words("vision", "qwen2-vl-7b-instruct", "qwen2-vl-7b-instruct", "bf16")
BGE = Words("embeddings", "bge-large-en-v1.5", "bge-large-en-v1.5", "fp16")
BUNDLES = (
    Bundle("RTX 3090 Ti (24GB VRAM)", ("rtx-3090-ti",), "the card has", (
        Words("llm", "qwen2.5-32b-instruct-q4_k_m # Quantized for 24GB", "qwen2.5-32b-instruct", "q4_k_m"),
        Words("embeddings", "nomic-embed-text", "nomic-embed-text", "fp16"),
        QWEN_RERANKER,
        QWEN_VISION,
        Words("whisper", "faster-whisper-medium", "faster-whisper-medium", "fp16"),
    )),
    Bundle("RTX 4090/5090 (24-32GB VRAM)", ("rtx-4090", "rtx-5090"), "the card has", (
        Words("llm", "qwen2.5-32b-instruct # Full precision", "qwen2.5-32b-instruct", "bf16"),
        BGE,
        QWEN_RERANKER,
        QWEN_VISION,
        Words("code", "qwen2.5-coder-32b", "qwen2.5-coder-32b", "q4_k_m"),
    )),
    Bundle("Dual GPU / 48GB+ VRAM", ("dual-gpu",), "both cards together have", (
        Words("llm", "llama-3.3-70b-instruct # Or Qwen 72B", "llama-3.3-70b-instruct", "q4_k_m"),
        BGE,
        QWEN_RERANKER,
        Words("vision", "llava-1.6-34b", "llava-34b", "q4_0"),
        Words("code", "deepseek-coder-v2-instruct", "deepseek-coder-v2-236b", "q4_0"),
    ), (Words("llm", "Qwen 72B", "qwen2.5-72b-instruct", "q4_k_m"),)),
    Bundle("Jetson AGX Orin (32GB unified)", ("jetson",), "the memory that CPU and GPU share has", (
        Words("llm", "qwen2.5-7b-instruct # Smaller for edge", "qwen2.5-7b-instruct", "q4_k_m"),
        Words("embeddings", "all-MiniLM-L6-v2", "all-minilm-l6-v2", "fp16"),
        Words("reranker", "cross-encoder-ms-marco", "ms-marco-minilm-l6-v2", "fp32"),
        Words("vision", "florence-2", "florence-2-large", "fp16"),
        Words("whisper", "faster-whisper-small", "faster-whisper-small", "fp16"),
    )),
    Bundle("CPU-Only Deployment", ("cpu-only",), "main memory has", (
        Words("llm", "qwen2.5-7b-instruct-q4_0 # Heavy quantization", "qwen2.5-7b-instruct", "q4_0"),
        Words("embeddings", "all-MiniLM-L6-v2", "all-minilm-l6-v2", "fp32"),
        Words("reranker", "bge-reranker-base", "bge-reranker-base", "fp32"),
        Words("vision", "null # Cloud fallback"),
        Words("whisper", "faster-whisper-tiny", "faster-whisper-tiny", "fp16"),
    )),
)  # fmt: skip


# --- what becomes of it --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one role, together with the others and alone, and what its need is made of."""

    words: Words
    together: Decision
    alone: Decision
    need: Need | None = None


@dataclass(frozen=True)
class Planned:
    """A bundle on the example host of one profile, as it is written and as the program plans it."""

    shelf: Catalogue
    bundle: Bundle
    name: str

    @cached_property
    def facts(self) -> HostFacts:
        """The example host."""
        return from_example(self.shelf.profiles[self.name], host="the example host")

    @cached_property
    def pools(self) -> Pools:
        """Its memory, as far as the bundle may use it."""
        found = pools(self.facts, self.shelf.profiles[self.name].limits, Request(self.name))
        cards = tuple(one for one in found.pools if one.on_gpu)
        return Pools(cards) if cards else found

    @cached_property
    def instead(self) -> Plan:
        """The plan of the shipped profile."""
        return self._plan(self.shelf)

    @cached_property
    def written(self) -> Plan:
        """The plan of the bundle as it is written."""
        wishes = tuple(self.wish(one) for one in self.bundle.words)
        profile = msgspec.structs.replace(self.shelf.profiles[self.name], bundle=wishes)
        return self._plan(replace(self.shelf, profiles={**self.shelf.profiles, self.name: profile}))

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """What became of each role."""
        pairs = zip(self.bundle.words, self.written.decisions, strict=True)
        return tuple(
            self._alone(words, together) if words.model else Line(words, together, together)
            for words, together in pairs
        )

    @cached_property
    def others(self) -> tuple[Line, ...]:
        """What would become of the models that the guide allows in place of one, each alone."""
        return tuple(self._alone(words) for words in self.bundle.others)

    def wish(self, words: Words) -> Wish:
        """Return the wish for what is written, and nothing else."""
        if not words.model:
            return Wish(role=words.role, reason="the guide leaves it to a cloud service", may=())
        shipped = {one.role: one for one in self.shelf.profiles[self.name].bundle}
        context = CONTEXT if words.role in {"llm", "code"} else shipped[words.role].context
        return Wish(
            role=words.role,
            models=(words.model,),
            quantisations=(words.quantisation,),
            context=context,
            min_context=context,
            kv_types=("f16",),
            may=("cpu",) if self.name == "jetson" else (),
        )

    def _plan(self, shelf: Catalogue) -> Plan:
        request, store = Request(self.name), StoreView("", {})
        return make_plan(self.facts, shelf, offers=ALL_OFFERS, store=store, request=request)

    def _alone(self, words: Words, together: Decision | None = None) -> Line:
        """Plan a bundle of one role: whole, it would be refused where that role does not fit."""
        limits = self.shelf.profiles[self.name].limits
        maker = Maker(self.facts, self.shelf, self.pools, ALL_OFFERS, Request(self.name), limits)
        tables, board = (maker.table(self.wish(words)),), Board.of(self.pools.pools)
        choices = solve(tables, board)
        alone = Explainer(maker, tables, choices, board).decision(0)
        one = choices[0].candidate or next(iter(tables[0].candidates), None)
        if one is None:
            return Line(words, together or alone, alone)
        need = maker.need(one, context=one.contexts[0], kv_type="f16", parallel=tables[0].wish.parallel)
        return Line(words, together or alone, alone, need)


def numbers(decision: Decision) -> tuple[int, int]:
    """Return what a role needs and what is left for it: in the step that was taken, or in the first."""
    steps = [one for one in decision.steps if one.needs_bytes is not None]
    step = next((one for one in steps if one.taken), steps[0] if steps else None)
    return (step.needs_bytes or 0, step.left_bytes or 0) if step else (0, 0)


def files(shelf: Catalogue, words: Words) -> tuple[str, int, bool]:
    """Return where a model's files come from, their bytes, and whether those are estimated."""
    variant = shelf.models[words.model].variant(words.quantisation)
    if variant is None:
        raise AssertionError(f"{words.model} has no variant {words.quantisation}")
    origin = variant.origin(variant.runtimes[0]) if variant.runtimes else variant.repo
    if origin is None:
        raise AssertionError(f"{words.model} {words.quantisation} comes from nowhere")
    name = f"Ollama `{origin.tag}`" if isinstance(origin, OllamaTag) else f"`{origin.repo}`"
    return name, origin.size_bytes, getattr(origin, "size_basis", None) is not None
