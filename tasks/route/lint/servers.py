"""Addresses, kinds and limits of model servers that load and then fail, or that a server does not read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from tasks.route.lint.look import Hit, Look, Place, Table, entries, text

SHORTHAND = re.compile(r"anthropic::(.+)")
KNOWN_ANTHROPIC = re.compile(r"claude-(3|sonnet-4|haiku-4-5|opus-4)")
"""Models whose limit TensorZero has in a list (crates/tensorzero-core/src/providers/anthropic.rs)."""

OPENAI_LIKE = frozenset(("openai", "vllm", "sglang", "tgi"))
HTTP = frozenset(("http", "https"))
_VERSION = re.compile(r"v\d+\w*")
_ENDPOINT = re.compile(r"/(chat/completions|completions|embeddings|messages|responses)/?$")
_OLLAMA_PORT = 11434


def addresses(look: Look) -> Iterator[Hit]:
    """Find addresses that no request can be sent to."""
    for place, provider in look.providers():
        address = text(provider, "api_base")
        where = (*place, "api_base")
        if address.startswith("env::"):
            what = "an address is taken as it stands and not from a variable, so each request fails"
            yield Hit(where, what, "write the address itself")
        elif address and _parts(address).scheme not in HTTP:
            what = f"{address!r} is no http address, so each request fails"
            yield Hit(where, what, "write it with http:// or https://")
        elif found := _ENDPOINT.search(_parts(address).path):
            what = f"TensorZero adds the path of each request itself, so none arrives behind {found[0]!r}"
            yield Hit(where, what, f"take {found[0]!r} off its end")


def versions(look: Look) -> Iterator[Hit]:
    """Find addresses of OpenAI-like servers that do not end where these have their API."""
    for place, provider in look.providers():
        address = text(provider, "api_base")
        parts = _parts(address)
        if text(provider, "type") not in OPENAI_LIKE or parts.scheme not in HTTP:
            continue
        if not any(_VERSION.fullmatch(part) for part in parts.path.split("/")):
            what = (
                f"{address!r} has no /v1, below which Ollama and most servers have this API, and answers 404"
            )
            yield Hit((*place, "api_base"), what, f'write "{address.rstrip("/")}/v1/"')


def sglang(look: Look) -> Iterator[Hit]:
    """Find the kind of provider whose broken streams never end."""
    for place, provider in look.providers():
        if text(provider, "type") == "sglang":
            what = "a stream that breaks off sends TensorZero 2026.6.0 into a loop that fills its log"
            yield Hit((*place, "type"), what, 'write type = "openai", which SGLang answers as well')


def anthropic(look: Look) -> Iterator[Hit]:
    """Find variants without max_tokens whose Anthropic model TensorZero has no limit for."""
    for place, variant in look.variants():
        if "max_tokens" in variant:
            continue
        for name in _anthropic_names(look, variant):
            if not KNOWN_ANTHROPIC.match(name):
                what = f"TensorZero knows no limit for {name}, so each request without max_tokens fails"
                yield Hit(place, what, "set max_tokens")


def ignored_cap(look: Look) -> Iterator[Hit]:
    """Find caps that Ollama does not read: TensorZero sends another name for them."""
    for place, variant in look.variants():
        if "max_tokens" not in variant or _has_own_cap(variant):
            continue
        for where, provider in entries(look.model_of(variant), "providers"):
            if text(provider, "type") == "openai" and _like_ollama(where, provider):
                what = "max_tokens is sent as max_completion_tokens, which Ollama does not read"
                yield Hit((*place, "max_tokens"), what, _own_cap(variant))
                break


def _parts(address: str) -> SplitResult:
    """Take an address apart; all parts are empty where it is none, as with a bracket that nothing closes."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _anthropic_names(look: Look, variant: Table) -> Iterator[str]:
    if match := SHORTHAND.fullmatch(text(variant, "model")):
        yield match[1]
    for _, provider in entries(look.model_of(variant), "providers"):
        if text(provider, "type") == "anthropic":
            yield text(provider, "model_name")


def _like_ollama(where: Place, provider: Table) -> bool:
    parts = _parts(text(provider, "api_base"))
    try:
        port = parts.port
    except ValueError:
        port = None
    return port == _OLLAMA_PORT or "ollama" in f"{parts.hostname} {where[-1]}".lower()


def _has_own_cap(variant: Table) -> bool:
    body = variant.get("extra_body")
    return isinstance(body, list) and any(
        isinstance(one, dict) and one.get("pointer") == "/max_tokens" for one in body
    )


def _own_cap(variant: Table) -> str:
    return f'write extra_body = [{{ pointer = "/max_tokens", value = {variant.get("max_tokens")} }}] instead'
