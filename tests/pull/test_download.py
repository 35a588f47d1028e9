"""A pull fetches what is missing from the first source that gives the right bytes, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from tasks.contracts import PulledModel, WeightFile, Weights
from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    ProvisionError,
    SourceRefusedError,
    SourceUnavailableError,
    StoppedError,
)
from tasks.pull.claim import refused, unavailable
from tasks.pull.download import pull
from tasks.pull.fetch.partial import Partial
from tasks.pull.sources import Job, PullContext, Source
from tasks.pull.store import part_path
from tests.lab.hub import REVISION
from tests.lab.weights import (
    BIG,
    FILES,
    REPO,
    SIZE_BYTES,
    Watcher,
    contents,
    fill,
    pin,
    pinned,
    planned,
    staging_folders,
)

SNAPSHOT = f"models--org--name/snapshots/{REVISION}"


@dataclass
class FakeSource:
    """A source that does `before`, gives `files`, does `then`, and remembers what it was asked for."""

    NAME: str = "fake"
    files: dict[str, bytes] = field(default_factory=lambda: FILES)
    before: Callable[[], object] = lambda: None
    then: Callable[[], object] = lambda: None
    room: int = 0
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def room_bytes(self, _weights: Weights, _files: tuple[WeightFile, ...]) -> int:
        """Return the room that it is said to need."""
        return self.room

    def fetch(self, job: Job) -> int:
        """Deliver what there is."""
        self.asked.append(tuple(file.path for file in job.files))
        self.before()
        sent = 0
        for file in job.files:
            if file.path in self.files:
                (job.folder / "part").write_bytes(self.files[file.path])
                job.deliver(file, job.folder / "part")
                sent += len(self.files[file.path])
        self.then()
        return sent


def failing(error: ProvisionError) -> Callable[[], None]:
    """Return something that raises `error`."""

    def fail() -> None:
        raise error

    return fail


def run(cache: Path, *sources: Source, ctx: PullContext | None = None) -> PulledModel:
    """Pull the lab's weights."""
    return pull(planned(pinned()), cache, ctx or PullContext(), sources=sources)


def test_fetches_what_is_missing(tmp_path: Path) -> None:
    """An empty store is filled, and the record says by whom and how much."""
    pulled = run(tmp_path, FakeSource())

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert (pulled.source, pulled.fetched_bytes, pulled.snapshot) == (
        "fake",
        SIZE_BYTES,
        str(tmp_path / SNAPSHOT),
    )
    assert (pulled.change.resource, pulled.change.kind) == ("weights lab", "create")
    assert pulled.change.reason == "fetched 2.9 MiB from fake"


def test_second_pull_does_nothing(tmp_path: Path) -> None:
    """A complete store asks no source and changes no file."""
    run(tmp_path, FakeSource())
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    source = FakeSource()

    pulled = run(tmp_path, source)

    assert source.asked == []
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert (pulled.change.kind, pulled.change.reason) == ("keep", "3 files, 2.9 MiB, digests match")
    assert (pulled.source, pulled.fetched_bytes) == ("", 0)


def test_asks_only_for_what_is_missing(tmp_path: Path) -> None:
    """Files that are there are not fetched again."""
    fill(tmp_path / SNAPSHOT, {BIG: FILES[BIG]})
    source = FakeSource()

    run(tmp_path, source)

    assert source.asked == [("config.json", "1_Pooling/config.json")]


def test_damage_is_replaced_and_said(tmp_path: Path) -> None:
    """A damaged file is fetched again; the change says which one and what was wrong."""
    fill(tmp_path / SNAPSHOT, FILES | {"config.json": b"short"})

    pulled = run(tmp_path, FakeSource())

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert pulled.change.kind == "replace"
    assert pulled.change.reason == (
        "config.json was damaged (5 bytes instead of 21); fetched 21 bytes from fake"
    )


def test_next_source_when_one_is_down(tmp_path: Path) -> None:
    """The second source is asked when the first does not answer; the reason is kept and told."""
    watcher = Watcher()
    down = FakeSource("first", {}, then=failing(unavailable("does not answer")))

    pulled = run(tmp_path, down, FakeSource("second"), ctx=PullContext(sink=watcher))

    assert pulled.change.reason == "fetched 2.9 MiB from second; first: does not answer"
    assert watcher.messages == [
        "asking first for 3 files, 2.9 MiB",
        "first: does not answer",
        "asking second for 3 files, 2.9 MiB",
        "fetched 2.9 MiB from second",
    ]


def test_next_source_when_bytes_are_wrong(tmp_path: Path) -> None:
    """Wrong bytes of one source are thrown away, and the next source is asked."""
    lying = FakeSource("lying", FILES | {BIG: bytes(len(FILES[BIG]))})

    pulled = run(tmp_path, lying, FakeSource("honest"))

    assert contents(tmp_path / SNAPSHOT) == FILES
    assert pulled.source == "honest"
    assert "lying: model.safetensors came with sha256" in pulled.change.reason


def test_files_of_a_broken_pull_are_kept(tmp_path: Path) -> None:
    """What a source gave before it broke off stays, and the next is asked for the rest only."""
    half = FakeSource("half", {"config.json": FILES["config.json"]}, then=failing(unavailable("broke off")))
    rest = FakeSource("rest")

    pulled = run(tmp_path, half, rest)

    assert rest.asked == [("1_Pooling/config.json", BIG)]
    assert pulled.fetched_bytes == SIZE_BYTES


def test_source_that_forgets_a_file(tmp_path: Path) -> None:
    """A source that returns without all files counts as failed."""
    forgetful = FakeSource("forgetful", {BIG: FILES[BIG]})

    with pytest.raises(SourceRefusedError, match="forgetful: it did not give config"):
        run(tmp_path, forgetful)


@pytest.mark.parametrize(
    ("errors", "kind", "retryable"),
    [
        ((unavailable("away"), refused("no")), SourceUnavailableError, True),
        ((refused("no"), unavailable("away")), SourceUnavailableError, True),
        ((refused("no"), DigestMismatchError("wrong", "kept", "look")), DigestMismatchError, False),
        ((refused("no"), refused("never")), SourceRefusedError, False),
    ],
)
def test_all_sources_fail(
    tmp_path: Path, errors: tuple[ProvisionError, ...], kind: type[ProvisionError], *, retryable: bool
) -> None:
    """One error names every source's reason; it can be tried again when one of them can."""
    sources = tuple(FakeSource(f"s{n}", {}, then=failing(error)) for n, error in enumerate(errors))

    with pytest.raises(kind) as caught:
        run(tmp_path, *sources)

    assert caught.value.retryable == retryable
    assert caught.value.what == (
        f"no source gave lab (3 files, 2.9 MiB): s0: {errors[0].what}, s1: {errors[1].what}"
    )
    assert staging_folders(tmp_path) == []


def test_no_room_before_byte_one(tmp_path: Path) -> None:
    """A source that needs more than is free is not even asked."""
    large = FakeSource(room=10**18)

    with pytest.raises(NoRoomError, match=r"needs 931322574\.6 GiB and has"):
        run(tmp_path, large)

    assert large.asked == []
    assert contents(tmp_path / "models--org--name") == {}


def test_disk_that_fills_up(tmp_path: Path) -> None:
    """A disk that is full in the middle is said as such, and staging is removed."""

    def fill_up() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(NoRoomError, match=r"needs 1\.9 MiB and has"):
        run(tmp_path, FakeSource(files={}, then=fill_up, room=2_000_000))

    assert staging_folders(tmp_path) == []


def test_stop(tmp_path: Path) -> None:
    """A pull that is asked to stop asks no source."""
    stop = Event()
    stop.set()
    source = FakeSource()

    with pytest.raises(StoppedError, match="stopped while pulling lab"):
        run(tmp_path, source, ctx=PullContext(stop=stop))

    assert source.asked == []


def test_any_error_removes_staging(tmp_path: Path) -> None:
    """An error that is nobody's plan leaves no staging either."""
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, FakeSource(then=lambda: print(1 / 0)))  # noqa: T201  # never prints

    assert staging_folders(tmp_path) == []


def test_two_pulls_fetch_once(tmp_path: Path) -> None:
    """The second of two pulls says that it waits for the first, and then finds the files."""
    inside, waits = Event(), Event()
    first = FakeSource("first", before=lambda: (inside.set(), waits.wait(30)))
    second = FakeSource("second")
    results: dict[str, PulledModel] = {}

    def start(source: FakeSource, ctx: PullContext) -> Thread:
        thread = Thread(target=lambda: results.update({source.NAME: run(tmp_path, source, ctx=ctx)}))
        thread.start()
        return thread

    one = start(first, PullContext())
    assert inside.wait(30)
    two = start(second, PullContext(sink=lambda event: waits.set() if "waiting" in event.message else None))
    one.join(60)
    two.join(60)

    assert second.asked == []
    assert [results[name].change.reason for name in ("first", "second")] == [
        "fetched 2.9 MiB from first",
        "3 files, 2.9 MiB, fetched by another run",
    ]


def test_bytes_of_another_revision_are_linked(tmp_path: Path) -> None:
    """A large file that another revision brought is not fetched again."""
    run(tmp_path, FakeSource())
    source = FakeSource()
    newer = planned(pinned(revision="a" * 40))

    pull(newer, tmp_path, PullContext(), sources=(source,))

    assert source.asked == [("config.json", "1_Pooling/config.json")]
    assert contents(tmp_path / "models--org--name/snapshots" / ("a" * 40)) == FILES


def test_files_with_the_same_bytes_cross_once(tmp_path: Path) -> None:
    """A repository that holds the same bytes under several names is asked for one of them."""
    files = FILES | {"other.safetensors": FILES[BIG], "copy.json": FILES["config.json"]}
    source = FakeSource(files=files)

    pulled = pull(planned(pinned(files)), tmp_path, PullContext(), sources=(source,))

    assert contents(tmp_path / SNAPSHOT) == files
    assert len(source.asked[0]) == 3
    assert pulled.fetched_bytes == SIZE_BYTES
    assert sum(path.stat().st_size for path in (tmp_path / "models--org--name/blobs").iterdir()) == SIZE_BYTES


def test_refs_are_made_up_for(tmp_path: Path) -> None:
    """A pull that was killed just before it named its revision is completed by the next one."""
    run(tmp_path, FakeSource())
    refs = tmp_path / "models--org--name/refs"
    ours = refs / f"pmoves/{REVISION[:8]}"
    ours.unlink()
    (refs / "main").write_text("b" * 40)

    run(tmp_path, FakeSource())

    assert ours.read_text() == REVISION
    assert (refs / "main").read_text() == "b" * 40


def test_what_is_linked_leaves_no_part(tmp_path: Path) -> None:
    """The part of a file whose bytes another revision brought meanwhile goes."""
    run(tmp_path, FakeSource())
    file = pin(BIG, FILES[BIG])
    part = part_path(tmp_path, REPO, file)
    with Partial(part, size_bytes=file.size_bytes, digest=file.digest):
        pass

    pull(planned(pinned(revision="a" * 40)), tmp_path, PullContext(), sources=(FakeSource(),))

    assert not part.exists()


def test_a_journal_that_was_left_goes(tmp_path: Path) -> None:
    """A pull that was killed between the last move and its tidying leaves nothing for good."""
    run(tmp_path, FakeSource())
    file = pin(BIG, FILES[BIG])
    part = part_path(tmp_path, REPO, file)
    Partial(part, size_bytes=file.size_bytes, digest=file.digest).close()
    part.unlink()

    assert run(tmp_path, FakeSource()).change.kind == "keep"
    assert not part.parent.exists()
