"""The part file and its journal: what counts after a kill, after a power loss, and after damage."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.pull.fetch import partial
from tasks.pull.fetch.blocks import ABSENT, BLOCK_BYTES, SYNCED, WRITTEN, count
from tasks.pull.fetch.partial import HEADER_BYTES, Partial, discard, journal_of, peek_bytes

SIZE_BYTES = 5 * BLOCK_BYTES + 7
DIGEST = "sha256:" + "a" * 64
LOOSE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


def at(folder: Path, *, size_bytes: int = SIZE_BYTES, digest: str = DIGEST) -> Partial:
    """Open the part in a folder."""
    return Partial(folder / "x.part", size_bytes=size_bytes, digest=digest)


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what starts the machine again."""
    starts = iter(range(1000))

    def start() -> None:
        name = f"boot {next(starts)}"
        monkeypatch.setattr(partial, "boot_id", lambda: name)

    start()
    return start


def test_new_part_is_empty(tmp_path: Path) -> None:
    """A part has its full length from the start, takes no room, and holds nothing."""
    with at(tmp_path / "deep/er") as part:
        assert part.held_bytes == 0
        assert part.states == bytes(6)
    seen = part.path.stat()
    assert (seen.st_size, seen.st_blocks) == (SIZE_BYTES, 0)
    assert journal_of(part.path).stat().st_size == HEADER_BYTES + 6
    assert json.loads(journal_of(part.path).read_bytes()[:HEADER_BYTES])["digest"] == DIGEST


def test_kill_loses_nothing_that_was_marked(tmp_path: Path) -> None:
    """Blocks that were marked count for the next process, though nobody closed anything."""
    killed = at(tmp_path)
    killed.write(memoryview(b"x" * BLOCK_BYTES), 2 * BLOCK_BYTES)
    killed.mark((2, 3))
    killed.write(memoryview(b"y" * 10), 4 * BLOCK_BYTES)

    with at(tmp_path) as part:
        buffer = memoryview(bytearray(BLOCK_BYTES))
        assert list(part.states) == [0, 0, WRITTEN, 0, 0, 0]
        assert part.held_bytes == peek_bytes(part.path) == BLOCK_BYTES
        assert part.read_into(buffer, 2 * BLOCK_BYTES) == BLOCK_BYTES
        assert bytes(buffer) == b"x" * BLOCK_BYTES
    killed.close()


def test_power_loss_keeps_what_was_synced(tmp_path: Path, reboot: Callable[[], None]) -> None:
    """After another start of the machine only synced blocks count, and they go on to count."""
    with at(tmp_path) as part:
        part.mark((0, 2))
        part.sync()
        part.mark((3, 6))
        assert list(part.states) == [SYNCED, SYNCED, ABSENT, WRITTEN, WRITTEN, WRITTEN]

    reboot()

    assert peek_bytes(part.path) == 2 * BLOCK_BYTES
    for _ in range(2):
        with at(tmp_path) as again:
            assert list(again.states) == [SYNCED, SYNCED, 0, 0, 0, 0]


def test_written_after_a_reboot_counts_again(tmp_path: Path, reboot: Callable[[], None]) -> None:
    """What is written after the machine started counts while it runs."""
    with at(tmp_path) as part:
        part.mark((0, 1))
    reboot()
    with at(tmp_path) as part:
        part.mark((1, 2))

    with at(tmp_path) as again:
        assert list(again.states) == [0, WRITTEN, 0, 0, 0, 0]


@pytest.mark.parametrize("change", [{"size_bytes": SIZE_BYTES + 1}, {"digest": "sha256:" + "b" * 64}])
def test_part_of_other_bytes_starts_anew(tmp_path: Path, change: dict[str, int | str]) -> None:
    """A part that belongs to another size or digest is thrown away."""
    with at(tmp_path) as part:
        part.write(memoryview(b"x"), 0)
        part.mark((0, 6))

    with at(tmp_path, **change) as again:  # type: ignore[arg-type]  # one of the two
        buffer = memoryview(bytearray(1))
        assert again.held_bytes == 0
        assert again.read_into(buffer, 0) == 1
        assert bytes(buffer) == b"\0"


def test_part_of_another_length_starts_anew(tmp_path: Path) -> None:
    """A part that somebody cut short is not believed."""
    with at(tmp_path) as part:
        part.mark((0, 6))
    os.truncate(part.path, 100)

    assert peek_bytes(part.path) == 0
    with at(tmp_path) as again:
        assert again.held_bytes == 0


@pytest.mark.parametrize("gone", ["x.part", "x.journal"])
def test_half_of_a_pair_is_nothing(tmp_path: Path, gone: str) -> None:
    """Bytes without journal, and a journal without bytes, hold nothing."""
    with at(tmp_path) as part:
        part.mark((0, 6))
    (tmp_path / gone).unlink()

    assert peek_bytes(part.path) == 0
    with at(tmp_path) as again:
        assert again.held_bytes == 0


@LOOSE
@given(st.binary(max_size=200) | st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES + 10))
def test_garbage_for_a_journal(tmp_path: Path, garbage: bytes) -> None:
    """Whatever lies in a journal's place, the part opens, empty."""
    with at(tmp_path) as part:
        part.mark((0, 1))
    journal_of(part.path).write_bytes(garbage)

    assert peek_bytes(part.path) == 0
    with at(tmp_path) as again:
        assert again.held_bytes == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda one: st.lists(one, max_size=3)
)


@LOOSE
@given(
    st.dictionaries(st.sampled_from(["version", "size_bytes", "digest", "block_bytes", "boot_id"]), JSON),
    st.binary(max_size=8),
)
def test_strange_head_of_a_journal(tmp_path: Path, head: dict[str, object], states: bytes) -> None:
    """A head that is JSON but says something else is not believed, and does no harm."""
    with at(tmp_path) as part:
        part.mark((0, 1))
    journal_of(part.path).write_bytes(json.dumps(head).encode().ljust(HEADER_BYTES) + states)

    assert 0 <= peek_bytes(part.path) <= SIZE_BYTES
    with at(tmp_path) as again:
        assert again.held_bytes == 0


@LOOSE
@given(st.integers(0, HEADER_BYTES + 5))
def test_journal_that_was_cut_short(tmp_path: Path, length: int) -> None:
    """A journal that was not written whole holds nothing."""
    with at(tmp_path) as part:
        part.mark((0, 6))
    os.truncate(journal_of(part.path), length)

    with at(tmp_path) as again:
        assert again.held_bytes == 0


@pytest.mark.parametrize("state", [3, 255])
def test_journal_with_an_unknown_state(tmp_path: Path, state: int) -> None:
    """A state that there is not makes the journal unbelievable."""
    with at(tmp_path) as part:
        part.mark((0, 6))
    raw = bytearray(journal_of(part.path).read_bytes())
    raw[-1] = state
    journal_of(part.path).write_bytes(raw)

    with at(tmp_path) as again:
        assert again.held_bytes == 0


STEPS = st.lists(
    st.sampled_from(["mark", "sync", "kill", "reboot", "reset"]) | st.integers(0, 5), max_size=25
)


@LOOSE
@given(STEPS)
def test_any_row_of_events(
    tmp_path_factory: pytest.TempPathFactory, reboot: Callable[[], None], steps: list[int | str]
) -> None:
    """After any row of writes, syncs, kills and power losses, exactly what must count does."""
    folder, alive = tmp_path_factory.mktemp("row"), list[Partial]()
    part, want = at(folder), [ABSENT] * 6
    alive.append(part)
    for step in steps:
        if isinstance(step, int):
            part.mark((step, step + 1))
            want[step] = WRITTEN
        elif step == "sync":
            part.sync()
            want = [SYNCED if one else ABSENT for one in want]
        elif step == "reset":
            part.reset()
            want = [ABSENT] * 6
        elif step in {"kill", "reboot"}:
            if step == "reboot":
                reboot()
                want = [one if one == SYNCED else ABSENT for one in want]
            part = at(folder)
            alive.append(part)
    assert list(part.states) == want
    assert part.held_bytes == peek_bytes(part.path)
    with at(folder) as again:
        assert list(again.states) == want
    for one in alive:
        one.close()


def test_the_head_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head with a new boot id comes after the states, for it vouches for what is only written."""
    offsets = list[int]()
    original = os.pwrite

    def note(descriptor: int, data: bytes, offset: int) -> int:
        offsets.append(offset)
        return original(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", note)
    at(tmp_path).close()

    assert offsets == [HEADER_BYTES, 0]


def test_sync_does_not_touch_what_was_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that takes long holds up neither writers nor the close, and writes to no other file then."""
    part = at(tmp_path)
    part.mark((0, 1))
    begun, go_on = threading.Event(), threading.Event()

    def slow(_descriptor: int) -> None:
        begun.set()
        assert go_on.wait(20)

    monkeypatch.setattr(os, "fdatasync", slow)
    thread = threading.Thread(target=part.sync)
    thread.start()
    assert begun.wait(20)
    part.mark((1, 2))
    part.close()
    others = [os.open(tmp_path / f"other{n}", os.O_RDWR | os.O_CREAT) for n in range(4)]
    go_on.set()
    thread.join()

    assert [os.fstat(one).st_size for one in others] == [0] * 4
    for one in others:
        os.close(one)
    with at(tmp_path) as again:
        assert list(again.states) == [WRITTEN, WRITTEN, 0, 0, 0, 0]


@pytest.mark.parametrize("remark", [False, True])
def test_what_comes_during_a_sync_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, remark: bool
) -> None:
    """Blocks that were marked, or forgotten and brought anew, while a sync ran do not count as synced."""
    part = at(tmp_path)
    part.mark((0, 1))

    def meanwhile(_descriptor: int) -> None:
        if remark:
            part.reset()
        part.mark((0, 2))

    monkeypatch.setattr(os, "fdatasync", meanwhile)
    part.sync()

    assert list(part.states[:2]) == ([WRITTEN, WRITTEN] if remark else [SYNCED, WRITTEN])
    part.close()


def test_closed_part_is_let_alone(tmp_path: Path) -> None:
    """After the close, marks, syncs and another close do nothing."""
    part = at(tmp_path)
    part.close()

    part.mark((0, 1))
    part.sync()
    part.reset()
    part.close()

    assert part.held_bytes == 0


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes a part only is repeated with the rest."""
    original = os.pwrite
    part = at(tmp_path)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: original(fd, data[:3], offset))
    part.write(memoryview(b"0123456789"), 5)
    part.close()

    assert part.path.read_bytes()[:16] == bytes(5) + b"0123456789" + b"\0"


def test_error_while_opening_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk says no to the journal, both files are closed."""
    before = len(list(Path("/proc/self/fd").iterdir()))

    def full(_descriptor: int, _data: bytes, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        at(tmp_path)

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_discard(tmp_path: Path) -> None:
    """Both files go; it does not matter whether they were there."""
    at(tmp_path).close()

    discard(tmp_path / "x.part")
    discard(tmp_path / "x.part")

    assert list(tmp_path.iterdir()) == []


def test_no_boot_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the kernel says no boot id there is none."""
    monkeypatch.setattr(partial, "BOOT_ID", tmp_path / "none")

    assert partial.boot_id() == ""
    assert count(0) == 0
