"""What an engine or a registry says when it fails → the error that a caller can act on.

Texts differ between engines and their versions, so each row lists all that were seen. A row's sentence may
name what the pattern found. Nothing else here knows those texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.effects.containers.engine import (
    ContainerGoneError,
    EngineGoneError,
    ImageDamagedError,
    ImageMissingError,
    NameTakenError,
    NoGpuError,
    PortBusyError,
    RegistryAwayError,
)
from tasks.effects.containers.info import EngineError

MOST_CHARS = 200


class NotRunningError(EngineError):
    """Raised when a container does not run, and what is asked of it needs that."""


class RemovingError(EngineError):
    """Raised when a container is being removed already."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of failure: what its text holds, the error, and the clause that people read."""

    pattern: re.Pattern[str]
    error: type[EngineError]
    plain: str


def _row(pattern: str, error: type[EngineError], plain: str) -> Row:
    return Row(re.compile(pattern, re.IGNORECASE | re.DOTALL), error, plain)


ROWS = (
    _row(
        r"port is already allocated|address already in use|ports? are not available",
        PortBusyError,
        "the port on 127.0.0.1 is taken",
    ),
    _row(
        r"could not select device driver \"cdi\"|CDI (?:support|device)|cdi.*(?:unresolvable|not enabled)",
        NoGpuError,
        "the engine does not know the CDI devices",
    ),
    _row(
        r"could not select device driver|nvidia-container-cli|libnvidia|NVML",
        NoGpuError,
        "the engine cannot hand out GPUs",
    ),
    _row(
        r"unknown runtime specified (\S+)|unknown or invalid runtime name:? (\S+)",
        NoGpuError,
        "the engine has no runtime {0}",
    ),
    _row(
        r"gathering device information[^\"]*\"(?P<path>/[^\"]+)\"|stat(?:ing device)? (/dev/[^\s:]+)",
        NoGpuError,
        "the host has no device {0}",
    ),
    _row(
        r"docker-init|catatonit|init binary",
        EngineError,
        "the engine has no init program; install tini or catatonit",
    ),
    _row(
        r"bind source path does not exist: (\S+)|stat(?:fs)? (/\S+?):? no such file",
        EngineError,
        "the host has no {0} to mount",
    ),
    _row(
        r"no space left on device|disk quota exceeded",
        EngineError,
        "the disk of the container engine is full",
    ),
    _row(
        r"layer verification failed|digest mismatch|image verification failed|unexpected commit digest"
        r"|does not match (?:expected )?digest|invalid checksum digest|manifest verification failed"
        r"|gzip: invalid|zstd: invalid|invalid tar header|checksum error|unexpected end of file|corrupt",
        ImageDamagedError,
        "the image's bytes are not those of its digest",
    ),
    _row(r"no such container|no container with name or id", ContainerGoneError, "the container is gone"),
    _row(r"is not running|can only .{0,40}running containers", NotRunningError, "the container does not run"),
    _row(r"removal of container|marked for removal", RemovingError, "the container is being removed"),
    _row(r"no such image|image not known", ImageMissingError, "the engine does not have the image"),
    _row(
        r"no matching manifest|does not match the specified platform",
        ImageMissingError,
        "the registry does not have the image for this kind of processor",
    ),
    _row(
        r"pull access denied",
        ImageMissingError,
        "the registry does not have the image, or does not give it without a login",
    ),
    _row(
        r"manifest unknown|name unknown|manifest for .* not found|unknown blob|blob unknown"
        r"|not found: does not exist|repository does not exist|repository .* not found|no such manifest",
        ImageMissingError,
        "the registry does not have the image, or a part of it",
    ),
    _row(
        r"unauthorized|authentication required|access denied|access to the resource is denied|no basic auth",
        ImageMissingError,
        "the registry does not give the image without a login",
    ),
    _row(
        r"toomanyrequests|too many requests|rate limit",
        RegistryAwayError,
        "the registry gives no more for now, because too much was asked of it",
    ),
    _row(
        r"no such host|name resolution|server misbehaving",
        RegistryAwayError,
        "the registry's name cannot be looked up",
    ),
    _row(
        r"dial tcp|tls handshake|i/o timeout|context deadline|request canceled|connection reset|\bEOF\b"
        r"|unexpected http status|received unexpected|pinging (?:container )?registry|server gave http"
        r"|bad gateway|service unavailable|x509",
        RegistryAwayError,
        "the registry does not answer as it should",
    ),
    _row(
        r"^not found$|page not found",
        EngineError,
        "the container engine does not know the request; podman, for one, asks no registry for a digest",
    ),
    _row(r"already in use by", NameTakenError, "another container has the name"),
    _row(r"invalid reference format|invalid repository name", EngineError, "it is no image's name"),
    _row(
        r"network \S+ not found|no such network|unable to find network",
        EngineError,
        "the container's network is gone; make the container again",
    ),
    _row(
        r"executable file not found|no such file or directory.*OCI|OCI runtime.*(?:no such file|not found)",
        EngineError,
        "the image does not have the program that it should run",
    ),
    _row(
        r"client version \S+ is too (?:old|new)|API versions? below",
        EngineError,
        "the engine is of another age than this program",
    ),
)

GONE = (
    ("PermissionError", EngineError, "the container engine's socket is not readable for this user"),
    ("FileNotFoundError", EngineGoneError, "the container engine's socket is not there"),
    ("ConnectionRefused", EngineGoneError, "nothing listens on the container engine's socket"),
    ("imed out", EngineGoneError, "the container engine does not answer in time"),
    ("", EngineGoneError, "the container engine stopped answering"),
)


def said(text: str) -> EngineError:
    """Return the error for what an engine says about one request; its own words when they are not known."""
    for row in ROWS:
        found = row.pattern.search(text)
        if found:
            named = next((one for one in found.groups() if one), "")
            return row.error(row.plain.format(named.rstrip(".:,\"'")))
    return EngineError(shortened(text) or "the container engine refuses without a word")


def gone(text: str) -> EngineError:
    """Return the error for a connection that broke, or was never made."""
    return next(error(plain) for part, error, plain in GONE if part in text)


def shortened(text: str) -> str:
    """Return the first line of a text, in a length that fits into a sentence."""
    line = " ".join((text.strip().splitlines() or [""])[0].split())
    return line if len(line) <= MOST_CHARS else f"{line[: MOST_CHARS - 1]}…"
