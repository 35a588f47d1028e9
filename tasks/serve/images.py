"""Images of the plan -> images on the engine, pinned by digest, for several servers at once."""

from __future__ import annotations

from pathlib import Path

from tasks.contracts import Image
from tasks.effects.containers import pins as shared
from tasks.effects.containers.engine import Engine
from tasks.effects.containers.pins import IMAGES_FILE, pin, read_pins
from tasks.serve.context import ServeContext

__all__ = ["ensure", "pin", "pinned", "read_pins"]


def pinned(image: Image, pins: Path, engine: Engine) -> str:
    """Return an image with its digest, "repository@sha256:…"; a registry is asked only for the first time.

    Raises:
        ImageUnavailableError, ImageRefusedError: no digest is known, and no registry tells one.
    """
    return shared.pinned(image, engine, pins, named_in=IMAGES_FILE)


def ensure(image: Image, reference: str, ctx: ServeContext) -> bool:
    """Pull a pinned image when it is not here, and pin it; return whether it was pulled.

    Raises:
        ImageUnavailableError: it cannot be had now.
        ImageRefusedError: there is none, or its bytes are not what its digest says.
        StoppedError: the run was asked to stop.
    """
    held = ctx.containers
    assert held is not None  # noqa: S101  # images are for containers
    # Servers of one image ask for it at the same time: the first pulls, the others find it here.
    with held.lock_of(reference):
        return shared.fetch(
            image,
            reference,
            held.engine,
            held.pins,
            sink=ctx.sink,
            stop=ctx.stop,
            named_in=IMAGES_FILE,
        )
