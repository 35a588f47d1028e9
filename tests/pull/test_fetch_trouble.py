"""The download engine against a hub that does everything wrong that a hub can do, one thing at a time.

After each: success or one plain sentence, nothing wrong in the store, and the next pull goes on.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import (
    CatalogueError,
    DigestMismatchError,
    ProvisionError,
    SourceRefusedError,
    SourceUnavailableError,
)
from tasks.pull.fetch import crew
from tasks.pull.fetch.blocks import BLOCK_BYTES
from tasks.pull.fetch.web import Wires
from tasks.pull.sources import Hub
from tests.lab import hub_files
from tests.lab.fetching import (
    BIG,
    BIG_BYTES,
    FILES,
    SIZE_BYTES,
    Beside,
    Store,
    fetched,
    refetched,
    wanted_of,
)
from tests.lab.hub import HubLab, Repo, What, Where
from tests.lab.hub_faults import (
    CLIMBING,
    Drop,
    Fault,
    Flip,
    Garbage,
    Hangup,
    Lie,
    Long,
    RedirectLoop,
    RedirectTo,
    Short,
    Silent,
    Slow,
    Stall,
    Status,
    Swap,
)
from tests.lab.weights import REPO, pin, pinned, wait_for

pytestmark = pytest.mark.real


def named(value: object) -> str | None:
    """Name a case by its fault, without the megabytes that it may carry."""
    text = repr(value)
    return f"{text[:40]}… {len(text)}" if len(text) > 60 else text


YEARS_S = 10 * 365 * 86_400.0


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait little between tries."""
    monkeypatch.setattr(crew, "BACKOFF_S", 0.05)


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds the lab's repository."""
    with HubLab({REPO: Repo(FILES)}, buffer_bytes=65536) as lab:
        yield lab


@pytest.fixture
def store(tmp_path: Path, hub: HubLab) -> Store:
    """Return a store that is filled from the hub."""
    return Store(tmp_path / "store", hub.endpoint)


def heals(store: Store, hub: HubLab) -> None:
    """Pull again, now that nothing is wrong any more."""
    hub.faults.clear()
    hub.shelf.swapped.clear()

    store.pull()

    store.is_whole()


# --- one bad answer --------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "at", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5_000_000, BIG_BYTES - 1]
)
def test_drop(store: Store, hub: HubLab, at: int, *, reset: bool) -> None:
    """A connection that ends at any byte costs at most a block of what it had brought."""
    hub.fail("cdn", Drop(at=at, reset=reset), times=1)

    store.pull()

    store.is_whole()
    assert hub.faults["cdn"][0].times == 0
    # A reset also loses what the kernel had not handed over yet.
    assert refetched(hub) <= BLOCK_BYTES + (2_000_000 if reset else 0)


ONCE: list[tuple[Where, What]] = [
    *((where, status) for where in ("get", "cdn") for status in (408, 425, 429, 500, 502, 503, 504)),
    ("get", Status(429, retry_after_s=0)),
    ("get", Status(429, retry_after_s=1)),
    ("get", Status(429, rate_limit_s=1)),
    ("cdn", Status(503, retry_after_s=1, as_date=True)),
    ("cdn", Short()),
    ("cdn", Short(by=BLOCK_BYTES + 1)),
    ("cdn", Long()),
    ("cdn", Long(announced=True)),
    ("cdn", Garbage()),
    ("get", Garbage()),
    ("get", Hangup()),
    ("cdn", Hangup()),
    ("cdn", Stall(at=3_000_000)),
    ("cdn", Silent()),
    ("get", Silent()),
    ("cdn", Silent(for_s=0.2)),
]


@pytest.mark.parametrize(("where", "what"), ONCE, ids=named)
def test_one_bad_answer(store: Store, hub: HubLab, where: Where, what: What) -> None:
    """One bad answer of any kind does not fail a pull, and what came before it is kept."""
    hub.fail(where, what, times=1, only=BIG)

    store.pull(wires=Wires(connect_s=1.0, read_s=0.4))

    store.is_whole()
    assert hub.faults[where][0].times == 0
    assert refetched(hub) <= 4_000_000


@pytest.mark.parametrize("years", [-10, 10])
def test_hub_with_a_wrong_clock(store: Store, hub: HubLab, years: int) -> None:
    """A date to come again at counts from the hub's own clock, however wrong."""
    hub.clock_s = years / 10 * YEARS_S
    hub.fail("get", Status(429, retry_after_s=1, as_date=True), times=1)

    pulled = store.pull()

    store.is_whole()
    assert pulled.seconds < 5


def test_small_file_stumbles(store: Store, hub: HubLab) -> None:
    """A small file is fetched again when it breaks off, comes short or too long."""
    for fault in (Drop(after=3), Short(by=2), Long(by=2), Long(by=2, announced=True), Garbage()):
        hub.then("get", fault, times=1, only="config.json")

    store.pull(tries=10)

    store.is_whole()


# --- a hub that stays bad --------------------------------------------------------------------

FOREVER: list[tuple[Where, What, type[ProvisionError], str]] = [
    *(
        (where, status, SourceUnavailableError, rf":\d+ answered {status} \w+")
        for where, status in (("get", 429), ("get", 503), ("cdn", 429), ("cdn", 500), ("cdn", 504))
    ),
    ("get", 400, SourceRefusedError, r"the hub answered 400 Bad Request for model\.safetensors"),
    ("get", 451, SourceRefusedError, "the hub answered 451 Unavailable For Legal Reasons"),
    ("get", 599, SourceRefusedError, "the hub answered 599 for"),
    ("cdn", 403, SourceRefusedError, r"the hub answered 403 Forbidden for model\.safetensors"),
    ("cdn", 416, DigestMismatchError, rf"has fewer bytes of model\.safetensors than the {BIG_BYTES} "),
    ("cdn", Drop(at=5_000_000), SourceUnavailableError, r"broke off"),
    ("cdn", Drop(after=0), SourceUnavailableError, r"broke off"),
    ("cdn", Garbage(), SourceUnavailableError, r"does not answer \(what it says is no HTTP\)"),
    ("cdn", Hangup(), SourceUnavailableError, r"does not answer \(the connection broke off\)"),
    ("get", Garbage(), SourceUnavailableError, r"does not answer \(what it says is no HTTP\)"),
    ("get", RedirectLoop(), SourceRefusedError, r"127\.0\.0\.1:\d+ redirects in a circle"),
    (
        "get",
        RedirectTo("ftp://127.0.0.1:9"),
        SourceRefusedError,
        "redirects to something that is no web address",
    ),
    ("get", RedirectTo("http://[::1"), SourceRefusedError, "redirects to something that is no web address"),
    (
        "get",
        RedirectTo("http://127.0.0.1:99999"),
        SourceRefusedError,
        "redirects to something that is no web address",
    ),
    (
        "get",
        RedirectTo("http://127.0.0.1:9"),
        SourceUnavailableError,
        r"127\.0\.0\.1:9 does not answer \(Connection refused\)",
    ),
    ("cdn", Flip(at=70), DigestMismatchError, r"model\.safetensors came with sha256 \w+… instead of \w+…"),
    ("cdn", Flip(), DigestMismatchError, "came with sha256"),
    (
        "get",
        Lie(sha256="0" * 64),
        DigestMismatchError,
        r"is announced with sha256 0{16}… instead of \w{16}…",
    ),
    ("cdn", Swap(FILES[BIG][:-1]), DigestMismatchError, "is announced with sha256"),
    ("cdn", Swap(FILES[BIG] + b"x"), DigestMismatchError, "is announced with sha256"),
    ("cdn", Swap(bytes(BIG_BYTES)), DigestMismatchError, r"(came|is announced) with sha256"),
]


@pytest.mark.parametrize(("where", "what", "error", "text"), FOREVER, ids=named)
def test_hub_stays_bad(
    store: Store, hub: HubLab, where: Where, what: What, error: type[ProvisionError], text: str
) -> None:
    """A fault that lasts is one sentence of the right kind; afterwards the next pull succeeds."""
    hub.fail(where, what, only=BIG)

    failed = store.fails(tries=4, wires=Wires(connect_s=1.0, read_s=0.5))

    assert type(failed) is error
    assert re.search(text, failed.what), failed.what
    assert BIG not in store.visible
    heals(store, hub)


@pytest.mark.parametrize("what", [Flip(at=70), Flip(), Lie(sha256="0" * 64)], ids=named)
def test_wrong_bytes_leave_nothing(store: Store, hub: HubLab, what: Fault) -> None:
    """Of bytes with a wrong digest nothing is gone on with, and the next source is asked."""
    hub.fail("get" if isinstance(what, Lie) else "cdn", what, only=BIG)

    with HubLab({REPO: Repo(FILES)}) as other:
        pulled = store.pull(Hub("mirror", other.endpoint))

        assert pulled.source == "mirror"
        assert len(FILES[BIG]) <= other.sent_bytes
    store.is_whole()
    assert "hub: model.safetensors" in pulled.change.reason


def test_lie_is_found_before_the_bytes(store: Store, hub: HubLab) -> None:
    """A hub that itself names another digest is refused before the first byte."""
    hub.fail("get", Lie(sha256="0" * 64), only=BIG)

    store.fails()

    assert hub.sent["cdn"] == 0


def test_what_came_before_a_drop_is_kept(store: Store, hub: HubLab) -> None:
    """A pull that gives up keeps what it has, and the next one fetches the rest only."""
    hub.fail("cdn", Drop(at=8_000_000))
    store.fails(tries=3)
    first = hub.sent_bytes
    hub.faults.clear()

    pulled = store.pull()

    store.is_whole()
    assert first > 4_000_000
    assert pulled.fetched_bytes <= SIZE_BYTES - first + 4 * BLOCK_BYTES


# --- redirects, tokens, addresses that run out -----------------------------------------------


def test_token_stays_at_home(store: Store, hub: HubLab) -> None:
    """Neither the CDN nor whoever else the hub points to gets the token."""
    hub.repos[REPO] = Repo(FILES, token="s3cret")
    store.token = "s3cret"
    with HubLab({REPO: Repo(FILES)}) as other:
        hub.fail("get", RedirectTo(other.endpoint), only="config.json")

        store.pull()

        assert other.requests.total() == 1
        assert other.tokens == {}
    store.is_whole()
    assert hub.tokens == {"127.0.0.1": {"Bearer s3cret"}}


@pytest.mark.parametrize("token", [None, "wrong"])
def test_gated(store: Store, hub: HubLab, token: str | None) -> None:
    """Without the right token a gated repository is refused at once, and said with what to do."""
    hub.repos[REPO] = Repo(FILES, token="s3cret")
    store.token = token

    failed = store.fails()

    assert "org/name is gated" in failed.what
    assert failed.then == f"accept its licence at {hub.endpoint}/org/name and set HF_TOKEN"
    assert "wrong" not in str(failed)
    assert hub.requests.total() <= 2


@pytest.mark.parametrize("lifetime", [1, 2])
def test_addresses_that_run_out(store: Store, hub: HubLab, lifetime: int) -> None:
    """Where a signed address is good for so many requests only, fresh ones are asked for; nothing fails."""
    hub.lifetime_requests = lifetime
    hub.fail("cdn", Drop(at=2_000_000), times=1)
    hub.then("cdn", Drop(at=7_000_000), times=1)

    store.pull(tries=3)

    store.is_whole()
    assert refetched(hub) <= 4 * BLOCK_BYTES


def test_address_runs_out_in_the_middle(store: Store, hub: HubLab) -> None:
    """When all signed addresses are withdrawn and connections end, the pull goes on with fresh ones."""
    hub.link_bytes_per_s = 12e6
    beside = Beside(store, {})
    wait_for(lambda: hub.sent_bytes > 2_000_000, what="the middle")

    hub.expire()
    hub.cut()

    beside.end()
    store.is_whole()


def test_bytes_change_in_the_middle(tmp_path: Path, hub: HubLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the source has other bytes than those of the first answer, the file is fetched anew, once."""
    monkeypatch.setattr(hub_files, "LARGE_BYTES", 1 << 40)  # so that no redirect names a digest
    wanted = wanted_of({BIG: FILES[BIG]}, hub.endpoint, tmp_path)
    hub.fail("get", Swap(bytes(BIG_BYTES)), times=1)
    hub.then("get", Swap(FILES[BIG]))

    crossed, got = fetched(wanted)

    assert got == {BIG: FILES[BIG]}
    assert BIG_BYTES < crossed <= 2 * BIG_BYTES
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [BIG_BYTES - 1, BIG_BYTES + 1])
@pytest.mark.parametrize("ranges", [True, False])
def test_another_length(
    tmp_path: Path, hub: HubLab, monkeypatch: pytest.MonkeyPatch, length: int, *, ranges: bool
) -> None:
    """A file of another length is said with both numbers, with ranges and without."""
    monkeypatch.setattr(hub_files, "LARGE_BYTES", 1 << 40)
    hub.ranges = ranges
    hub.repos[REPO] = Repo({BIG: bytes(length)})

    with pytest.raises(
        SourceUnavailableError, match=f"is announced with {length} bytes instead of {BIG_BYTES}"
    ):
        fetched(wanted_of({BIG: FILES[BIG]}, hub.endpoint, tmp_path), tries=2)


# --- servers without ranges ------------------------------------------------------------------


def test_no_ranges(store: Store, hub: HubLab) -> None:
    """A server that ignores ranges gives the whole file to one connection."""
    hub.ranges = False

    store.pull()

    store.is_whole()


def test_no_ranges_any_more(store: Store, hub: HubLab) -> None:
    """What is there is not written again by a server that has lost its ranges: the digest read it already."""
    hub.fail("cdn", Drop(at=8_000_000))
    store.fails(tries=3)
    hub.fail("cdn", Swap(bytes(1000) + FILES[BIG][1000:]))
    hub.ranges = False

    store.pull()

    store.is_whole()


def test_no_ranges_and_drops(store: Store, hub: HubLab) -> None:
    """A server without ranges that breaks off is asked again, and what came is not lost."""
    hub.ranges = False
    for at in (3_000_000, 6_000_000, 9_000_000):
        hub.then("cdn", Drop(at=at), times=1)

    store.pull(tries=3)

    store.is_whole()


# --- silence ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [Stall(at=5_000_000), Stall(after=0), Silent(), Slow(2000)], ids=named)
def test_standstill(store: Store, hub: HubLab, what: Fault) -> None:
    """A hub that stands still, or drips, is named as stalled in an event and then given up."""
    hub.fail("cdn", what)

    failed = store.fails(quiet_s=1.5, wires=Wires(read_s=20.0))

    assert type(failed) is SourceUnavailableError
    assert re.search(r"127\.0\.0\.1:\d+ gave nothing for [23] s", failed.what)
    assert any(event.message.startswith("stalled: no byte from 127.0.0.1:") for event in store.watcher.events)
    heals(store, hub)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        *(
            (where, what)
            for where in ("get", "cdn")
            for what in (Slow(3000), Slow(20, headers=True), Silent())
        ),
        ("cdn", Stall(at=100)),
        ("cdn", Stall(at=8_700_000)),
    ],
    ids=str,
)
def test_one_slow_connection(store: Store, hub: HubLab, where: Where, what: Fault) -> None:
    """One connection that drips or stands is ended; another brings what it should have brought."""
    hub.fail(where, what, times=1, only=BIG)

    pulled = store.pull(quiet_s=1.5, wires=Wires(read_s=60.0))

    store.is_whole()
    assert pulled.seconds < 20


@pytest.mark.parametrize("where", ["get", "cdn"])
@pytest.mark.parametrize("what", [Silent(), Stall(at=100), Slow(1000)], ids=named)
def test_stop_ends_waiting_connections(store: Store, hub: HubLab, where: Where, what: Fault) -> None:
    """A stop does not wait for a server that is silent, and leaves no thread that does."""
    hub.fail(where, what)
    beside = Beside(store, {"wires": Wires(read_s=60.0)})
    wait_for(lambda: hub.requests[where], what="a request")

    assert beside.is_stopped() < 5

    store.check()


# --- addresses -------------------------------------------------------------------------------


def test_name_that_does_not_resolve(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody knows is said; no name server is asked by this test."""
    asked = []

    def unknown(host: str, *_more: object, **_named: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    store.endpoint = "http://hub.invalid"

    failed = store.fails()

    assert "hub.invalid does not answer (its name does not resolve)" in failed.what
    assert set(asked) == {"hub.invalid"}
    assert len(asked) <= 3


def test_nobody_listens(store: Store, hub: HubLab) -> None:
    """A port that nobody listens on is knocked at a few times only, for another source may be waiting."""
    with HubLab({}) as gone:
        store.endpoint = gone.endpoint

    failed = store.fails(tries=100)

    assert type(failed) is SourceUnavailableError
    assert "does not answer (Connection refused)" in failed.what
    assert hub.requests.total() == 0


@pytest.mark.parametrize("endpoint", ["http://", "http://:80", "http://127.0.0.1:99999", "nonsense"])
def test_endpoint_that_is_no_address(store: Store, endpoint: str) -> None:
    """An endpoint that cannot be asked is refused in a sentence."""
    store.endpoint = endpoint

    assert type(store.fails()) is SourceRefusedError


@pytest.mark.parametrize("name", [name for name in CLIMBING if ":" not in name and "\n" not in name])
def test_names_that_climb(store: Store, hub: HubLab, name: str) -> None:
    """A file whose name leaves the store is refused before the first byte."""
    weights = pinned({"config.json": FILES["config.json"]})
    bad = pinned({"good": b"x"})
    weights = type(weights)(
        repo=weights.repo, revision=weights.revision, files=(*weights.files, *bad.files, pin(name, b"y"))
    )

    with pytest.raises(CatalogueError, match="would leave its folder"):
        store.pull(weights=weights)

    assert hub.requests.total() == 0
    assert not store.path.exists()


def test_random_trouble(store: Store, hub: HubLab) -> None:
    """A hub whose answers mostly break, each in another way, still brings the right bytes in the end."""
    dice = random.Random(11)  # noqa: S311  # a fixed row of faults
    kinds: list[Any] = [
        lambda: Drop(at=dice.randrange(BIG_BYTES)),
        lambda: Drop(after=dice.randrange(BLOCK_BYTES * 2)),
        lambda: Short(by=dice.randrange(1, 5000)),
        lambda: Long(by=dice.randrange(1, 5000)),
        lambda: Status(dice.choice([429, 500, 503])),
        Hangup,
        Garbage,
    ]
    for _ in range(25):
        hub.then("cdn", dice.choice(kinds)(), times=1, skip=dice.randrange(2))

    store.pull(tries=40)

    store.is_whole()
    assert sum(order.times for order in hub.faults["cdn"]) < 25
