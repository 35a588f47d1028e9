"""What Ollama calls a model, and where it keeps it. Pure.

qwen2.5:32b           -> registry.ollama.ai/library/qwen2.5:32b
user/model            -> registry.ollama.ai/user/model:latest
hf.co/user/repo:Q4_0  -> hf.co/user/repo:Q4_0

<models>/
manifests/<host>/<namespace>/<model>/<tag>    a host may hold a colon: "127.0.0.1:5000"
blobs/sha256-<hex>                            a layer
blobs/sha256-<hex>-partial                    one that is being fetched: sparse, of full length
blobs/sha256-<hex>-partial-<n>                how far part n of it is, as JSON
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import CatalogueError

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
SHORT_DIGITS = 12

_PART = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII),
}
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Name:
    """A model's full name."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """Return the name as Ollama lists it: the shortest that means the same."""
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"
        own = "" if self.namespace.lower() == DEFAULT_NAMESPACE else f"{self.namespace}/"
        return f"{own}{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """The name as it is compared: Ollama does not tell upper from lower case."""
        return str(self).lower()

    def manifest_path(self, models: Path) -> Path:
        """Return where Ollama keeps the manifest below its folder `models`."""
        return models / "manifests" / self.host / self.namespace / self.model / self.tag


def parse_name(text: str) -> Name:
    """Read a name as Ollama reads it: the host and the namespace may be left out, and the tag.

    Raises:
        CatalogueError: Ollama would refuse it, a name with a digest ("@sha256:...") among them.
    """
    rest, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        rest, tag = text, DEFAULT_TAG
    path, slash, model = rest.rpartition("/")
    host, has_host, namespace = path.rpartition("/")
    name = Name(host if has_host else DEFAULT_HOST, namespace if slash else DEFAULT_NAMESPACE, model, tag)
    for part, pattern in _PART.items():
        if not pattern.fullmatch(getattr(name, part)):
            raise CatalogueError(
                f"{text!r} is not a name that Ollama takes: {getattr(name, part)!r} cannot be its {part}",
                "nothing was asked for",
                "write it as model:tag, user/model:tag or hf.co/user/repo:quantisation",
            )
    return name


def blob_path(models: Path, digest: str) -> Path:
    """Return where Ollama keeps the bytes with this sha256 (64 hex digits) below its folder `models`."""
    return models / "blobs" / f"sha256-{digest}"


def is_digest(text: object) -> bool:
    """Whether this is a sha256 as 64 lower-case hex digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def short(digest: str) -> str:
    """Return the first digits of a digest, as Ollama shows it."""
    return digest[:SHORT_DIGITS]
