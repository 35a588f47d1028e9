"""A store, a hub that misbehaves, and what has to hold after every pull, however it ended."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.contracts import PulledModel, Weights
from tasks.errors import ProvisionError, StoppedError
from tasks.pull.download import pull
from tasks.pull.fetch.blocks import BLOCK_BYTES
from tasks.pull.fetch.engine import Fetching, fetch
from tasks.pull.fetch.item import Wanted
from tasks.pull.fetch.line import Line
from tasks.pull.fetch.web import StatusError, Web, Wires
from tasks.pull.sources import Hub, PullContext, Source
from tests.lab.hub import REVISION, HubLab
from tests.lab.weights import Watcher, contents, pinned, planned, staging_folders, wait_for

BIG = "model.safetensors"
BIG_BYTES = 35 * BLOCK_BYTES + 12_345
FILES = {
    BIG: random.Random(3).randbytes(BIG_BYTES),  # noqa: S311  # any bytes will do
    "config.json": b'{"hidden_size": 384}\n',
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}\n',
}
SIZE_BYTES = sum(map(len, FILES.values()))
SNAPSHOT = f"models--org--name/snapshots/{REVISION}"
WIRES = Wires(connect_s=2.0, read_s=5.0)
OURS = ("fetch ", "digest of ", "sync")


@dataclass
class Store:
    """A store that is filled from one hub."""

    path: Path
    endpoint: str
    files: dict[str, bytes] = field(default_factory=lambda: FILES)
    watcher: Watcher = field(default_factory=Watcher)
    token: str | None = None

    def pull(self, *more: Source, weights: Weights | None = None, **changes: Any) -> PulledModel:  # noqa: ANN401
        """Pull from the hub and then from `more`; `changes` are fields of the context."""
        context = PullContext(endpoint=self.endpoint, wires=WIRES, sink=self.watcher, quiet_s=20.0)
        sources = (Hub("hub", self.endpoint, self.token), *more)
        wanted = weights or pinned(self.files)
        return pull(planned(wanted), self.path, replace(context, **changes), sources=sources)

    def fails(self, **changes: Any) -> ProvisionError:  # noqa: ANN401
        """Pull, and return the error that comes; it is one sentence, and the store is in order."""
        with pytest.raises(ProvisionError) as caught:
            self.pull(**changes)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600
        self.check()
        return caught.value

    @property
    def visible(self) -> dict[str, bytes]:
        """What readers of the store find."""
        return contents(self.path / SNAPSHOT)

    @property
    def parts(self) -> list[str]:
        """The kinds of files that lie in the folder of parts."""
        return sorted(path.suffix for path in (self.path / "models--org--name/.pmoves/parts").glob("*"))

    def check(self) -> None:
        """Nothing unverified is visible, no part without journal, and nothing still runs or is open."""
        assert self.visible.items() <= self.files.items()
        assert staging_folders(self.path) == []
        assert self.parts.count(".part") == self.parts.count(".journal")
        wait_for(lambda: not threads(), what=f"the end of {threads()}", deadline_s=15)
        assert open_below(self.path) == []

    def is_whole(self) -> None:
        """All is there, and nothing beside it."""
        self.check()
        assert self.visible == self.files
        assert self.parts == []


@dataclass
class Beside:
    """A pull in a thread of its own."""

    store: Store
    changes: dict[str, Any]
    pulled: PulledModel | None = None
    error: ProvisionError | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True, name="beside")
        self.thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        try:
            self.pulled = self.store.pull(stop=self.stop, **self.changes)
        except ProvisionError as error:
            self.error = error
        self.seconds = time.monotonic() - started

    def end(self) -> PulledModel:
        """Wait for its good end."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self.pulled is not None
        return self.pulled

    def is_stopped(self) -> float:
        """Stop it, and return how many seconds that took."""
        started = time.monotonic()
        self.stop.set()
        self.thread.join(60)
        assert isinstance(self.error, StoppedError)
        return time.monotonic() - started


def threads() -> list[str]:
    """Return the threads of the engine that live."""
    return [one.name for one in threading.enumerate() if one.name.startswith(OURS)]


def open_below(folder: Path) -> list[str]:
    """Return the files below a folder that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


def wanted_of(files: dict[str, bytes], endpoint: str, folder: Path) -> list[Wanted]:
    """Return what the engine is asked for, without a store."""
    made = []
    for name, data in files.items():
        sha256 = hashlib.sha256(data).hexdigest()
        url = f"{endpoint}/org/name/resolve/{REVISION}/{name}"
        made.append(Wanted(name, url, len(data), f"sha256:{sha256}", folder / f"{sha256}.part"))
    return made


def fetched(wanted: list[Wanted], **changes: Any) -> tuple[int, dict[str, bytes]]:  # noqa: ANN401
    """Run the engine alone, and return the bytes that crossed and the files as they were handed on."""

    def explain(error: StatusError, one: Wanted) -> ProvisionError:
        raise AssertionError(f"{error.reason} for {one.path}")

    got: dict[str, bytes] = {}

    def keep(one: Wanted, digest: str) -> None:
        assert one.digest.endswith(digest)
        got[one.path] = one.part.read_bytes()

    given = Fetching(Web(WIRES), Line(), explain, lambda _done, _note: None, quiet_s=20.0)
    return fetch(wanted, replace(given, **changes), keep), got


def refetched(hub: HubLab, size_bytes: int = SIZE_BYTES) -> int:
    """Return how many bytes of files the hub sent more than once."""
    return hub.sent_bytes - size_bytes
