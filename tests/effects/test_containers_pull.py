"""A pull's stream: what counts as progress, and that nothing in it can hang or break the reader."""

from __future__ import annotations

import itertools
import json
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from tasks.effects.containers import EngineError
from tasks.effects.containers.docker import Docker
from tasks.effects.containers.docker_pull import (
    MOST_LAYERS,
    MOST_LINE_BYTES,
    MOST_RESTARTS,
    Progress,
    events,
    follow,
    local_tag,
)
from tasks.effects.containers.engine import EngineGoneError, ImageDamagedError, ImageMissingError
from tasks.errors import StoppedError
from tests.lab.engine_fixtures import eventually, nothing

DIGEST = f"sha256:{'a' * 64}"
IMAGE = f"r/x@{DIGEST}"


def line(status: str, layer: str = "l", current: int | None = None, total: int | None = None) -> bytes:
    """Return one line as Docker writes it."""
    numbers = {"current": current, "total": total} if current is not None else {}
    return json.dumps({"status": status, "id": layer, "progressDetail": numbers}).encode() + b"\r\n"


def whole(*, digest: str = DIGEST) -> list[bytes]:
    """Return the lines of a pull of two layers."""
    return [
        line("Pulling from x", "1"),
        line("Pulling fs layer", "a"),
        line("Pulling fs layer", "b"),
        line("Downloading", "a", 40, 100),
        line("Downloading", "b", 10, 30),
        line("Downloading", "a", 100, 100),
        line("Verifying Checksum", "a"),
        line("Download complete", "a"),
        line("Extracting", "a", 50, 100),
        line("Download complete", "b"),
        line("Pull complete", "a"),
        line("Pull complete", "b"),
        line(f"Digest: {digest}", ""),
    ]


def test_progress_is_the_sum_of_the_layers() -> None:
    """One that was told of in part counts whole once it is complete."""
    progress, told = Progress(), []
    for event in events(whole()):
        progress.hear(event)
        told.append(progress.bytes)

    assert [(0, 0), (40, 100), (50, 130), (110, 130), (130, 130)] == list(dict.fromkeys(told))
    assert DIGEST == progress.digest


def test_bytes_may_come_in_any_pieces() -> None:
    """A line is whole when its end is there."""
    stream = b"".join(whole())
    for size in (1, 2, 7, 1000):
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]

        assert list(events(whole())) == list(events(pieces))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\r\n\r\n",
        b"not json\n",
        b"[1, 2]\n",
        b'"text"\n',
        b"12\n",
        b"null\n",
        b"\xff\xfe\x00\n",
        b'{"status": 12, "id": null, "progressDetail": "x"}\n',
        b'{"status": "Downloading", "id": "z", "progressDetail": {"current": "x", "total": null}}\n',
        b'{"status": "Downloading", "id": "z", "progressDetail": {"current": -5, "total": 1e400}}\n',
        b'{"errorDetail": ""}\n',
        b'{"error": null}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (MOST_LINE_BYTES + 10) + b"\n",
    ],
    ids=lambda value: repr(value[:30]),
)
def test_garbage_between_lines_changes_nothing(garbage: bytes) -> None:
    """Wherever it is."""
    lines = whole()
    progress = Progress()
    for event in events([*lines[:5], garbage, *lines[5:]]):
        progress.hear(event)

    assert ((130, 130), DIGEST) == (progress.bytes, progress.digest)


def test_a_line_without_an_end_takes_no_memory() -> None:
    """It is dropped while it comes, and what follows it is heard."""
    endless = itertools.chain(itertools.repeat(b"x" * 100_000, 300), [b'\n{"status": "after"}'])
    tracemalloc.start()
    try:
        heard = list(events(endless))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert [{"status": "after"}] == heard
    assert peak_bytes < 6 * MOST_LINE_BYTES


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"error": "unknown blob"}, ImageMissingError),
        (
            {"errorDetail": {"message": f"filesystem layer verification failed for digest {DIGEST}"}},
            ImageDamagedError,
        ),
        ({"error": "something else"}, EngineError),
        ({"errorDetail": "unknown blob"}, ImageMissingError),
        ({"error": {"message": "unknown blob"}}, ImageMissingError),
    ],
)
def test_an_error_in_the_stream_is_raised(event: dict[str, object], error: type[EngineError]) -> None:
    """In either of the two fields that engines use."""
    with pytest.raises(EngineError) as seen:
        Progress().hear(event)

    assert error is seen.type


def moves(*lines: bytes) -> list[bool]:
    """Return for each line whether it shows progress."""
    progress = Progress()
    return [progress.hear(one) for one in events(lines)]


def test_what_moves_and_what_does_not() -> None:
    """The same number twice does not, nor does anything that is no layer's."""
    assert [False, True, True, False, True, True, True, False, True] == moves(
        line("Pulling from x"),
        line("Pulling fs layer"),
        line("Downloading", current=1, total=9),
        line("Downloading", current=1, total=9),
        line("Downloading", current=2, total=9),
        line("Download complete"),
        line("Extracting", current=1, total=9),
        line("Extracting", current=1, total=9),
        line("Extracting", current=2),
    )


def test_a_layer_may_begin_again_but_not_for_ever() -> None:
    """An engine that fetches in circles does not move."""
    told = moves(
        *[line("Downloading", current=one, total=9) for _ in range(3 * MOST_RESTARTS) for one in (1, 2)]
    )

    assert all(told[:2])
    assert any(told[2 : 2 * MOST_RESTARTS])
    assert not any(told[2 * (MOST_RESTARTS + 1) :])


def test_stages_in_circles_do_not_move() -> None:
    """Without a number among them."""
    told = moves(*[line(one) for _ in range(3 * MOST_RESTARTS) for one in ("Pulling fs layer", "Waiting")])

    assert all(told[:2])
    assert not any(told[2 * (MOST_RESTARTS + 1) :])


def test_new_layers_without_end_do_not_move() -> None:
    """Nor do they take memory."""
    progress = Progress()
    for one in range(MOST_LAYERS + 10):
        moved = progress.hear({"status": "Waiting", "id": str(one)})

    assert not moved
    assert MOST_LAYERS == len(progress.layers)


def watched(
    stream: Iterable[bytes], *, quiet_s: float = 5.0, stop: threading.Event | None = None
) -> Progress:
    """Follow a stream."""
    return follow(lambda: stream, lambda: None, on_bytes=nothing, stop=stop, quiet_s=quiet_s)


def test_a_stream_is_followed_to_its_end() -> None:
    """On the caller's thread, in order."""
    told: list[tuple[int, int]] = []
    heard_on: set[int] = set()

    def hear(done: int, total: int) -> None:
        told.append((done, total))
        heard_on.add(threading.get_ident())

    progress = follow(whole, lambda: None, on_bytes=hear, stop=None, quiet_s=5)

    assert (DIGEST, (130, 130)) == (progress.digest, told[-1])
    assert {threading.get_ident()} == heard_on


@pytest.mark.parametrize(
    "stream",
    [
        itertools.repeat(line("Downloading", current=5, total=9)),
        itertools.repeat(b"garbage\n"),
        itertools.repeat(b"garbage"),
        (line("Downloading", current=one, total=9) for one in itertools.cycle((1, 2, 3))),
        (line("Waiting", str(one)) for one in itertools.count()),
        (line(one) for one in itertools.cycle(("Waiting", "Downloading", "Pulling fs layer"))),
    ],
    ids=["same", "garbage", "no line", "circle", "layers", "stages"],
)
def test_a_stream_without_end_ends(stream: Iterable[bytes]) -> None:
    """When nothing in it has moved for long enough, however much it says."""
    with pytest.raises(EngineGoneError, match=r"^the pull did not move for"):
        watched(stream, quiet_s=0.3)


def test_a_blocked_reader_is_left_and_woken() -> None:
    """Both when it is quiet too long and when it is told to stop."""
    for quiet_s, error in ((0.2, EngineGoneError), (60.0, StoppedError)):
        woken, stop = threading.Event(), threading.Event()
        if error is StoppedError:
            threading.Timer(0.1, stop.set).start()

        def block(woken: threading.Event = woken) -> Iterator[bytes]:
            woken.wait(30)
            yield from ()

        began = time.monotonic()
        with pytest.raises(error):
            follow(block, woken.set, on_bytes=nothing, stop=stop, quiet_s=quiet_s)

        assert woken.is_set()
        assert time.monotonic() - began < 10
    eventually(lambda: not any(one.name == "image pull" for one in threading.enumerate()))


def test_what_begins_after_it_was_left_is_ended_again() -> None:
    """The connection may open only after the caller has gone."""
    gone, ended = threading.Event(), []
    stop = threading.Event()
    stop.set()

    def begin() -> Iterator[bytes]:
        gone.wait(30)
        yield from itertools.repeat(line("Waiting"))

    with pytest.raises(StoppedError):
        follow(begin, lambda: ended.append(gone.is_set()), on_bytes=nothing, stop=stop, quiet_s=60)
    gone.set()

    eventually(lambda: ended == [False, True])


def test_an_error_while_it_is_read_is_raised() -> None:
    """On the caller's thread, as what it is."""

    def broken() -> Iterator[bytes]:
        yield whole()[1]
        raise EngineGoneError("it went away")

    with pytest.raises(EngineGoneError, match="it went away"):
        watched(broken())


def test_an_error_of_the_listener_ends_it() -> None:
    """It is the caller's own."""

    def hear(_done: int, _total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        follow(lambda: itertools.cycle(whole()), lambda: None, on_bytes=hear, stop=None, quiet_s=60)
    eventually(lambda: not any(one.name == "image pull" for one in threading.enumerate()))


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        (f"ghcr.io/Ggml-org/llama.cpp@{DIGEST}", ("pmoves.local/ghcr-io-ggml-org-llama-cpp", "aaaaaaaaaaaa")),
        (f"127.0.0.1:5000/lab/bb@{DIGEST}", ("pmoves.local/127-0-0-1-5000-lab-bb", "aaaaaaaaaaaa")),
    ],
)
def test_the_tag_of_our_own(image: str, tag: tuple[str, str]) -> None:
    """A name that every engine takes, and that tells where the image is from."""
    assert tag == local_tag(image)


class FakeEngine(BaseHTTPRequestHandler):
    """Answers a pull with the bytes that a test gives, and then ends the connection."""

    protocol_version = "HTTP/1.1"
    stream: bytes = b""
    silent: threading.Event | None = None
    digests: tuple[str, ...] = ()
    tagged: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    drops: bool = False

    def do_GET(self) -> None:
        """Tell a version, and about an image."""
        type(self).asked += (self.path,)
        if self.drops:
            self.close_connection = True
            return
        body: object = {"ApiVersion": "1.41", "Version": "20.10"}
        if "/images/" in self.path:
            body = {"RepoDigests": list(self.digests)}
        self._send(json.dumps(body).encode())

    def do_POST(self) -> None:
        """Stream, or take a tag."""
        if "/tag" in self.path:
            type(self).tagged += (self.path,)
            self._send(b"", 201)
            return
        if self.silent is not None:
            self.silent.wait(30)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + self.stream)
        self.close_connection = True

    def _send(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """A unix socket's peer has no address."""
        return "unix"

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def chunked(*lines: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return lines as an engine sends them."""
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in lines) + end


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[tuple[Docker, type[FakeEngine]]]:
    """Return the seam over an engine that says what it is told."""
    handler = type("Handler", (FakeEngine,), {"digests": (IMAGE,)})
    with ThreadingUnixStreamServer(str(tmp_path / "e.sock"), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        docker = Docker(f"unix://{tmp_path}/e.sock", "me", timeout_s=5)
        yield docker, handler
        docker.close()
        server.shutdown()


def test_the_stream_of_an_engine(fake: tuple[Docker, type[FakeEngine]]) -> None:
    """Through the real client: it is tagged in the end."""
    docker, engine = fake
    engine.stream = chunked(*whole())

    docker.pull(IMAGE, on_bytes=nothing)

    assert 1 == len(engine.tagged)
    assert "repo=pmoves.local%2Fr-x" in engine.tagged[0]
    assert "tag=aaaaaaaaaaaa" in engine.tagged[0]


@pytest.mark.parametrize(
    ("stream", "digests", "error", "plain"),
    [
        (chunked(*whole()[:4], end=b""), (), EngineGoneError, "stopped answering"),
        (chunked(*whole()[:4])[:-9], (), EngineGoneError, "stopped answering"),
        (chunked(*whole()[:4], end=b"zz\r\n"), (), EngineGoneError, "stopped answering"),
        (chunked(*whole()[:4]), (), EngineGoneError, "ended the pull before the image was there"),
        (chunked(*whole()), ("other/x@" + DIGEST,), EngineGoneError, "before the image was there"),
        (chunked(*whole(digest=f"sha256:{'b' * 64}")), (IMAGE,), ImageDamagedError, "where sha256:aa"),
        (chunked(b'{"error": "unknown blob"}\n'), (IMAGE,), ImageMissingError, "does not have the image"),
    ],
    ids=["cut", "cut in a chunk", "no chunk", "short", "another's", "another digest", "error"],
)
def test_a_stream_that_is_not_as_it_should_be(
    fake: tuple[Docker, type[FakeEngine]],
    stream: bytes,
    digests: tuple[str, ...],
    error: type[EngineError],
    plain: str,
) -> None:
    """Is an error, and nothing is tagged."""
    docker, engine = fake
    engine.stream, engine.digests = stream, digests

    with pytest.raises(EngineError, match=plain) as seen:
        docker.pull(IMAGE, on_bytes=nothing)

    assert error is seen.type
    assert () == engine.tagged


def test_an_engine_that_never_answers_is_left(
    fake: tuple[Docker, type[FakeEngine]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody goes on to wait for it, though there is no connection yet that could be ended."""
    monkeypatch.setattr("tasks.effects.containers.docker.SPARE_S", 0.2)
    docker, engine = fake
    engine.silent = threading.Event()

    with pytest.raises(EngineGoneError, match=r"^the pull did not move for"):
        docker.pull(IMAGE, on_bytes=nothing, quiet_s=0.3)

    eventually(lambda: not any(one.name == "image pull" for one in threading.enumerate()), within_s=10)
    engine.silent.set()


def test_an_engine_may_take_its_time_to_answer(fake: tuple[Docker, type[FakeEngine]]) -> None:
    """As long as a stream may be quiet."""
    docker, engine = fake
    engine.stream, engine.silent = chunked(*whole()), threading.Event()
    threading.Timer(0.6, engine.silent.set).start()

    docker.pull(IMAGE, on_bytes=nothing, quiet_s=20)

    assert engine.tagged


def test_an_engine_that_went_away_is_asked_for_its_version_again(
    fake: tuple[Docker, type[FakeEngine]],
) -> None:
    """What comes back may be another release."""
    docker, engine = fake
    docker.has_image(IMAGE)
    docker.has_image(IMAGE)
    before = engine.asked.count("/version")
    engine.drops = True
    with pytest.raises(EngineGoneError):
        docker.has_image(IMAGE)
    engine.drops = False

    assert docker.has_image(IMAGE)
    assert (1, 2) == (before, engine.asked.count("/version"))
