"""Images that are no model servers', pinned and pulled as those of servers are."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import msgspec
import pytest

from tasks.contracts import Event, ToolImage
from tasks.effects.containers.engine import EngineGoneError, ImageDamagedError
from tasks.effects.containers.memory import MemoryEngine
from tasks.effects.containers.pins import fetch, pinned, read_pins
from tasks.errors import ImageRefusedError, ImageUnavailableError, ServeError, StoppedError

IMAGE = ToolImage(
    name="gateway",
    repository="tensorzero/gateway",
    tag="2026.6.0",
    port=3000,
    size_bytes=500,
    size_basis="made up",
    unpinned="made up",
)
REFERENCE = "tensorzero/gateway:2026.6.0"


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    """Return where digests are kept; nothing is there yet."""
    return tmp_path / "state" / "images.lock.json"


def test_a_digest_of_the_catalogue_asks_nobody(pins: Path) -> None:
    """And is not kept: the catalogue has it."""
    engine = MemoryEngine()
    image = msgspec.structs.replace(IMAGE, digest=f"sha256:{'a' * 64}")

    assert f"tensorzero/gateway@sha256:{'a' * 64}" == pinned(image, engine, pins)
    assert [] == engine.calls
    assert not pins.exists()


def test_a_host_stays_with_its_first_digest(pins: Path) -> None:
    """Whatever the registry says of the tag later."""
    engine = MemoryEngine()
    reference = engine.offer(REFERENCE)
    told: list[Event] = []

    assert reference == pinned(IMAGE, engine, pins)
    assert fetch(IMAGE, reference, engine, pins, sink=told.append)
    engine.tags[REFERENCE] = f"sha256:{'b' * 64}"

    assert reference == pinned(IMAGE, engine, pins)
    assert not fetch(IMAGE, reference, engine, pins)
    assert {REFERENCE: reference.partition("@")[2]} == json.loads(pins.read_text())
    assert {f"image {REFERENCE}"} == {one.subject for one in told}
    assert ("pulled", told[-1].total_bytes) == (told[-1].message, told[-1].done_bytes)


def test_a_pull_that_failed_pins_nothing(pins: Path) -> None:
    """What the registry had then may be another image the next time."""
    engine = MemoryEngine()
    reference = engine.offer(REFERENCE)
    engine.fail("pull", EngineGoneError("it went away"))

    with pytest.raises(
        ImageUnavailableError, match=rf"^the image {REFERENCE} cannot be had \(it went away\); "
    ):
        fetch(IMAGE, reference, engine, pins)

    assert {} == read_pins(pins)


@pytest.mark.parametrize(
    ("named_in", "then"),
    [({}, r"profiles/routing\.yaml"), ({"named_in": "profiles/images.yaml"}, r"profiles/images\.yaml")],
)
def test_an_image_that_nobody_has(pins: Path, named_in: dict[str, str], then: str) -> None:
    """It is said in which file its name stands."""
    with pytest.raises(ImageRefusedError, match=then):
        pinned(IMAGE, MemoryEngine(), pins, **named_in)


def test_a_damaged_image(pins: Path) -> None:
    """Another try is worth it once."""
    engine = MemoryEngine()
    reference = engine.offer(REFERENCE)
    engine.fail("pull", ImageDamagedError("the image's bytes are not those of its digest"))

    with pytest.raises(ImageRefusedError, match="something on the way changes the bytes"):
        fetch(IMAGE, reference, engine, pins)


def test_a_pull_that_is_stopped(pins: Path) -> None:
    """Nothing is pinned."""
    engine = MemoryEngine()
    reference = engine.offer(REFERENCE)
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        fetch(IMAGE, reference, engine, pins, stop=stop)

    assert not pins.exists()


@pytest.mark.parametrize("text", ["no json", '{"a": 1}'])
def test_a_damaged_lock_file_is_named(pins: Path, text: str) -> None:
    """Nothing is guessed."""
    pins.parent.mkdir()
    pins.write_text(text)

    with pytest.raises(ServeError, match=r"images\.lock\.json, which pins the images of this host"):
        pinned(IMAGE, MemoryEngine(), pins)


def test_a_lock_file_that_cannot_be_written(pins: Path) -> None:
    """It is said where."""
    engine = MemoryEngine()
    reference = engine.offer(REFERENCE, here=True)
    pins.parent.write_text("a file where a folder is wanted")

    with pytest.raises(ServeError, match=r"images\.lock\.json"):
        fetch(IMAGE, reference, engine, pins)
