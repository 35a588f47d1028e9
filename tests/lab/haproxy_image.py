"""An image with this system's HAProxy, in place of the official one, which tests cannot have."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tasks.contracts import ToolImage
from tasks.route.proxy.haproxy_starter import found
from tests.lab import images
from tests.lab.engine_registry import RegistryLab

REPOSITORY = "lab/haproxy"


def program_layer(program: Path) -> bytes:
    """Return a layer with the program, and the libraries that it needs."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add(program.resolve(), "usr/sbin/haproxy", filter=images._plain)
        images._add_libraries(tar, [program])
    return made.getvalue()


def pushed(registry: RegistryLab) -> ToolImage:
    """Return the image, which the registry has now."""
    program = found()
    if program is None:
        pytest.skip("HAProxy is not installed (apt install haproxy)")
    layers = [images.busybox_layer(), program_layer(program)]
    reference = registry.push(REPOSITORY, layers, command=("sh",), environment=("PATH=/usr/sbin:/bin",))
    repository, _, digest = reference.partition("@")
    return ToolImage("haproxy", repository, "1", 8080, 10_000_000, "a test", digest=digest)
