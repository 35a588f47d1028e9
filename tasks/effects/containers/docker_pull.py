"""One pull: the engine's stream of events → progress, and an error that says what is wrong.

The engine tells of errors inside a stream that began as a success, and of a stall not at all. So the stream
is read in a thread, and the caller's thread watches the clock and the stop signal. To leave a pull is to
close its connection: the engine then ends it, too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks.effects.containers.engine import EngineGoneError, OnBytes
from tasks.effects.containers.faults import said
from tasks.errors import StoppedError

Event = dict[str, Any]
Heard = queue.Queue[Event | Exception | None]

MOST_LINE_BYTES = 1 << 20
MOST_LAYERS = 512
MOST_RESTARTS = 10
POLL_S = 0.1
STAGES = (
    "pulling fs layer",
    "waiting",
    "downloading",
    "verifying checksum",
    "download complete",
    "extracting",
    "pull complete",
    "already exists",
)
TAG_ROOT = "pmoves.local"


def local_tag(image: str) -> tuple[str, str]:
    """Return the repository and the tag by which a pinned image is kept: a prune takes untagged ones."""
    repository, _, digest = image.partition("@")
    slug = re.sub(r"[^a-z0-9]+", "-", repository.lower()).strip("-")
    return f"{TAG_ROOT}/{slug}", digest.removeprefix("sha256:")[:12]


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield the JSON objects among lines; what is none is left out, however long it is."""
    kept = b""
    skipping = False
    for chunk in chunks:
        *lines, kept = (kept + chunk).split(b"\n")
        for line in lines:
            if not skipping:
                yield from _event(line)
            skipping = False
        if len(kept) > MOST_LINE_BYTES:
            kept, skipping = b"", True
    if not skipping:
        yield from _event(kept)


def _event(line: bytes) -> Iterator[Event]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            yield found


@dataclass(slots=True)
class Layer:
    """How far one layer is: at which stage, and how many bytes into it."""

    done_bytes: int = 0
    total_bytes: int = 0
    place: tuple[int, int] = (-1, 0)
    furthest: tuple[int, int] = (-1, 0)
    restarts: int = 0

    def hear(self, stage: int, current: int, total: int) -> bool:
        """Take in an event; return whether something moved.

        A layer that begins again moves, too, but not for ever.
        """
        if stage == STAGES.index("downloading"):
            self.done_bytes, self.total_bytes = current, max(total, current)
        elif stage >= STAGES.index("download complete"):
            self.done_bytes = self.total_bytes
        place = (stage, current)
        self.restarts += place < self.place
        moved = place > (self.place if self.restarts <= MOST_RESTARTS else self.furthest)
        self.place, self.furthest = place, max(self.furthest, place)
        return moved


@dataclass(slots=True)
class Progress:
    """What a pull's events add up to."""

    layers: dict[str, Layer] = field(default_factory=dict)
    digest: str = ""

    def hear(self, event: Event) -> bool:
        """Take in one event; return whether it shows progress.

        Raises:
            EngineError: or the subclass for what the event says went wrong.
        """
        wrong = event.get("error") or event.get("errorDetail")
        if wrong:
            raise said(str(wrong.get("message") if isinstance(wrong, dict) else wrong))
        status, layer_id = str(event.get("status", "")), str(event.get("id", ""))
        if status.startswith("Digest: "):
            self.digest = status.removeprefix("Digest: ").strip()
        stage = status.lower()
        if stage not in STAGES or (layer_id not in self.layers and len(self.layers) >= MOST_LAYERS):
            return False
        told = event.get("progressDetail")
        current, total = _numbers(told) if isinstance(told, dict) else (0, 0)
        return self.layers.setdefault(layer_id, Layer()).hear(STAGES.index(stage), current, total)

    @property
    def bytes(self) -> tuple[int, int]:
        """How many are here, and of how many, as far as the engine has told."""
        layers = self.layers.values()
        return sum(one.done_bytes for one in layers), sum(one.total_bytes for one in layers)


def _numbers(told: dict[str, Any]) -> tuple[int, int]:
    found = (told.get("current"), told.get("total"))
    current, total = (one if isinstance(one, int) and one > 0 else 0 for one in found)
    return current, total


def follow(
    begin: Callable[[], Iterable[bytes]],
    leave: Callable[[], None],
    *,
    on_bytes: OnBytes,
    stop: threading.Event | None,
    quiet_s: float,
) -> Progress:
    """Follow a pull to its end.

    Args:
        begin: Starts it, and returns what the engine streams; called in a thread of its own.
        leave: Ends it from outside, so that a blocked reader wakes.
        on_bytes: Hears of the progress.
        stop: Ends it when it is set.
        quiet_s: How long nothing may move.

    Raises:
        EngineError: whatever `begin` and the stream raise, and what the events say.
        StoppedError: `stop` was set.
    """
    heard: Heard = queue.Queue(maxsize=1000)
    left = threading.Event()
    threading.Thread(target=_read, args=(begin, heard, left, leave), name="image pull", daemon=True).start()
    try:
        return _watch(heard, on_bytes, stop, quiet_s)
    finally:
        left.set()
        leave()


def _read(
    begin: Callable[[], Iterable[bytes]],
    heard: Heard,
    left: threading.Event,
    leave: Callable[[], None],
) -> None:
    last: Exception | None = None
    try:
        for event in events(itertools.takewhile(lambda _chunk: not left.is_set(), begin())):
            if not _tell(heard, event, left):
                break
    except Exception as error:  # noqa: BLE001  # it is raised again in the caller's thread
        last = error
    if not _tell(heard, last, left):
        leave()


def _tell(heard: Heard, what: Event | Exception | None, left: threading.Event) -> bool:
    """Hand something to the caller's thread; return False when that one has left."""
    while not left.is_set():
        with contextlib.suppress(queue.Full):
            heard.put(what, timeout=POLL_S)
            return True
    return False


def _watch(
    heard: Heard,
    on_bytes: OnBytes,
    stop: threading.Event | None,
    quiet_s: float,
) -> Progress:
    progress, moved_at = Progress(), time.monotonic()
    while True:
        if stop is not None and stop.is_set():
            raise StoppedError("the pull of an image was stopped", "finished layers stay", "run it again")
        if time.monotonic() - moved_at > quiet_s:
            raise EngineGoneError(f"the pull did not move for {quiet_s:.0f} s")
        try:
            event = heard.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if event is None:
            return progress
        if isinstance(event, Exception):
            raise event
        if progress.hear(event):
            moved_at = time.monotonic()
            on_bytes(*progress.bytes)


def wake(fileno: int) -> None:
    """End both directions of a connection that another thread reads; closing it would wait for the reader."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
