"""The hub on loopback answers as the real one: clients, ranges, pages, signatures, counters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.lab.asking import BIG, FILES, NAME, RESOLVE, again, ask, cdn, with_real_client
from tests.lab.hub import REVISION, HubLab, Repo, git_sha1
from tests.lab.hub_faults import (
    CLIMBING,
    Drop,
)
from tests.lab.hub_process import Control, HubProcess
from tests.lab.pace import Bucket, piece_bytes
from tests.lab.weights import contents

pytestmark = pytest.mark.real


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds a small repository."""
    with HubLab({NAME: Repo(FILES)}) as lab:
        yield lab


# --- the real client -------------------------------------------------------------------------


@pytest.mark.parametrize("cache_redirect", [False, True], ids=["plain", "through resolve-cache"])
def test_real_client(tmp_path: Path, *, cache_redirect: bool) -> None:
    """The real client downloads files from memory and from disk, verifies them and pages the list."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(20_000_000)
    repo = Repo({**FILES, "sparse.bin": sparse})
    with HubLab({NAME: repo}, cache_redirect=cache_redirect, page_size=2) as hub:
        told = with_real_client(hub.endpoint, tmp_path / "cache")

    assert contents(Path(str(told["folder"]))) == {**FILES, "sparse.bin": bytes(20_000_000)}
    assert told["bad"] == []
    assert told["listed"] == ["sub", "sub/deep", *repo.files]
    assert hub.sent_bytes == 20_000_000 + sum(len(data) for data in FILES.values())
    assert {name: size for name, (size, _) in told["sizes"].items()} == {
        **{name: len(data) for name, data in FILES.items()},
        "sparse.bin": 20_000_000,
    }
    assert hub.requests["cdn"] >= 2
    assert hub.tokens == {}


def test_hub_in_a_process(tmp_path: Path) -> None:
    """A hub over a folder takes faults, tells its counters, and comes back at its port after kill -9."""
    for name, data in FILES.items():
        (tmp_path / NAME / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / NAME / name).write_bytes(data)
    with HubProcess(tmp_path, page_size=2) as hub:
        endpoint = hub.endpoint
        hub.fail("cdn", Drop(at=1000), times=1)
        hub.fail("cdn", 503, times=1)
        answers = [ask(cdn(hub)) for _ in range(3)]
        told = hub.stat()
        hub.kill()
        with pytest.raises(ConnectionRefusedError):
            ask(endpoint)
        hub.start()
        hub.set(ranges=False)
        hub.fail("cdn", 404)
        hub.tell(Control(clear=True))
        after = ask(cdn(hub), Range="bytes=5-")

    assert [(200, 1000), (503, 0), (200, len(BIG))] == [(one.status, len(one.body)) for one in answers]
    assert told["requests"] == {"get": 3, "cdn": 3}
    assert told["sent_bytes"] == 1000 + len(BIG)
    assert [entry["status"] for entry in told["log"]] == [302, 200, 302, 503, 302, 200]
    assert (hub.endpoint, after.status, after.body) == (endpoint, 200, BIG)


# --- good answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=299990-", 299_990, 300_000),
        ("bytes=299990-400000", 299_990, 300_000),
        ("bytes=-7", 299_993, 300_000),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_ranges(tmp_path: Path, asked: str, first: int, end: int, *, on_disk: bool) -> None:
    """A range is answered with 206, its place and its bytes."""
    (tmp_path / "big").write_bytes(BIG)
    with HubLab({NAME: Repo({"big.bin": tmp_path / "big" if on_disk else BIG})}) as hub:
        answer = ask(cdn(hub), Range=asked)

    assert (answer.status, answer.headers["content-range"]) == (206, f"bytes {first}-{end - 1}/{len(BIG)}")
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.body == BIG[first:end]
    assert hub.log[-1].range == asked
    assert hub.log[-1].sent_bytes == end - first


def test_range_beyond_the_end(hub: HubLab) -> None:
    """A range that begins at the end is answered with 416 and the size."""
    answer = ask(cdn(hub), Range=f"bytes={len(BIG)}-")

    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(BIG)}")


def test_whole_body_in_spite_of_a_range(hub: HubLab) -> None:
    """With another ETag in If-Range, or without ranges at all, all bytes come with 200."""
    etag = ask(cdn(hub), "HEAD").headers["etag"]
    same = ask(cdn(hub), Range="bytes=5-", If_Range=etag)
    other = ask(cdn(hub), Range="bytes=5-", If_Range='"other"')
    hub.ranges = False
    without = ask(cdn(hub), Range="bytes=5-")

    assert (same.status, same.body) == (206, BIG[5:])
    assert (other.status, other.body) == (200, BIG)
    assert (without.status, without.body, "accept-ranges" in without.headers) == (200, BIG, False)


def test_large_file_is_announced(hub: HubLab) -> None:
    """HEAD of a large file tells digest, size and commit, and the CDN has another host name and ETag."""
    answer = ask(f"{hub.endpoint}{RESOLVE}/big.bin", "HEAD")

    assert answer.headers["x-linked-size"] == str(len(BIG))
    assert answer.headers["x-repo-commit"] == REVISION
    assert answer.headers["location"].startswith(f"http://localhost:{hub.port}/cdn/")
    assert answer.headers["x-linked-etag"] != ask(answer.headers["location"]).headers["etag"]


def test_listing(hub: HubLab) -> None:
    """Large files have their sha256 in the list, small ones git's name; `?blobs=true` says it too."""
    tree = ask(f"{hub.endpoint}/api/models/{NAME}/tree/main?recursive=true")
    info = ask(f"{hub.endpoint}/api/models/{NAME}/revision/{REVISION}?blobs=true")
    bare = ask(f"{hub.endpoint}/api/models/{NAME}/revision/{REVISION}")

    files = {entry["path"]: entry for entry in json.loads(tree.body) if entry["type"] == "file"}
    siblings = {entry["rfilename"]: entry for entry in json.loads(info.body)["siblings"]}
    assert set(files) == set(siblings) == set(FILES)
    assert files["config.json"]["oid"] == siblings["config.json"]["blobId"] == git_sha1(FILES["config.json"])
    assert files["big.bin"]["lfs"]["oid"] == siblings["big.bin"]["lfs"]["sha256"]
    assert files["big.bin"]["lfs"]["size"] == len(BIG)
    assert json.loads(bare.body)["siblings"][0] == {"rfilename": "config.json"}


def test_pages(hub: HubLab) -> None:
    """A list comes in pages of the size that is asked for, each with the address of the next."""
    pages, address = [], f"{hub.endpoint}/api/models/{NAME}/tree/main?recursive=true&limit=2"
    while address:
        answer = ask(address)
        pages.append([entry["path"] for entry in json.loads(answer.body)])
        address = answer.headers.get("link", "").partition("<")[2].partition(">")[0]

    assert pages == [["sub", "sub/deep"], ["config.json", "sub/deep/notes.txt"], ["big.bin"]]


def test_names_that_climb_out() -> None:
    """Any name can be listed, and is served to whoever asks for it."""
    with HubLab({NAME: Repo(dict.fromkeys(CLIMBING, b"x"))}) as hub:
        tree = ask(f"{hub.endpoint}/api/models/{NAME}/tree/main?recursive=true")
        bodies = [ask(f"{hub.endpoint}{RESOLVE}/{quote(name, safe='')}").body for name in CLIMBING]

    assert [entry["path"] for entry in json.loads(tree.body) if entry["type"] == "file"] == list(CLIMBING)
    assert set(bodies) == {b"x"}


def test_signed_addresses_expire(hub: HubLab) -> None:
    """An address on the CDN ends on demand, by its count or by its time; the hub gives a new one."""
    old = cdn(hub)
    hub.expire()
    hub.lifetime_requests = 1
    once = cdn(hub)
    hub.lifetime_s = -1.0
    late = cdn(hub)

    assert [ask(old).status, ask(once).status, ask(once).status, ask(late).status] == [403, 200, 403, 403]
    assert ask(once.partition("?")[0]).status == 403


def test_counts(hub: HubLab) -> None:
    """Connections are counted by host name, now and at most, and requests in their order."""
    connections = [HTTPConnection("127.0.0.1", hub.port) for _ in range(3)]
    for connection in connections:
        again(connection)
        again(connection)
    assert hub.now == {"127.0.0.1": 3}
    for connection in connections:
        connection.close()
    ask(cdn(hub))

    assert hub.peak["127.0.0.1"] >= 3
    assert hub.opened == {"127.0.0.1": 4, "localhost": 1}
    assert hub.sent == {"get": 18, "cdn": len(BIG)}
    assert [entry.where for entry in hub.log] == ["get"] * 7 + ["cdn"]


def test_rates(hub: HubLab) -> None:
    """Rates hold senders back one by one or all together, and change no bytes."""
    bucket = Bucket()
    waits = [bucket.take(1000, 10.0) for _ in range(3)]
    hub.bytes_per_s, hub.link_bytes_per_s, hub.latency_s = 5e6, 5e6, 0.01

    assert waits[0] == 0
    assert waits[1] > 50
    assert waits[2] > waits[1]
    assert (piece_bytes(None, 200.0), piece_bytes(None, None)) == (10, None)
    assert ask(cdn(hub)).body == BIG
