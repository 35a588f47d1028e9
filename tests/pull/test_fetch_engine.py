"""The engine over a web that is made up: what is asked, what is written, and how it ends; no sockets."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from tasks.errors import ProvisionError, SourceRefusedError, SourceUnavailableError, StoppedError
from tasks.pull.fetch import crew, engine
from tasks.pull.fetch.blocks import BLOCK_BYTES
from tasks.pull.fetch.engine import Fetching, fetch
from tasks.pull.fetch.item import Wanted
from tasks.pull.fetch.line import Line
from tasks.pull.fetch.partial import Partial
from tasks.pull.fetch.web import AgainError, StatusError

HOME = "http://hub/file"
CDN = "http://cdn/1"
DATA = random.Random(5).randbytes(100 * BLOCK_BYTES)  # noqa: S311  # any bytes will do

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little between tries."""
    monkeypatch.setattr(crew, "BACKOFF_S", 0.02)


@dataclass
class Reply:
    """An answer; `before` is called ahead of each piece."""

    url: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 206
    before: Callable[[int], None] = lambda _at: None
    at: int = 0

    def read_some(self, most_bytes: int) -> bytes:
        """Return the next piece."""
        self.before(self.at)
        piece = self.data[self.at : self.at + most_bytes]
        self.at += len(piece)
        return piece

    def read_full(self, size_bytes: int) -> bytes:
        """Return the next piece, of this size where there is so much."""
        return self.read_some(size_bytes)

    def release(self) -> None:
        """Do nothing."""


@dataclass
class FakeWeb:
    """A web that answers with ranges of some bytes. `script` is asked first: (number, url)."""

    data: bytes = DATA
    script: Callable[[int, str], Reply | None] = lambda _number, _url: None
    before: Callable[[int], None] = lambda _at: None
    cdn: str = ""
    total: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def twin(self) -> FakeWeb:
        """Return itself."""
        return self

    def open(self, url: str, *, headers: dict[str, str], check: object = None) -> Reply:
        """Answer one request."""
        del check
        wanted = headers.get("Range", "")
        self.asked.append((url, wanted))
        if (reply := self.script(len(self.asked) - 1, url)) is not None:
            return reply
        if not wanted:
            return Reply(url, self.data, status=200, before=self.before)
        first, last = (int(one) for one in wanted.removeprefix("bytes=").split("-"))
        said = {"content-range": f"bytes {first}-{last}/{self.total or len(self.data)}"}
        return Reply(self.cdn or url, self.data[first : last + 1], said, before=self.before)

    @property
    def urls(self) -> list[str]:
        """What was asked, without the ranges."""
        return [url for url, _ in self.asked]

    cut = end = close = lambda _self: None

    def __hash__(self) -> int:
        return id(self)


def wanted_in(folder: Path, data: bytes = DATA, name: str = "file") -> Wanted:
    """Return a file that is wanted."""
    sha256 = hashlib.sha256(data).hexdigest()
    return Wanted(name, HOME, len(data), f"sha256:{sha256}", folder / f"{sha256}.part")


def run(web: FakeWeb, *wanted: Wanted, **changes: object) -> dict[str, bytes]:
    """Fetch over one connection, and return what was handed on."""
    got: dict[str, bytes] = {}

    def explain(error: StatusError, one: Wanted) -> ProvisionError:
        return SourceRefusedError(f"{error.reason} for {one.path}", "", "")

    def keep(one: Wanted, _digest: str) -> None:
        got[one.path] = one.part.read_bytes()

    settings: dict[str, object] = {"line": Line(connections=1), "tries": 1, "quiet_s": 20.0} | changes
    on_whole = settings.pop("on_whole", keep)
    fetch(
        wanted,
        Fetching(web, explain=explain, tell=lambda _done, _note: None, **settings),  # type: ignore[arg-type]
        on_whole,  # type: ignore[arg-type]
    )
    return got


def saying(error: Exception, *numbers: int) -> Callable[[int, str], Reply | None]:
    """Return a script that raises `error` at some requests."""

    def script(number: int, _url: str) -> Reply | None:
        if number in numbers:
            raise error
        return None

    return script


def test_address_behind_the_redirect_is_kept(tmp_path: Path) -> None:
    """The hub is asked once for a file; its other ranges come from where it pointed to."""
    web = FakeWeb(cdn=CDN)

    assert run(web, wanted_in(tmp_path)) == {"file": DATA}

    assert web.urls[0] == HOME
    assert set(web.urls[1:]) == {CDN}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410, 416])
def test_address_that_ran_out(tmp_path: Path, status: int) -> None:
    """Where that address is refused, the hub is asked for a fresh one; that is no failure."""
    web = FakeWeb(cdn=CDN, script=saying(StatusError(status, {}, CDN), 1))

    assert run(web, wanted_in(tmp_path)) == {"file": DATA}

    assert web.urls[:3] == [HOME, CDN, HOME]


def test_status_of_the_hub_is_explained(tmp_path: Path) -> None:
    """What the hub itself refuses is refused."""
    web = FakeWeb(script=saying(StatusError(403, {}, HOME), 0))

    with pytest.raises(SourceRefusedError, match="403 Forbidden for file"):
        run(web, wanted_in(tmp_path))

    assert len(web.asked) == 1


def test_address_that_does_not_answer(tmp_path: Path) -> None:
    """When the address behind the redirect does not answer, the hub may know a better one."""
    web = FakeWeb(cdn=CDN, script=saying(AgainError("it is down"), 1))

    assert run(web, wanted_in(tmp_path), tries=2) == {"file": DATA}

    assert web.urls[:3] == [HOME, CDN, HOME]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (f"bytes 1-{len(DATA)}/{len(DATA)}", "file came with another range than was asked for"),
        ("", "file came with another range"),
        ("bytes */5", "file came with another range"),
        ("bytes 0-9/77", f"file is announced with 77 bytes instead of {len(DATA)}"),
    ],
)
def test_wrong_range(tmp_path: Path, said: str, text: str) -> None:
    """A range that is not the one that was asked for is not written."""
    web = FakeWeb(script=lambda _number, url: Reply(url, DATA, {"content-range": said}))

    with pytest.raises(SourceUnavailableError, match=text):
        run(web, wanted_in(tmp_path))

    assert not any(part.read_bytes().strip(b"\0") for part in tmp_path.glob("*.part"))


def test_range_of_a_file_of_unknown_length(tmp_path: Path) -> None:
    """A server need not say how long the whole is."""
    assert run(FakeWeb(total="*"), wanted_in(tmp_path)) == {"file": DATA}


def test_host_that_asks_to_wait_is_left_alone_by_all(tmp_path: Path) -> None:
    """What a server asks to wait holds for the whole line."""
    line = Line(connections=1)
    web = FakeWeb(script=saying(AgainError("busy", 0.2), 0))

    assert run(web, wanted_in(tmp_path), line=line, tries=3) == {"file": DATA}

    assert list(line._paused) == ["hub"]


def test_no_request_while_a_host_asked_to_wait(tmp_path: Path) -> None:
    """A stop comes through at once meanwhile, and nothing is asked."""
    line, web, stop = Line(), FakeWeb(), threading.Event()
    line.pause("hub", 100)
    threading.Timer(0.2, stop.set).start()

    with pytest.raises(StoppedError):
        run(web, wanted_in(tmp_path), line=line, stop=stop)

    assert web.asked == []


def test_nothing_is_written_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that arrive after a stop, on a connection that could not be ended, are not written."""
    monkeypatch.setattr(engine, "JOIN_S", 0.1)
    writes, reading, go_on = list[int](), threading.Event(), threading.Event()
    monkeypatch.setattr(Partial, "write", lambda _self, _data, offset: writes.append(offset))
    stop = threading.Event()

    def before(at: int) -> None:
        if at > 0:
            reading.set()
            stop.set()
            assert go_on.wait(20)

    with pytest.raises(StoppedError):
        run(FakeWeb(before=before), wanted_in(tmp_path), stop=stop)
    done, late = len(writes), [one for one in threading.enumerate() if one.name.startswith("fetch ")]
    go_on.set()
    for thread in late:
        thread.join(20)

    assert reading.is_set()
    assert len(late) == 1
    assert len(writes) == done == 1


def test_small_part_that_was_not_handed_on_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that is whole when the pull ends otherwise leaves nothing behind."""
    monkeypatch.setattr(engine, "TICK_S", 0.5)
    small = Wanted("small", HOME, 5, "sha256:" + hashlib.sha256(b"hello").hexdigest(), tmp_path / "a.part")
    other = Wanted("other", HOME, 5, small.digest, tmp_path / "b.part")

    def refuse(_one: Wanted, _digest: str) -> None:
        assert other.part.exists()
        raise OSError(errno.EROFS, "Read-only file system")

    with pytest.raises(OSError, match="Read-only"):
        run(FakeWeb(b"hello"), small, other, on_whole=refuse)

    assert list(tmp_path.iterdir()) == []


def test_slow_disk_is_no_silent_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all that is left is to sync, nobody waits for the source."""
    monkeypatch.setattr(Partial, "sync", lambda _self: time.sleep(0.8))

    assert run(FakeWeb(), wanted_in(tmp_path), quiet_s=0.3) == {"file": DATA}


def test_error_of_a_sync_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells a lost write once, to whoever syncs first; then the pull fails."""
    told = threading.Event()

    def broken(_descriptor: int) -> None:
        if not told.is_set():
            told.set()
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(engine, "SYNC_S", 0.02)
    monkeypatch.setattr(os, "fdatasync", broken)

    def before(at: int) -> None:
        if at > BLOCK_BYTES:
            assert told.wait(20)

    with pytest.raises(OSError, match="Input/output error"):
        run(FakeWeb(before=before), wanted_in(tmp_path))


def test_long_share_ends_early_for_another_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another pull waits for a connection, the rest of a share is given back, and fetched later."""
    monkeypatch.setattr(engine, "SHED_S", 0.0)
    monkeypatch.setattr(Line, "must_yield", lambda *_: True)
    web = FakeWeb(before=lambda _at: time.sleep(0.01))

    assert run(web, wanted_in(tmp_path)) == {"file": DATA}

    ranges = [tuple(map(int, wanted[6:].split("-"))) for _, wanted in web.asked]
    assert any(two[0] < one[1] for one, two in pairwise(ranges)), "no share ended early"
    assert sorted(ranges) == ranges


def test_digest_of_the_hub_is_compared_first(tmp_path: Path) -> None:
    """The check of what redirects say is handed to the web."""
    seen: list[object] = []

    class Checked(FakeWeb):
        def open(self, url: str, *, headers: dict[str, str], check: object = None) -> Reply:
            seen.append(check)
            return super().open(url, headers=headers)

    run(Checked(), wanted_in(tmp_path))

    assert callable(seen[0])
