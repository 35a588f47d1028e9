"""The shapes of profiles/probes/*.yaml: questions, and what is expected of the answers.

Numbers are whole, so percent and millionths stand for parts of one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tasks.contracts import Role, Shape


class Question(Shape, frozen=True):
    """A question in words. `expected` is for people; `accepts` is a pattern that the whole answer must match.

    The pattern is a Python regular expression, without regard to case.
    """

    ask: str
    expected: str
    accepts: str


class ChatProbe(Shape, frozen=True):
    """Short questions to a chat model, of `max_tokens` each, thoughts included; and one to measure with."""

    questions: tuple[Question, ...]
    max_tokens: int
    measure: str
    measure_tokens: int = 128


class Fact(Shape, frozen=True):
    """A sentence that is hidden in a long text, and what of it must be in the answer."""

    text: str
    answer: str


class ContextProbe(Shape, frozen=True):
    """A long text with a fact at its start and one near its end, and the question for both.

    The text fills `least_percent` of the planned context or more. Where that would take longer than
    `budget_s`, a shorter one is asked, and the server's own word stands for the rest.
    """

    first: Fact
    last: Fact
    ask: str
    max_tokens: int = 64
    least_percent: int = 90
    budget_s: int = 120


class EmbeddingsProbe(Shape, frozen=True):
    """Two pairs of texts that mean the same; between the pairs there is nothing in common.

    `margin_percent` is how much nearer (cosine) they are within the pairs than between. `prefix` is what the
    model wants before each text. The tolerances are for the vector of a text that is asked for twice, and
    alone and among others.
    """

    pairs: tuple[tuple[str, str], tuple[str, str]]
    margin_percent: int
    prefix: str = ""
    unit_norm: bool = False
    same_millionths: int = 1000
    batch_millionths: int = 5000


class Search(Shape, frozen=True):
    """A query, and the place (from 0) of the one document that answers it."""

    query: str
    right: int


class RerankerProbe(Shape, frozen=True):
    """Queries over the same documents.

    The right one must lead all others by `margin_percent` hundredths where the scores are probabilities (all
    between 0 and 1), and by `logit_percent` hundredths where they are not.
    """

    documents: tuple[str, ...]
    searches: tuple[Search, ...]
    margin_percent: int
    logit_percent: int


class Colour(Shape, frozen=True):
    """A colour as six hex digits, and the pattern of the words for it."""

    name: str
    rgb: str
    accepts: str


class Named(Shape, frozen=True):
    """A shape or a word, and the pattern of the words for it."""

    name: str
    accepts: str


class VisionProbe(Shape, frozen=True):
    """Pictures of a coloured shape above a printed word, and what is asked about them.

    Each seed chooses one picture. An answer must name the right one of all choices, and no other.
    """

    seeds: tuple[int, ...]
    colours: tuple[Colour, ...]
    shapes: tuple[Named, ...]
    words: tuple[Named, ...]
    ask_colour: str | None = None
    ask_shape: str | None = None
    ask_word: str | None = None
    max_tokens: int = 256


class Spoken(Shape, frozen=True):
    """What is said in a recording until `until_ms`, or in all of it."""

    text: str
    until_ms: int | None = None


class WhisperProbe(Shape, frozen=True):
    """A recording below profiles/probes/assets, what it says, and how many words of it may be wrong."""

    recording: str
    language: str
    says: tuple[Spoken, ...]
    wrong_percent: int


class Call(Shape, frozen=True):
    """A call of the function that was asked for, and the value that it must return."""

    arguments: tuple[Any, ...]
    returns: Any


class CodeTask(Shape, frozen=True):
    """A small function that is asked for in words, and the calls that check it."""

    ask: str
    function: str
    calls: tuple[Call, ...]


class CodeProbe(Shape, frozen=True):
    """Functions that a coding model writes."""

    tasks: tuple[CodeTask, ...]
    max_tokens: int


class ProbeFile(Shape, frozen=True):
    """The questions for one role. `models` are names or patterns ("qwen3-*"); empty is every model.

    A file with models replaces the general one for these.
    """

    role: Role
    models: tuple[str, ...] = ()
    chat: ChatProbe | None = None
    code: CodeProbe | None = None
    embeddings: EmbeddingsProbe | None = None
    reranker: RerankerProbe | None = None
    vision: VisionProbe | None = None
    whisper: WhisperProbe | None = None
    context: ContextProbe | None = None


msgspec.json.Decoder(ProbeFile)
"""Made before threads begin: two that use a shape for the first time at once can crash msgspec."""
