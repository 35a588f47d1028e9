"""One container engine and one registry for all tests, and an image that plays TensorZero's."""

from __future__ import annotations

from tests.lab.engine_fixtures import busybox_image, containers, engine_lab, registry_lab
from tests.lab.gateway_image import gateway_image

__all__ = ["busybox_image", "containers", "engine_lab", "gateway_image", "registry_lab"]
