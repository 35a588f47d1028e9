"""A seed gives what is verified, under the names that the Hub gives it, and says in its log to whom."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from tasks.contracts import WeightFile, Weights
from tasks.pull import store
from tasks.pull.seed.app import Answered, build
from tests.lab.hub import REVISION, git_sha1
from tests.lab.ollama_registry import digest_of
from tests.lab.seeding import (
    TOKEN,
    asked,
    blob_of,
    flipped,
    open_files_stay,
    stocked,
)
from tests.lab.weights import BIG, FILES, REPO

RESOLVE = f"/{REPO}/resolve/{REVISION}"
API = f"/api/models/{REPO}"
SECRET = b"not for neighbours"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a store with the lab's files."""
    stocked(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def app(cache: Path) -> ASGIApp:
    """Return a seed over it."""
    return build(cache, token=TOKEN)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("revision", [REVISION, "main", f"pmoves%2F{REVISION[:8]}"])
def test_file(app: ASGIApp, name: str, revision: str) -> None:
    """A file comes whole, under the names that the Hub gives it, at its revision and by every ref."""
    answer = asked(app, f"/{REPO}/resolve/{revision}/{name}")

    sha256 = hashlib.sha256(FILES[name]).hexdigest()
    etag = sha256 if name == BIG else git_sha1(FILES[name])
    linked = {"x-linked-etag": f'"{sha256}"', "x-linked-size": str(len(FILES[name]))}
    assert (answer.status, answer.body, answer.whole) == (200, FILES[name], True)
    assert answer.headers == {
        "content-type": "application/octet-stream",
        "content-length": str(len(FILES[name])),
        "accept-ranges": "bytes",
        "etag": f'"{etag}"',
        "x-repo-commit": REVISION,
        **(linked if name == BIG else {}),
    }


def test_head(app: ASGIApp) -> None:
    """HEAD says the same as GET, without a body, also where a range is asked for."""
    get, head = (asked(app, f"{RESOLVE}/{BIG}", method) for method in ("GET", "HEAD"))
    ranged = asked(app, f"{RESOLVE}/{BIG}", "HEAD", range="bytes=1-2")

    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert (ranged.status, ranged.headers) == (head.status, head.headers)


@pytest.mark.parametrize(
    ("asked_for", "first", "end"),
    [
        ("bytes=0-", 0, 3_000_000),
        ("bytes=1048575-1048576", 1_048_575, 1_048_577),
        ("bytes=-5", 2_999_995, 3_000_000),
    ],
)
def test_range(app: ASGIApp, asked_for: str, first: int, end: int) -> None:
    """A part comes as 206, and says which it is."""
    answer = asked(app, f"{RESOLVE}/{BIG}", range=asked_for)

    assert (answer.status, answer.body) == (206, FILES[BIG][first:end])
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/3000000"
    assert answer.headers["content-length"] == str(end - first)


def test_range_behind_the_end(app: ASGIApp) -> None:
    """A range that the file does not have is 416 with its size."""
    answer = asked(app, f"{RESOLVE}/{BIG}", range="bytes=3000000-")

    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */3000000")


@pytest.mark.parametrize(("etag", "status"), [(None, 206), ("right", 206), ("other", 200), ("W/right", 200)])
def test_if_range(app: ASGIApp, etag: str | None, status: int) -> None:
    """A range counts only for the file that the client began with."""
    right = hashlib.sha256(FILES[BIG]).hexdigest()
    said = {} if etag is None else {"if_range": f'"{etag}"'.replace("right", right)}
    answer = asked(app, f"{RESOLVE}/{BIG}", range="bytes=5-9", **said)

    assert answer.status == status
    assert answer.body == (FILES[BIG][5:10] if status == 206 else FILES[BIG])


def test_empty_file(tmp_path: Path) -> None:
    """A file without bytes is a file."""
    stocked(tmp_path, {"empty.txt": b""})
    app = build(tmp_path, token=TOKEN)

    whole, part = asked(app, f"{RESOLVE}/empty.txt"), asked(app, f"{RESOLVE}/empty.txt", range="bytes=0-")

    assert (whole.status, whole.headers["content-length"], whole.whole) == (200, "0", True)
    assert part.status == 416


@pytest.mark.parametrize("target", [API, f"{API}/revision/main", f"{API}/revision/{REVISION}"])
def test_info(app: ASGIApp, target: str) -> None:
    """A repository lists its files; with blobs, sizes and the digests by which the Hub knows them."""
    plain, full = (json.loads(asked(app, f"{target}{query}").body) for query in ("", "?blobs=true"))

    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest_of(FILES[BIG])}\nsize 3000000\n"
    )
    assert (plain["id"], plain["sha"]) == (REPO, REVISION)
    assert plain["siblings"] == [{"rfilename": name} for name in sorted(FILES)]
    assert full["siblings"] == [
        *(
            {"rfilename": name, "blobId": git_sha1(FILES[name]), "size": len(FILES[name])}
            for name in ("1_Pooling/config.json", "config.json")
        ),
        {
            "rfilename": BIG,
            "blobId": git_sha1(pointer.encode()),
            "size": 3_000_000,
            "lfs": {"sha256": digest_of(FILES[BIG]), "size": 3_000_000, "pointerSize": len(pointer)},
        },
    ]


@pytest.mark.parametrize(
    ("target", "paths"),
    [
        ("tree/main", ["1_Pooling", "config.json", BIG]),
        ("tree/main?recursive=true", ["1_Pooling", "1_Pooling/config.json", "config.json", BIG]),
        ("tree/main/1_Pooling", ["1_Pooling/config.json"]),
        ("tree/main/none", []),
    ],
)
def test_tree(app: ASGIApp, target: str, paths: list[str]) -> None:
    """A tree lists folders before files, from the folder on that is named."""
    told = json.loads(asked(app, f"{API}/{target}").body)

    assert [entry["path"] for entry in told] == paths


def test_pinned_by_git(tmp_path: Path) -> None:
    """A small file that is pinned by its git blob alone is listed and given by that name."""
    data = b'{"a": 1}'
    file = WeightFile(path="a.json", size_bytes=len(data), git_sha1=git_sha1(data))
    stocked(tmp_path, {"a.json": data}, Weights(repo=REPO, revision=REVISION, files=(file,)))
    app = build(tmp_path, token=TOKEN)

    assert asked(app, f"{RESOLVE}/a.json").headers["etag"] == f'"{git_sha1(data)}"'
    assert json.loads(asked(app, f"{API}?blobs=true").body)["siblings"][0]["blobId"] == git_sha1(data)


def test_what_is_pulled_later_is_given_too(tmp_path: Path) -> None:
    """A seed that runs sees what a pull brings."""
    app = build(tmp_path, token=TOKEN)
    before = asked(app, f"{RESOLVE}/config.json").headers["x-error-code"]
    stocked(tmp_path, {"config.json": FILES["config.json"]})
    between = [asked(app, f"{RESOLVE}/{name}").status for name in ("config.json", BIG)]
    stocked(tmp_path)

    assert before == "RepoNotFound"
    assert between == [200, 404]
    assert asked(app, f"{RESOLVE}/{BIG}").body == FILES[BIG]


def test_shared_blob(tmp_path: Path) -> None:
    """A blob that the hub's client keeps for all repositories is given where a receipt holds."""
    cache = tmp_path
    weights = stocked(cache)
    blob, shared = blob_of(cache, BIG), cache / "blobs/ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    app = build(cache, token=TOKEN)
    before = asked(app, f"{RESOLVE}/{BIG}").status

    assert store.missing(cache, weights) == ()
    assert (before, asked(app, f"{RESOLVE}/{BIG}").body) == (404, FILES[BIG])


# --- a body that breaks --------------------------------------------------------------------------


def test_file_that_changes_while_it_is_sent(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body ends early when somebody writes to its file, and the log says why."""
    answered: list[Answered] = []
    app = build(cache, token=TOKEN, on_answer=answered.append)
    blob, pread = blob_of(cache, BIG), os.pread

    def read(descriptor: int, count: int, at: int) -> bytes:
        if at >= 1 << 20:
            flipped(blob)
        return pread(descriptor, count, at)

    monkeypatch.setattr(os, "pread", read)
    with open_files_stay():
        answer = asked(app, f"{RESOLVE}/{BIG}")

    assert (answer.status, answer.whole, len(answer.body)) == (200, False, 1 << 20)
    assert (answered[0].sent_bytes, answered[0].note) == (1 << 20, "the file changed while it was sent")


def test_repair_does_not_break_a_body(cache: Path, app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that puts the same bytes in a file's place leaves the running download alone."""
    pread = os.pread

    def read(descriptor: int, count: int, at: int) -> bytes:
        if at >= 1 << 20:
            blob = blob_of(cache, BIG)
            (blob.parent / "new").write_bytes(blob.read_bytes())
            (blob.parent / "new").replace(blob)
        return pread(descriptor, count, at)

    monkeypatch.setattr(os, "pread", read)

    assert asked(app, f"{RESOLVE}/{BIG}").body == FILES[BIG]


def test_disk_that_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is a cut body or one sentence, never a traceback."""
    answered: list[Answered] = []
    app = build(cache, token=TOKEN, on_answer=answered.append)

    def fail(*_arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    cut = asked(app, f"{RESOLVE}/{BIG}")
    monkeypatch.setattr(os, "scandir", lambda _path: 1 / 0)
    broken = asked(app, API)

    assert (cut.status, cut.body, cut.whole) == (200, b"", False)
    assert broken.status == 500
    assert json.loads(broken.body)["error"].startswith(
        "this host cannot read what was asked for; ask another"
    )
    assert [one.note for one in answered] == [
        "the file cannot be read (Input/output error)",
        "ZeroDivisionError: division by zero",
    ]


# --- the log -------------------------------------------------------------------------------------


def test_log(cache: Path) -> None:
    """Each request is one line: who, what, and how much of it; the token is in none."""
    answered: list[Answered] = []
    app = build(cache, token=TOKEN, on_answer=answered.append)
    asked(app, f"{RESOLVE}/{BIG}?token={TOKEN}", range="bytes=0-9")
    asked(app, f"{RESOLVE}/config.json", "HEAD")
    asked(app, f"/{TOKEN}/{''.join(f'%{ord(letter):02x}' for letter in TOKEN)}")
    asked(app, "/" + "x" * 5000, token="")

    assert [(one.method, one.path[:60], one.status, one.sent_bytes) for one in answered] == [
        ("GET", f"{RESOLVE}/{BIG}"[:60], 206, 10),
        ("HEAD", f"{RESOLVE}/config.json"[:60], 200, 0),
        ("GET", "(hidden: the token is in it)", 404, 72),
        ("GET", "/" + "x" * 59, 401, 92),
    ]
    assert all(TOKEN not in str(one) and len(str(one)) < 600 for one in answered)
    assert str(answered[0]).startswith(f"192.0.2.7 GET {RESOLVE}/{BIG} 206 10 0.")


def test_log_that_fails(cache: Path) -> None:
    """A log that cannot be written breaks no answer."""

    def fail(_answered: Answered) -> None:
        raise ValueError

    assert asked(build(cache, token=TOKEN, on_answer=fail), f"{RESOLVE}/config.json").status == 200


def test_nothing_stays_open(cache: Path, app: ASGIApp) -> None:
    """Whatever is asked, no file stays open."""
    with open_files_stay():
        for headers in ({}, {"range": "bytes=1-2"}, {"range": "bytes=9999999-"}):
            for method in ("GET", "HEAD", "POST"):
                for target in (f"{RESOLVE}/{BIG}", f"{RESOLVE}/config.json", f"{RESOLVE}/none", API):
                    asked(app, target, method, **headers)
    assert cache.exists()
