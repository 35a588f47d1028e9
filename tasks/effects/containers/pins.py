"""Images as a catalogue names them -> images on the engine, pinned by digest.

A digest comes from the catalogue, else from what this host pulled first (`images.lock.json`), else from the
registry, once. From then on the host stays with it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import msgspec

from tasks.contracts import Event, Sink, silent
from tasks.effects.containers.engine import (
    Engine,
    EngineGoneError,
    ImageDamagedError,
    ImageMissingError,
)
from tasks.effects.containers.info import EngineError
from tasks.effects.files import write_atomic
from tasks.errors import ImageRefusedError, ImageUnavailableError, ServeError

LOCK = threading.Lock()
INTACT = "what ran before still runs"
IMAGES_FILE, ROUTING_FILE = "profiles/images.yaml", "profiles/routing.yaml"


class Pinnable(Protocol):
    """What a catalogue says of an image: `Image` and `ToolImage` are such."""

    @property
    def repository(self) -> str:
        """Where it comes from."""

    @property
    def tag(self) -> str:
        """Its release."""

    @property
    def digest(self) -> str | None:
        """Its digest ("sha256:…"), where the catalogue pins it."""

    @property
    def size_bytes(self) -> int:
        """About how much is pulled."""


def reference_of(image: Pinnable) -> str:
    """Return the image as an engine is asked for it, without its digest."""
    return f"{image.repository}:{image.tag}"


def read_pins(path: Path) -> dict[str, str]:
    """Return the digests that this host resolved, by "repository:tag".

    Raises:
        ServeError: the file is there and cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ServeError(
            f"{path}, which pins the images of this host, cannot be read ({error})",
            INTACT,
            "correct it, or remove it: the digests are then resolved again",
        ) from None


def pinned(image: Pinnable, engine: Engine, pins: Path, *, named_in: str = ROUTING_FILE) -> str:
    """Return an image with its digest, "repository@sha256:…"; a registry is asked only for the first time.

    Raises:
        ImageUnavailableError, ImageRefusedError: no digest is known, and no registry tells one.
    """
    digest = image.digest or read_pins(pins).get(reference_of(image))
    if digest is None:
        try:
            digest = engine.digest_of(reference_of(image))
        except EngineError as error:
            raise unavailable(image, error, named_in=named_in) from error
    return f"{image.repository}@{digest}"


def fetch(  # noqa: PLR0913  # an image, where it goes, and who watches
    image: Pinnable,
    reference: str,
    engine: Engine,
    pins: Path,
    *,
    sink: Sink = silent,
    stop: threading.Event | None = None,
    named_in: str = ROUTING_FILE,
) -> bool:
    """Pull a pinned image when it is not here, and pin it; return whether it was pulled.

    Raises:
        ImageUnavailableError: it cannot be had now.
        ImageRefusedError: there is none, or its bytes are not what its digest says.
        StoppedError: the run was asked to stop.
    """
    try:
        here = engine.has_image(reference)
        if not here:
            telling = _Telling(image, sink)
            engine.pull(reference, on_bytes=telling, stop=stop)
            telling.end()
    except EngineError as error:
        raise unavailable(image, error, named_in=named_in) from error
    pin(image, reference, pins)
    return not here


class _Telling:
    """Tells how far the pull of an image is."""

    def __init__(self, image: Pinnable, sink: Sink) -> None:
        self._subject = f"image {reference_of(image)}"
        self._sink = sink
        self._total = image.size_bytes
        sink(Event("pull", self._subject, "asking its registry"))

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        # An engine tells the size of a layer when it begins with it: the total grows, and may not be reached
        # before.
        self._total = max(self._total, total_bytes, done_bytes + 1)
        self._sink(Event("pull", self._subject, "pulling", done_bytes, self._total))

    def end(self) -> None:
        """Say that it is here."""
        self._sink(Event("pull", self._subject, "pulled", self._total, self._total))


def pin(image: Pinnable, reference: str, path: Path) -> None:
    """Keep the digest of an image that the catalogue does not pin.

    Raises:
        ServeError: it cannot be written down.
    """
    digest = reference.partition("@")[2]
    if image.digest:
        return
    with LOCK:
        pins = read_pins(path)
        if pins.get(reference_of(image)) == digest:
            return
        try:
            write_atomic(path, msgspec.json.encode({**pins, reference_of(image): digest}).decode() + "\n")
        except OSError as error:
            raise ServeError(
                f"{path}, which pins the images of this host, cannot be written ({error.strerror})",
                INTACT,
                "give this user the right to write there, then run `pmoves provision` again",
            ) from error


def unavailable(image: Pinnable, error: EngineError, *, named_in: str) -> ServeError:
    """Return the error for an image that cannot be had; `named_in` is the file of the catalogue."""
    then = "check the network of the engine, then run `pmoves provision` again"
    if isinstance(error, ImageMissingError):
        then = f"check the image's name in {named_in}, or remove its line from images.lock.json"
    elif isinstance(error, ImageDamagedError):
        then = "run `pmoves provision` again; if it stays so, something on the way changes the bytes"
    what = f"the image {reference_of(image)} cannot be had ({error})"
    kind = ImageUnavailableError if isinstance(error, EngineGoneError) else ImageRefusedError
    return kind(what, INTACT, then)
