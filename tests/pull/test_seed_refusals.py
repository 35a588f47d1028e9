"""A seed gives nothing to those without its token, and nothing to anybody that is not verified."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from tasks.errors import UsageError
from tasks.pull import store
from tasks.pull.seed.app import build
from tasks.pull.seed.looks import open_file
from tests.lab.hub import REVISION
from tests.lab.seeding import (
    TOKEN,
    asked,
    blob_of,
    flipped,
    flipped_and_dated_back,
    replaced,
    stocked,
)
from tests.lab.weights import BIG, FILES, REPO, pinned

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


WRONG = ("", TOKEN, f"Basic {TOKEN}", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é")


@pytest.mark.parametrize(
    "target", [f"{RESOLVE}/config.json", API, "/v2/", "/", "/nothing", f"{API}/tree/main"]
)
@pytest.mark.parametrize("said", [None, *WRONG], ids=["none", *WRONG])
def test_without_token(app: ASGIApp, target: str, said: str | None) -> None:
    """Without the token there is one sentence, the same for what is here and what is not."""
    answer = asked(app, target, token="", **({} if said is None else {"authorization": said}))

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"
    assert json.loads(answer.body) == {
        "error": "this host gives its weights only to those who say its token; set HF_TOKEN to it"
    }


@pytest.mark.parametrize(
    ("token", "fault"),
    [("", "is empty"), ("a b", "has letters"), ("é", "has letters"), ("a\n", "has letters")],
)
def test_no_seed_without_a_token(tmp_path: Path, token: str, fault: str) -> None:
    """A token that is empty, or that no header carries, is refused before anything is served."""
    with pytest.raises(UsageError, match=f"the token of the seed {fault}.*; nothing was served; give it"):
        build(tmp_path, token=token)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"])
def test_other_methods(app: ASGIApp, method: str) -> None:
    """Nothing can be changed."""
    answer = asked(app, f"{RESOLVE}/config.json", method)

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (f"/org/other/resolve/{REVISION}/config.json", "RepoNotFound"),
        ("/api/models/org/other", "RepoNotFound"),
        ("/api/models/org%2f..", "RepoNotFound"),
        ("/api/models/..%2f../tree/main", "RepoNotFound"),
        (f"/{REPO}/resolve/{'b' * 40}/config.json", "RevisionNotFound"),
        (f"/{REPO}/resolve/v2/config.json", "RevisionNotFound"),
        (f"/{REPO}/resolve/..%2fsnapshots/config.json", "RevisionNotFound"),
        (f"{API}/revision/pmoves", "RevisionNotFound"),
        (f"{API}/tree/main%00", "RevisionNotFound"),
        (f"{RESOLVE}/absent.json", "EntryNotFound"),
        (f"{RESOLVE}/1_Pooling", "EntryNotFound"),
        (f"{RESOLVE}/{'x' * 300}", "EntryNotFound"),
    ],
)
def test_not_here(app: ASGIApp, target: str, code: str) -> None:
    """What is not here is 404, with the code by which the Hub's client tells why."""
    answer = asked(app, target)

    assert (answer.status, answer.headers["x-error-code"]) == (404, code)
    assert "ask another source" in json.loads(answer.body)["error"]


@pytest.mark.parametrize("damage", [flipped, flipped_and_dated_back, replaced, Path.unlink])
def test_damaged_file_is_not_here(cache: Path, app: ASGIApp, damage: Callable[[Path], object]) -> None:
    """A file that changed since it was verified is neither given nor listed; the others are."""
    damage(blob_of(cache, BIG))

    answer = asked(app, f"{RESOLVE}/{BIG}")
    listed = json.loads(asked(app, API).body)["siblings"]

    assert (answer.status, answer.headers["x-error-code"]) == (404, "EntryNotFound")
    assert [one["rfilename"] for one in listed] == ["1_Pooling/config.json", "config.json"]
    assert BIG not in asked(app, f"{API}/tree/main?recursive=true").body.decode()


def test_file_that_changes_while_it_is_looked_at(
    cache: Path, app: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that takes the place of a verified one just before it is opened is not given."""

    def late(path: Path) -> FileIO:
        replaced(blob_of(cache, BIG))
        return open_file(path)

    monkeypatch.setattr("tasks.pull.seed.verified.open_file", late)

    assert asked(app, f"{RESOLVE}/{BIG}").headers["x-error-code"] == "EntryNotFound"


def test_unverified_file_is_not_here(cache: Path, app: ASGIApp) -> None:
    """A file that nobody verified is not given, although its bytes are right."""
    (cache / "models--org--name/.pmoves/receipts.json").unlink()

    assert asked(app, f"{RESOLVE}/config.json").headers["x-error-code"] == "EntryNotFound"
    assert asked(app, API).headers["x-error-code"] == "RevisionNotFound"


def test_small_file_after_a_restart(cache: Path, app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file's receipt ends with the machine's start; it is here again once it was looked at."""
    monkeypatch.setattr("tasks.pull.receipts.boot_id", lambda: "another")
    before = asked(app, f"{RESOLVE}/config.json").status
    store.missing(cache, pinned())

    assert (before, asked(app, f"{RESOLVE}/config.json").status) == (404, 200)


def test_damaged_receipts(cache: Path, app: ASGIApp) -> None:
    """Receipts that cannot be read vouch for nothing."""
    (cache / "models--org--name/.pmoves/receipts.json").write_text("{")

    assert asked(app, f"{RESOLVE}/config.json").status == 404


CLIMBS = [
    "../../../../../secret",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret",
    "..%2f..%2f..%2f..%2fsecret",
    "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret",
    "..%5c..%5c..%5csecret",
    "1_Pooling/../../../../../secret",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "secret%00.json",
    "config.json%00",
    "./config.json",
    "1_Pooling//config.json",
    "config.json/",
    "link",
    "folder/secret",
    "loop",
    "pipe",
    "..%2f..%2frefs%2fmain",
    "..%2f..%2f.pmoves%2freceipts.json",
    "receipts",
]


@pytest.mark.parametrize("path", CLIMBS)
def test_nothing_leads_out(cache: Path, app: ASGIApp, path: str) -> None:
    """Neither a path, however it is written, nor a link leads to anything else on the host."""
    (cache.parent / "secret").write_bytes(SECRET)
    snapshot = store.snapshot_folder(cache, pinned())
    (snapshot / "link").symlink_to(cache.parent / "secret")
    (snapshot / "folder").symlink_to(cache.parent, target_is_directory=True)
    (snapshot / "loop").symlink_to("loop")
    (snapshot / "receipts").symlink_to("../../.pmoves/receipts.json")
    os.mkfifo(snapshot / "pipe")

    answer = asked(app, f"{RESOLVE}/{path}")

    assert (answer.status, answer.headers.get("x-error-code")) == (404, "EntryNotFound")
    assert SECRET not in answer.body
    assert b"secret" not in asked(app, f"{API}/tree/main?recursive=1").body


def test_link_to_a_folder(cache: Path, app: ASGIApp) -> None:
    """A folder is listed under its own name, not under that of a link to it."""
    (store.snapshot_folder(cache, pinned()) / "alias").symlink_to("1_Pooling", target_is_directory=True)

    assert [one["rfilename"] for one in json.loads(asked(app, API).body)["siblings"]] == sorted(FILES)


def test_link_out_with_a_receipt(cache: Path, app: ASGIApp) -> None:
    """A link that leaves the repository is not followed, even to a file that a receipt names."""
    outside = cache.parent / "secret"
    outside.write_bytes(SECRET)
    link = store.snapshot_folder(cache, pinned()) / "link"
    link.symlink_to(outside)
    known = store.receipts(cache, REPO)
    known.add(link, f"sha256:{hashlib.sha256(SECRET).hexdigest()}", placed=True)
    known.save()

    assert asked(app, f"{RESOLVE}/link").status == 404
    assert "link" not in [one["rfilename"] for one in json.loads(asked(app, API).body)["siblings"]]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    path=st.lists(
        st.sampled_from(["..", "%2e%2e", "/", "%2f", "\\", "%5c", "%00", "a", ".", "secret", "blobs"])
    )
)
def test_no_path_leads_out(cache: Path, app: ASGIApp, path: list[str]) -> None:
    """Whatever the path, it is refused."""
    (cache.parent / "secret").write_bytes(SECRET)

    assert asked(app, f"{RESOLVE}/{''.join(path)}").status == 404


def test_ref_that_leads_out(cache: Path, app: ASGIApp) -> None:
    """A ref is a file of its folder that holds a revision, and nothing else."""
    (cache.parent / "commit").write_text(REVISION)
    refs = cache / "models--org--name/refs"
    (refs / "out").symlink_to(cache.parent / "commit")
    (refs / "odd").write_text("../blobs")
    (refs / "good").write_text(f"{REVISION}\n")

    statuses = [asked(app, f"{API}/revision/{name}").status for name in ("out", "odd", "good")]

    assert statuses == [404, 404, 200]
