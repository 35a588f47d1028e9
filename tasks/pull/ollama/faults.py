"""What Ollama's error texts mean for us. Pure.

Ollama reports every fault of a pull as a line of text in an answer with status 200, so the text is
all there is. The table is read from the top; the first pattern that is found decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    ProvisionError,
    SourceRefusedError,
    SourceUnavailableError,
    StateFolderError,
)

INTACT = "what Ollama holds stays, and what was fetched is kept for the next try"
SHOWN_CHARACTERS = 300
SEARCHED_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of error. `what` may hold {tag}, the model, and {said}, Ollama's own words."""

    pattern: re.Pattern[str]
    error: type[ProvisionError]
    what: str
    then: str


def _fault(pattern: str, error: type[ProvisionError], what: str, then: str) -> Fault:
    return Fault(re.compile(pattern, re.IGNORECASE), error, what, then)


FAULTS: tuple[Fault, ...] = (
    _fault(
        r"no space left on device|disk quota exceeded",
        NoRoomError,
        "the disk of Ollama's models is full while it pulls {tag} ({said})",
        "make room there, or point OLLAMA_MODELS to a larger disk",
    ),
    _fault(
        r"digest mismatch",
        DigestMismatchError,
        "the library sent other bytes for {tag} than its manifest names ({said})",
        "pull again, or compare the pin with the library",
    ),
    _fault(
        r"permission denied|read-only file system|ensure path elements are traversable",
        StateFolderError,
        "Ollama cannot write its folder of models for {tag} ({said})",
        "give the user that Ollama runs as write permission there",
    ),
    _fault(
        r"manifest: file does not exist|manifest unknown|manifest: 404",
        SourceRefusedError,
        "the Ollama library has no {tag}",
        "correct the tag in the catalogue",
    ),
    _fault(
        r"manifest: 412|newer version of Ollama",
        SourceRefusedError,
        "this Ollama is too old for {tag}",
        "update Ollama, then run it again",
    ),
    _fault(
        r"HTTP response to HTTPS client|does not look like a TLS handshake",
        SourceRefusedError,
        "the registry of {tag} speaks http, and Ollama asked it by https",
        "write the registry's address with the scheme that it speaks",
    ),
    _fault(
        r"no Location header",
        SourceRefusedError,
        "the registry of {tag} gives its blobs itself, and Ollama takes them only from another host name",
        "use a registry that redirects its blobs",
    ),
    _fault(
        r"MLX support|MLX runtime",
        SourceRefusedError,
        "{tag} needs the MLX runtime, which this Ollama does not have",
        "choose a tag with GGUF weights",
    ),
    _fault(
        r"invalid model name|name .* is invalid|insecure protocol",
        SourceRefusedError,
        "Ollama does not take the name {tag} ({said})",
        "correct the tag in the catalogue",
    ),
    _fault(
        r"unauthorized|access denied|\b40[13]:",
        SourceRefusedError,
        "the library does not open {tag} to this Ollama ({said})",
        "give Ollama's key access to it, or choose another tag",
    ),
    _fault(
        r"x509:|certificate",
        SourceRefusedError,
        "Ollama does not trust the library's certificate for {tag} ({said})",
        "give Ollama your proxy's certificate",
    ),
    _fault(
        r"llama-quantize unavailable",
        SourceRefusedError,
        "this Ollama lacks llama-quantize, without which it makes no {tag}",
        "install Ollama with all its files",
    ),
    _fault(
        r"not in GGUF format|validate GGUF|unknown type|no files provided|invalid digest|must be relative",
        SourceRefusedError,
        "Ollama cannot make {tag} of these files ({said})",
        "check that they are GGUF files",
    ),
    _fault(
        r"context deadline exceeded|max retries exceeded|\b429\b",
        SourceUnavailableError,
        "the library does not give Ollama the blobs of {tag} ({said})",
        "wait a little, then run it again",
    ),
    _fault(
        r"",
        SourceUnavailableError,
        "Ollama could not pull {tag} ({said})",
        "check Ollama's network and its log, then run it again",
    ),
)


def explain(said: str, tag: str) -> ProvisionError:
    """Return the error that Ollama's words about the model `tag` stand for."""
    # The kind of an error stands at its beginning or, behind a path, at its end.
    searched = f"{said[:SEARCHED_CHARACTERS]}\n{said[-SEARCHED_CHARACTERS:]}"
    fault = next(fault for fault in FAULTS if fault.pattern.search(searched))
    return fault.error(fault.what.format(tag=tag, said=plain(said)), INTACT, fault.then)


def plain(said: str) -> str:
    """Return a text of somebody else on one line, cut where it gets long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in said[: 4 * SHOWN_CHARACTERS]).split())
    cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
    return cut or "without a reason"


def no_answer(url: str, why: str) -> SourceUnavailableError:
    """Return the error of an Ollama server that does not answer."""
    return SourceUnavailableError(
        f"Ollama at {url} does not answer ({why})", INTACT, "check that it runs, then run it again"
    )
