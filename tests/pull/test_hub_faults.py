"""Each fault of the hub on loopback does the harm that it names, and no other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import time

import pytest

from tests.lab.asking import BIG, FILES, NAME, RESOLVE, again, ask, cdn, curl
from tests.lab.hub import HubLab, Repo, Where
from tests.lab.hub_faults import (
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
    What,
)

pytestmark = pytest.mark.real


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds a small repository."""
    with HubLab({NAME: Repo(FILES)}) as lab:
        yield lab


@pytest.mark.parametrize("what", ["drop", "truncated", Drop(at=150_000), Drop(after=150_000)])
def test_drop(hub: HubLab, what: What) -> None:
    """The whole body is announced and half of it comes; the next answer is good."""
    hub.fail("cdn", what, times=1)

    answer = ask(cdn(hub))

    assert answer.headers["content-length"] == str(len(BIG))
    assert (answer.whole, answer.body) == (False, BIG[:150_000])
    assert ask(cdn(hub)).body == BIG


def test_reset(hub: HubLab) -> None:
    """A reset is seen as such."""
    hub.fail("cdn", Drop(after=0, reset=True))

    with pytest.raises(ConnectionResetError):
        ask(cdn(hub))


def test_fault_at_a_byte_hits_only_its_carrier(hub: HubLab) -> None:
    """Of two ranges, the one that carries the byte breaks, at that byte."""
    hub.fail("cdn", Drop(at=200_000), times=1)

    early = ask(cdn(hub), Range="bytes=0-149999")
    late = ask(cdn(hub), Range="bytes=150000-")

    assert early.body == BIG[:150_000]
    assert (late.whole, late.body) == (False, BIG[150_000:200_000])


def test_faults_of_one_file_after_good_answers_in_turn(hub: HubLab) -> None:
    """Faults can wait, can be for one file alone, and can follow each other."""
    hub.fail("get", 500, skip=1, times=1, only="config.json")
    hub.then("get", 502, times=1)
    names = ["config.json", "sub/deep/notes.txt", "config.json", "config.json"]

    statuses = [ask(f"{hub.endpoint}{RESOLVE}/{name}").status for name in names]

    assert statuses == [502, 200, 500, 200]


@pytest.mark.parametrize("fault", [Stall(at=1000), Silent()])
def test_silence(hub: HubLab, fault: Fault) -> None:
    """Nothing more comes until the client gives up."""
    hub.fail("cdn", fault)

    with pytest.raises(TimeoutError):
        ask(cdn(hub), timeout_s=0.3)


@pytest.mark.parametrize("fault", [Stall(at=1000, for_s=0.05), Silent(for_s=0.05), Slow(30e6, headers=True)])
def test_passing_silence(hub: HubLab, fault: Fault) -> None:
    """What was only late is whole."""
    hub.fail("cdn", fault)

    assert ask(cdn(hub)).body == BIG


def test_wrong_lengths(hub: HubLab) -> None:
    """A body can be less or more than was asked for, as announced or not."""
    hub.fail("cdn", Short(10), times=1)
    hub.then("cdn", Long(10, announced=True), times=1)
    hub.then("cdn", Long(10), times=1)
    short, long = ask(cdn(hub)), ask(cdn(hub), Range="bytes=0-99")
    over = curl("--ignore-content-length", cdn(hub))

    assert (short.whole, short.body) == (True, BIG[:-10])
    assert (long.whole, len(long.body), long.headers["content-range"]) == (True, 110, "bytes 0-99/300000")
    assert over.stdout == BIG + b"\xee" * 10


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_flip(tmp_path: Path, *, on_disk: bool) -> None:
    """One bit of one byte is wrong, wherever the range begins."""
    (tmp_path / "big").write_bytes(BIG)
    with HubLab({NAME: Repo({"big.bin": tmp_path / "big" if on_disk else BIG})}) as hub:
        hub.fail("cdn", Flip(200_000))
        answer = ask(cdn(hub), Range="bytes=100000-")

    assert [at for at, byte in enumerate(answer.body) if byte != BIG[100_000 + at]] == [100_000]


@pytest.mark.parametrize("status", [401, 403, 404, 408, 416, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("where", ["head", "get", "cdn", "api"])
def test_statuses(hub: HubLab, where: Where, status: int) -> None:
    """Every kind of answer can be a status."""
    addresses = {"cdn": cdn(hub), "api": f"{hub.endpoint}/api/models/{NAME}"}
    hub.fail(where, status)

    answer = ask(
        addresses.get(where, f"{hub.endpoint}{RESOLVE}/big.bin"), "HEAD" if where == "head" else "GET"
    )

    assert answer.status == status


def test_when_to_come_again(hub: HubLab) -> None:
    """A refusal says when to come again: in seconds, as a date, or as a rate limit."""
    hub.fail("get", Status(429, retry_after_s=7), times=1)
    hub.then("get", Status(503, retry_after_s=60, as_date=True), times=1)
    hub.then("get", Status(429, rate_limit_s=55), times=1)

    answers = [ask(f"{hub.endpoint}{RESOLVE}/config.json").headers for _ in range(3)]

    assert answers[0]["retry-after"] == "7"
    assert 0 < parsedate_to_datetime(answers[1]["retry-after"]).timestamp() - time() < 61
    assert answers[2]["ratelimit"] == '"api";r=0;t=55'


def test_redirects(hub: HubLab) -> None:
    """A redirect can lead back to itself or to another origin, where tokens would be seen."""
    hub.fail("get", RedirectLoop())
    loop = curl("-L", "--max-redirs", "5", f"{hub.endpoint}{RESOLVE}/config.json")
    with HubLab({NAME: Repo(FILES)}) as other:
        hub.fail("get", RedirectTo(other.endpoint))
        address = ask(f"{hub.endpoint}{RESOLVE}/config.json").headers["location"]
        body = ask(address, Authorization="Bearer x").body

    assert loop.returncode == 47
    assert body == FILES["config.json"]
    assert other.tokens == {"127.0.0.1": {"Bearer x"}}


@pytest.mark.parametrize("fault", [Garbage(), Hangup()])
@pytest.mark.parametrize("where", ["head", "get", "cdn", "api"])
def test_no_http(hub: HubLab, where: Where, fault: Fault) -> None:
    """What comes is not HTTP, or nothing at all."""
    addresses = {"cdn": cdn(hub), "api": f"{hub.endpoint}/api/models/{NAME}"}
    hub.fail(where, fault)

    with pytest.raises(HTTPException):
        ask(addresses.get(where, f"{hub.endpoint}{RESOLVE}/big.bin"), "HEAD" if where == "head" else "GET")


@pytest.mark.parametrize("fault", [Drop(), Drop(reset=True), Stall()])
@pytest.mark.parametrize("where", ["head", "get"])
def test_answers_without_a_body_break_too(hub: HubLab, where: Where, fault: Fault) -> None:
    """HEAD and a redirect drop or stall before they say anything."""
    hub.fail(where, fault)

    with pytest.raises((HTTPException, OSError)):
        ask(f"{hub.endpoint}{RESOLVE}/big.bin", where.upper(), timeout_s=0.3)


def test_file_that_changes(hub: HubLab) -> None:
    """After a good answer, the same address has other bytes and another ETag."""
    address, new = cdn(hub), bytes(len(BIG))
    hub.fail("cdn", Swap(new), skip=1, times=1)
    old = ask(address, Range="bytes=0-9")
    answers = [ask(address, Range="bytes=10-", If_Range=old.headers["etag"]) for _ in range(2)]

    assert old.body == BIG[:10]
    assert [(one.status, one.body) for one in answers] == [(200, new), (200, new)]
    assert answers[0].headers["etag"] != old.headers["etag"]
    assert ask(cdn(hub)).body == new


def test_lies(hub: HubLab) -> None:
    """The list and the headers can each say a wrong digest, size, name or commit."""
    hub.fail("api", Lie("big.bin", sha256="0" * 64, size=5, path="../x"))
    hub.fail("head", Lie(sha256="1" * 64, size=6, commit="f" * 40))
    listed = json.loads(ask(f"{hub.endpoint}/api/models/{NAME}/tree/main?recursive=true").body)
    headers = ask(f"{hub.endpoint}{RESOLVE}/big.bin", "HEAD").headers

    entry = listed[-1]
    assert (entry["path"], entry["size"], entry["lfs"]["oid"]) == ("../x", 5, "0" * 64)
    assert listed[-2]["path"] == "sub/deep/notes.txt"
    assert (headers["x-linked-etag"], headers["x-linked-size"]) == (f'"{"1" * 64}"', "6")
    assert headers["x-repo-commit"] == "f" * 40


def test_wrong_clock(hub: HubLab) -> None:
    """The Date of every answer can be years off."""
    hub.clock_s = -10 * 365 * 86_400

    answer = ask(f"{hub.endpoint}{RESOLVE}/config.json")

    assert time() - parsedate_to_datetime(answer.headers["date"]).timestamp() > 9 * 365 * 86_400


def test_cut(hub: HubLab) -> None:
    """All connections can be cut at once; new ones are taken."""
    connection = HTTPConnection("127.0.0.1", hub.port)
    again(connection)
    hub.cut()

    with pytest.raises((HTTPException, OSError)):
        again(connection)
    connection.close()
    assert ask(f"{hub.endpoint}{RESOLVE}/config.json").status == 200


def test_curl_resumes(tmp_path: Path, hub: HubLab) -> None:
    """Curl gets the first part, and with -C - only what is missing."""
    hub.fail("cdn", Drop(at=100_000), times=1)
    target = str(tmp_path / "big.bin")
    first = curl("-L", "-o", target, f"{hub.endpoint}{RESOLVE}/big.bin")
    second = curl("-L", "-C", "-", "-o", target, f"{hub.endpoint}{RESOLVE}/big.bin")

    assert (first.returncode, second.returncode) == (18, 0)
    assert Path(target).read_bytes() == BIG
    assert hub.sent_bytes == len(BIG)


def test_closed_lab_has_no_connections() -> None:
    """A lab that was left answers nobody, on old connections neither."""
    with HubLab({NAME: Repo(FILES)}) as hub:
        connection = HTTPConnection("127.0.0.1", hub.port)
        again(connection)

    with contextlib.closing(connection), pytest.raises((HTTPException, OSError)):
        again(connection)
