"""An image that plays tensorzero/gateway with the real wheel inside, made of what this machine has.

As the real one (gateway/Dockerfile of the release): a shell and wget, an ordinary user, /app as its folder,
`gateway` as its entrypoint, no command.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contracts import ToolImage
from tasks.effects.containers.docker import Docker
from tests.lab import images
from tests.lab.engine import EngineLab
from tests.lab.engine_fixtures import nothing
from tests.lab.engine_registry import RegistryLab

REPOSITORY, TAG = "lab/gateway", "2026.6.0"
PACKAGES = ("tensorzero", "starlette", "uvicorn", "h11", "msgspec", "tomlkit")
START = '#!/bin/sh\nexec python3 /opt/program/gateway_program.py "$@"\n'


def push_gateway(registry: RegistryLab) -> str:
    """Push the image; return it, pinned."""
    program = Path(__file__).with_name("gateway_program.py").read_bytes()
    return registry.push(
        REPOSITORY,
        [
            images.busybox_layer(),
            images.python_layer(),
            images.packages_layer(*PACKAGES),
            images.program_layer(),
            images.files_layer(
                {"opt/program/gateway_program.py": program, "usr/bin/gateway": START.encode()}
            ),
        ],
        tag=TAG,
        environment=images.PYTHON_ENVIRONMENT,
        Entrypoint=["gateway"],
        User="server",
        WorkingDir="/tmp",  # noqa: S108  # inside
    )


def tool_image(pinned: str) -> ToolImage:
    """Return what a catalogue says of the image."""
    repository, _, digest = pinned.partition("@")
    return ToolImage(
        name="gateway",
        repository=repository,
        tag=TAG,
        port=3000,
        size_bytes=100_000_000,
        size_basis="made by the tests",
        digest=digest,
    )


@pytest.fixture(scope="session")
def gateway_image(engine_lab: EngineLab, registry_lab: RegistryLab) -> ToolImage:
    """Return the image, which the engine has."""
    pinned = push_gateway(registry_lab)
    docker = Docker(engine_lab.address, "lab")
    docker.pull(pinned, on_bytes=nothing)
    docker.close()
    return tool_image(pinned)
