"""One container engine and one registry for all tests."""

from __future__ import annotations

from tests.lab.engine_fixtures import (
    busybox_image,
    containers,
    embedded_image,
    engine_lab,
    python_image,
    registry_lab,
)

__all__ = ["busybox_image", "containers", "embedded_image", "engine_lab", "python_image", "registry_lab"]
