"""What Ollama says while it pulls is counted as it means it, and its errors become ours."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import (
    DigestMismatchError,
    NoRoomError,
    ProvisionError,
    SourceRefusedError,
    SourceUnavailableError,
    StateFolderError,
)
from tasks.pull.ollama.faults import explain
from tasks.pull.ollama.stream import LONGEST_LINE_BYTES, Lines, Progress, PullStream

BIG, SMALL, CONFIG = "a" * 64, "b" * 64, "c" * 64
SIZES = {BIG: 314_572_800, SMALL: 200, CONFIG: 400}
TOTAL = sum(SIZES.values())


def pulling(digest: str, **counts: int) -> bytes:
    """Return a progress line as Ollama writes it."""
    line = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", **counts}
    return json.dumps(line, separators=(",", ":")).encode()


def said(status: str) -> bytes:
    """Return a line without counts."""
    return json.dumps({"status": status}).encode()


FRESH = (
    b'{"status":"pulling manifest"}',
    pulling(BIG, total=314_572_800),
    pulling(BIG, total=314_572_800, completed=10_747_904),
    pulling(BIG, total=314_572_800, completed=310_795_520),
    b'{"status":"verifying sha256 digest"}',
    b'{"status":"writing manifest"}',
    b'{"status":"success"}',
)


def fed(stream: PullStream, *lines: bytes) -> Progress:
    """Return how far the stream is after these lines."""
    return [stream.feed(line) for line in lines][-1]


def test_fresh_pull() -> None:
    """Layers that came within a tick have no line; only success ends a pull."""
    stream = PullStream("m:1", SIZES)

    done = [(step.done_bytes, step.moved, step.ended) for step in map(stream.feed, FRESH)]

    assert done == [
        (0, True, False),
        (0, True, False),
        (10_747_904, True, False),
        (310_795_520, True, False),
        (TOTAL, True, False),
        (TOTAL, True, False),
        (TOTAL, True, True),
    ]
    assert stream.fetched_bytes == TOTAL
    stream.end()


def test_total_is_the_manifests() -> None:
    """A layer's own total is not the pull's."""
    assert fed(PullStream("m:1", SIZES), pulling(SMALL, total=200, completed=100)).total_bytes == TOTAL


def test_cached_layer() -> None:
    """A layer that was there counts in full, also when its file was cut, and was not fetched."""
    stream = PullStream("m:1", SIZES)

    progress = fed(stream, pulling(BIG, total=5, completed=5), pulling(SMALL, total=200, completed=150))

    assert progress.done_bytes == SIZES[BIG] + 150
    assert stream.fetched_bytes == 150


def test_later_layer_completes_the_earlier() -> None:
    """The last line of a layer is short of its total."""
    stream = PullStream("m:1", SIZES)

    progress = fed(stream, pulling(BIG, total=314_572_800, completed=310_795_520), pulling(CONFIG, total=400))

    assert progress.done_bytes == SIZES[BIG] + SIZES[SMALL]


def test_resumed_layer() -> None:
    """What was there before is not fetched again, and what the server lost is."""
    stream = PullStream("m:1", SIZES, {BIG: 171_900_000})

    fed(stream, pulling(BIG, total=314_572_800, completed=14_600_000))
    fed(stream, pulling(BIG, total=314_572_800, completed=314_572_800), said("success"))

    assert stream.fetched_bytes == SIZES[BIG] - 14_600_000 + 600


def test_flat_lines_are_no_progress() -> None:
    """While a part waits, the lines go on with one count; a count that falls and comes back moves nothing."""
    stream = PullStream("m:1", SIZES)
    fed(stream, pulling(BIG, total=314_572_800, completed=100))
    fed(stream, pulling(BIG, total=314_572_800, completed=100))

    flat = [fed(stream, pulling(BIG, total=314_572_800, completed=count)).moved for count in (100, 60, 100)]
    further = fed(stream, pulling(BIG, total=314_572_800, completed=101)).moved

    assert (flat, further) == ([False] * 3, True)


def test_other_steps() -> None:
    """A step that is not known is shown and moves a pull once; one that counts something else counts."""
    stream = PullStream("m:1", SIZES)

    steps = [fed(stream, said("removing unused layers")) for _ in range(2)]
    mlx = [
        fed(
            stream, json.dumps({"status": "pulling model", "digest": "sha256:model", "completed": n}).encode()
        )
        for n in (1000, 1000, 2000)
    ]

    assert [step.moved for step in steps] == [True, False]
    assert [(step.moved, step.done_bytes) for step in mlx] == [(True, 1000), (False, 1000), (True, 2000)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[1]",
        b"null",
        b"7",
        b'"x"',
        b"\xff",
        b'{"status":7}',
        b'{"error":null}',
        b'{"error":""}',
    ],
)
def test_garbage_changes_nothing(line: bytes) -> None:
    """A line that says nothing is passed over."""
    stream = PullStream("m:1", SIZES)
    before = fed(stream, pulling(BIG, total=314_572_800, completed=100))

    after = stream.feed(line)

    assert (after.done_bytes, after.status, after.moved) == (before.done_bytes, before.status, False)


@pytest.mark.parametrize(
    "count", ['"7"', "true", "-5", "1e400", "1.5", "null", "99999999999999999999999", "[]"]
)
def test_odd_counts(count: str) -> None:
    """A count that is none is 0, and none is above the layer's size."""
    line = pulling(BIG, total=1).replace(b'"total":1', f'"total":1,"completed":{count}'.encode())

    assert 0 <= fed(PullStream("m:1", SIZES), said("pulling manifest"), line).done_bytes <= SIZES[BIG]


def test_end_without_success() -> None:
    """An answer that ends without success broke off, and says where."""
    stream = PullStream("m:1", SIZES)
    fed(stream, *FRESH[:4])

    with pytest.raises(
        SourceUnavailableError, match=r'broke off the pull of m:1 at "pulling a{12}"; .* on\.$'
    ):
        stream.end()


def test_nothing_after_success() -> None:
    """What comes after success is not looked at."""
    stream = PullStream("m:1", SIZES)
    fed(stream, *FRESH)

    assert fed(stream, b'{"error":"too late"}', said("pulling manifest")).ended


ERRORS = {
    "pull model manifest: file does not exist": (SourceRefusedError, "the Ollama library has no m:1;"),
    'pull model manifest: Get "https://h/v2": http: server gave HTTP response to HTTPS client': (
        SourceRefusedError,
        "speaks http",
    ),
    "context deadline exceeded": (SourceUnavailableError, "does not give Ollama the blobs of m:1"),
    "max retries exceeded: EOF": (SourceUnavailableError, "(max retries exceeded: EOF)"),
    f"digest mismatch, file must be downloaded again: want sha256:{BIG}, got sha256:{SMALL}": (
        DigestMismatchError,
        "sent other bytes for m:1",
    ),
    "write /m/blobs/sha256-a-partial: no space left on device": (NoRoomError, "is full while it pulls m:1"),
    "write /m/blobs/sha256-a-partial: disk quota exceeded": (NoRoomError, "is full"),
    "open /m/blobs/x: permission denied": (StateFolderError, "cannot write its folder"),
    "invalid model name": (SourceRefusedError, "does not take the name m:1"),
    "http: no Location header in response": (SourceRefusedError, "gives its blobs itself"),
    "this model requires MLX support, but the MLX runtime is not available": (
        SourceRefusedError,
        "MLX runtime",
    ),
    "pull model manifest: 412: \n\nThe model requires a newer version of Ollama.\n": (
        SourceRefusedError,
        "too old for m:1",
    ),
    "unauthorized: access denied": (SourceRefusedError, "does not open m:1"),
    "pull model manifest: 503: busy": (SourceUnavailableError, "could not pull m:1"),
    "pull model manifest: 429: slow down": (SourceUnavailableError, "the library does not give"),
    'Get "https://r/": tls: failed to verify certificate: x509: unknown authority': (
        SourceRefusedError,
        "does not trust",
    ),
    "dial tcp: lookup registry.ollama.ai: no such host": (SourceUnavailableError, "no such host"),
    "failed to validate GGUF with llama-quantize: llama-quantize unavailable: not found": (
        SourceRefusedError,
        "lacks llama-quantize",
    ),
    'pull model manifest: Get "https://h/": tls: first record does not look like a TLS handshake': (
        SourceRefusedError,
        "speaks http",
    ),
    "something {new} nobody knows": (SourceUnavailableError, "something {new} nobody knows"),
}


@pytest.mark.parametrize(("text", "expected"), ERRORS.items(), ids=lambda value: str(value)[:40])
def test_errors(text: str, expected: tuple[type[ProvisionError], str]) -> None:
    """Each of Ollama's errors is one sentence of ours, and says whether another try helps."""
    kind, words = expected

    with pytest.raises(kind) as caught:
        PullStream("m:1", SIZES).feed(json.dumps({"error": text}).encode())

    assert words in str(caught.value)
    assert str(caught.value).count("; ") == 2
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301  # our own bytes


def test_long_error() -> None:
    """A text that goes on for pages is cut."""
    assert len(str(explain("x" * 1_000_000, "m:1"))) < 500


def test_lines() -> None:
    """Lines are put together from pieces, and one without an end is dropped, not kept for ever."""
    lines = Lines()

    got = [*lines.feed(b"one\ntw"), *lines.feed(b"o\n"), *lines.feed(b"x" * (LONGEST_LINE_BYTES + 1))]
    got += [*lines.feed(b"more of it\nthree\nfour"), *lines.end()]

    assert got == [b"one", b"two", b"three", b"four"]


ODD = st.sampled_from([None, True, -1, 1.5, float("nan"), 1 << 70, "", "text", "\0", [], [[]], {}, {"a": 1}])
DIGESTS = st.sampled_from([f"sha256:{digest}" for digest in SIZES])
KEYS = st.sampled_from(["status", "digest", "total", "completed", "error"])
VALUES = ODD | DIGESTS | st.integers(0, 10**9) | st.text(max_size=5)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5).map(lambda line: json.dumps(line).encode())
TYPICAL = st.builds(pulling, st.sampled_from(list(SIZES)), completed=st.integers(0, 10**9))
ANY_LINE = st.binary(max_size=20) | OBJECTS | TYPICAL | st.sampled_from(FRESH)


def ends_in_a_sentence(stream: PullStream, lines: list[bytes]) -> str:
    """Feed everything, and return the error, if there is one."""
    try:
        for line in lines:
            progress = stream.feed(line)
            assert 0 <= progress.done_bytes <= progress.total_bytes == TOTAL
        stream.end()
    except ProvisionError as error:
        return str(error)
    return ""


@given(st.lists(ANY_LINE, max_size=20))
def test_any_stream(lines: list[bytes]) -> None:
    """Whatever comes, counts stay within the whole, and nothing but our errors is raised."""
    stream = PullStream("m:1", SIZES)

    assert ends_in_a_sentence(stream, lines).endswith(("", "."))
    assert stream.fetched_bytes >= 0


@given(st.lists(st.binary()))
def test_any_pieces(pieces: list[bytes]) -> None:
    """However an answer is cut, its lines are the same."""
    lines = Lines()

    got = [line for piece in pieces for line in lines.feed(piece)] + list(lines.end())

    assert got == [*b"".join(pieces).split(b"\n")[:-1], *filter(None, b"".join(pieces).split(b"\n")[-1:])]
