"""Texts of engines and registries → the error, and one plain clause."""

from __future__ import annotations

import pytest
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from tasks.effects.containers import EngineError
from tasks.effects.containers.docker_client import classified
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
from tasks.effects.containers.faults import NotRunningError, RemovingError, said

A = "sha256:" + "a" * 64
OCI = "OCI runtime create failed: runc create failed: "
SAID = [
    ("driver failed on endpoint x: Bind for 127.0.0.1:1 failed: port is already allocated", PortBusyError),
    ("Error starting userland proxy: listen tcp4 127.0.0.1:1: bind: address already in use", PortBusyError),
    ('could not select device driver "cdi" with capabilities: []', NoGpuError),
    ('could not select device driver "" with capabilities: [[gpu]]', NoGpuError),
    ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=9", NoGpuError),
    ("Unknown runtime specified nvidia", NoGpuError),
    ("unknown or invalid runtime name: nvidia", NoGpuError),
    (f"{OCI}nvidia-container-cli: initialization error: driver not loaded", NoGpuError),
    ('error gathering device information while adding custom device "/dev/x": no such file', NoGpuError),
    ('invalid mount config for type "bind": bind source path does not exist: /a/b', EngineError),
    ("container create: statfs /a/b: no such file or directory", EngineError),
    ("write /var/lib/docker/tmp/x: no space left on device", EngineError),
    (f"filesystem layer verification failed for digest {A}", ImageDamagedError),
    (
        f"failed commit on ref: unexpected commit digest {A}, expected {A}: failed precondition",
        ImageDamagedError,
    ),
    ("No such container: x", ContainerGoneError),
    ('no container with name or ID "x" found: no such container', ContainerGoneError),
    ("Container x is not running", NotRunningError),
    ("removal of container x is already in progress", RemovingError),
    (f"No such image: x@{A}", ImageMissingError),
    (f"manifest for x@{A} not found: manifest unknown: manifest unknown", ImageMissingError),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", ImageMissingError),
    ("unknown blob", ImageMissingError),
    ("pull access denied for x, repository does not exist or may require 'docker login'", ImageMissingError),
    ("unauthorized: authentication required", ImageMissingError),
    ("toomanyrequests: You have reached your pull rate limit", RegistryAwayError),
    ('Get "https://r/v2/": dial tcp: lookup r on 127.0.0.1:53: no such host', RegistryAwayError),
    ('Get "http://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused', RegistryAwayError),
    ('Get "https://r/v2/": net/http: TLS handshake timeout', RegistryAwayError),
    ('Get "https://r/v2/": EOF', RegistryAwayError),
    ("received unexpected HTTP status: 503 Service Unavailable", RegistryAwayError),
    ('Conflict. The container name "/x" is already in use by container "1"', NameTakenError),
    ("invalid reference format: repository name must be lowercase", EngineError),
    ("network 123 not found", EngineError),
    (f'{OCI}exec: "docker-init": executable file not found in $PATH', EngineError),
    (f'{OCI}exec: "x": executable file not found in $PATH: unknown', EngineError),
    ("client version 1.24 is too old. Minimum supported API version is 1.44", EngineError),
    ("something new", EngineError),
]


@pytest.mark.parametrize(("text", "error"), SAID, ids=[text[:40] for text, _error in SAID])
def test_each_text_is_one_kind(text: str, error: type[EngineError]) -> None:
    """Exactly that class, in a clause that fits into a sentence."""
    made = said(text)

    assert error is type(made)
    plain = str(made)
    assert 0 < len(plain) <= 200
    assert not plain.endswith(".")
    assert "{" not in plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Unknown runtime specified nvidia", "the engine has no runtime nvidia"),
        ("bind source path does not exist: /a/b", "the host has no /a/b to mount"),
        ("container create: statfs /a/b: no such file or directory", "the host has no /a/b to mount"),
        (
            'error gathering device information while adding custom device "/dev/kfd": no such file',
            "the host has no device /dev/kfd",
        ),
        (
            f'{OCI}exec: "docker-init": executable file not found in $PATH',
            "the engine has no init program; install tini or catatonit",
        ),
        ("something new\nwith more lines", "something new"),
        ("x" * 500, "x" * 199 + "…"),
        ("", "the container engine refuses without a word"),
    ],
)
def test_what_a_text_names_is_named(text: str, plain: str) -> None:
    """And what is not known is quoted, in one line."""
    assert plain == str(said(text))


@pytest.mark.parametrize(
    ("raised", "error", "plain"),
    [
        (NotFound("x", explanation="No such container: x"), ContainerGoneError, "the container is gone"),
        (APIError("x", explanation="port is already allocated"), PortBusyError, "127.0.0.1 is taken"),
        (requests.ConnectionError("Connection aborted."), EngineGoneError, "stopped answering"),
        (requests.ReadTimeout("Read timed out."), EngineGoneError, "does not answer in time"),
        (requests.exceptions.ChunkedEncodingError("x"), EngineGoneError, "stopped answering"),
        (urllib3.exceptions.ProtocolError("x"), EngineGoneError, "stopped answering"),
        (BrokenPipeError("x"), EngineGoneError, "stopped answering"),
        (
            DockerException("Error while fetching server API version: FileNotFoundError(2, 'No such')"),
            EngineGoneError,
            "socket is not there",
        ),
        (
            DockerException("Error while fetching server API version: PermissionError(13, 'denied')"),
            EngineError,
            "not readable for this user",
        ),
        (
            DockerException("Error while fetching server API version: 403 Client Error: Forbidden"),
            EngineError,
            "403 Client Error",
        ),
        (DockerException("Credentials store error"), EngineError, "Credentials store error"),
        (requests.exceptions.JSONDecodeError("x", "", 0), EngineError, "is not understood"),
        (KeyError("Id"), EngineError, "is not understood"),
        (TypeError("x"), EngineError, "is not understood"),
        (ImageMissingError("as it is"), ImageMissingError, "as it is"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_exception_is_one_kind(raised: Exception, error: type[EngineError], plain: str) -> None:
    """None of the SDK's, or of what is below it, comes through."""
    with pytest.raises(EngineError, match=plain) as seen, classified():
        raise raised

    assert error is seen.type


@pytest.mark.parametrize("bug", [ZeroDivisionError(), AssertionError()])
def test_our_own_mistakes_come_through(bug: Exception) -> None:
    """They are not the engine's."""
    with pytest.raises(type(bug)), classified():
        raise bug
