"""The library's manifest of a tag: its digest is what a pin names, its layers are what a pull fetches.

Nothing in the API of Ollama pins a digest, so the manifest is read before a pull, and its raw bytes are
hashed: sha256 over them is what Ollama lists as the digest of the model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from threading import Event
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import orjson

from tasks.errors import SourceRefusedError, SourceUnavailableError
from tasks.pull.claim import stopped
from tasks.pull.ollama.exchange import Ask, BrokenExchangeError, Exchange, address, client
from tasks.pull.ollama.faults import INTACT, plain
from tasks.pull.ollama.names import DEFAULT_HOST, Name

ACCEPT = "application/vnd.docker.distribution.manifest.v2+json"
LARGEST_MANIFEST_BYTES = 4 << 20
LARGEST_LAYER_BYTES = 1 << 50
ANSWER_S = 30.0

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model: its digest is 64 hex digits, without "sha256:"."""

    media_type: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tag is made of. `digest` is the sha256 of `raw`; the config is the last of `layers`."""

    name: Name
    digest: str
    raw: bytes
    layers: tuple[Layer, ...]

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size of each blob in bytes, by digest, in the order in which Ollama fetches them."""
        return {layer.digest: layer.size_bytes for layer in self.layers}

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all blobs."""
        return sum(self.sizes.values())


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a name is pulled from. `remote` is what Ollama must be asked for, `base` ends in "/v2/".

    Ollama has no setting for a mirror: it takes a model from the host in its name. So a tag that another
    registry gives is pulled under that registry's name, and `remote` differs from the name that is wanted.
    """

    base: str
    remote: Name
    insecure: bool

    @property
    def manifest_url(self) -> str:
        """The address of the manifest."""
        name = self.remote
        return f"{self.base}{name.namespace}/{name.model}/manifests/{name.tag}"


def origin(name: Name, registry: str) -> Origin:
    """Return where `name` is pulled from.

    Args:
        name: The model. One that names a host of its own is pulled from there, unless `registry` is a mirror.
        registry: "https://registry.ollama.ai/v2/" or the address of a registry that stands in for it.

    Raises:
        SettingsError: `registry` is not an address.
    """
    at = address(registry)
    if at.netloc.lower() == DEFAULT_HOST and at.scheme == "https":
        return Origin(f"https://{name.host}/v2/", name, insecure=False)
    base = f"{registry.rstrip('/').removesuffix('/v2')}/v2/"
    return Origin(base, replace(name, host=at.netloc), insecure=at.scheme == "http")


def fetch(name: Name, registry: str, *, stop: Event, answer_s: float = ANSWER_S) -> Manifest:
    """Ask for the manifest of `name`; `answer_s` is for the whole answer.

    Raises:
        SourceUnavailableError: the registry does not answer, or asks to come back later.
        SourceRefusedError: it has no such tag, does not give it, or gives no manifest.
        StoppedError: `stop` was set.
    """
    where = origin(name, registry)
    host = urlsplit(where.base).netloc
    try:
        status, raw = _get(where.manifest_url, str(name), stop, answer_s)
    except BrokenExchangeError as error:
        raise SourceUnavailableError(
            f"the Ollama library at {host} does not answer ({error})",
            INTACT,
            "check the network, then run it again",
        ) from None
    if status != HTTPStatus.OK:
        raise _refusal(name, host, status)
    return parse_manifest(name, raw)


def _get(url: str, subject: str, stop: Event, answer_s: float) -> tuple[int, bytes]:
    status, raw = 0, b""
    end = monotonic() + answer_s
    ask = Ask("GET", url, headers={"Accept": ACCEPT})
    with client(url) as asking, Exchange(asking, ask) as exchange:
        for piece in exchange.arriving():
            if stop.is_set():
                raise stopped(subject)
            if monotonic() > end:
                raise BrokenExchangeError(f"no whole answer within {answer_s:g} s")
            if isinstance(piece, bytes):
                raw += piece
            elif piece is not None:
                status = piece
            if len(raw) > LARGEST_MANIFEST_BYTES:
                break
    return status, raw


def _refusal(name: Name, host: str, status: int) -> SourceUnavailableError | SourceRefusedError:
    if status == HTTPStatus.NOT_FOUND:
        what = f"the Ollama library has no {name}"
        return SourceRefusedError(what, INTACT, "correct the tag in the catalogue")
    phrase = next((f"{known.value} {known.phrase}" for known in HTTPStatus if known == status), str(status))
    what = f"the Ollama library at {host} answered {phrase} for {name}"
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return SourceUnavailableError(what, INTACT, "wait a little, then run it again")
    return SourceRefusedError(what, INTACT, "check the registry's address and the tag")


def parse_manifest(name: Name, raw: bytes) -> Manifest:
    """Read a manifest. Every digest and size in it is checked before it becomes a path or a sum.

    Raises:
        SourceRefusedError: it is not the manifest of a model.
    """
    if len(raw) > LARGEST_MANIFEST_BYTES:
        raise _odd(name, f"it is longer than {LARGEST_MANIFEST_BYTES} bytes")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise _odd(name, f"it begins {plain(raw[:40].decode(errors='replace'))!r}") from None
    if not isinstance(body, dict) or not isinstance(body.get("layers"), list) or not body["layers"]:
        raise _odd(name, "it lists no layers")
    layers = tuple(_layers(name, body))
    sizes = {(layer.digest, layer.size_bytes) for layer in layers}
    if len(sizes) != len({digest for digest, _ in sizes}):
        raise _odd(name, "it gives one blob two sizes")
    return Manifest(name, hashlib.sha256(raw).hexdigest(), raw, layers)


def _layers(name: Name, body: Mapping[str, Any]) -> Iterator[Layer]:
    config = body.get("config")
    has_config = isinstance(config, dict) and config.get("digest")
    for entry in (*body["layers"], *([config] if has_config else [])):
        digest, size, media = (
            (entry.get("digest"), entry.get("size"), entry.get("mediaType"))
            if isinstance(entry, dict)
            else (None, None, None)
        )
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise _odd(name, f"{plain(str(digest))!r} is not a digest")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST_LAYER_BYTES:
            raise _odd(name, f"{plain(str(size))!r} is not a size")
        yield Layer(plain(str(media or "")), digest.removeprefix("sha256:"), size)


def _odd(name: Name, why: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"what the Ollama library gives for {name} is not a model's manifest: {why}",
        INTACT,
        "check the registry's address and your proxy",
    )
