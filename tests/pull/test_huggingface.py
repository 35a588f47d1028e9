"""What the hub's client raises becomes one sentence, and a repository is listed as the hub has it."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Timer

import httpx2
import pytest
from huggingface_hub import errors

from tasks.contracts import Reach, WeightFile
from tasks.errors import PullError, SourceRefusedError, SourceUnavailableError, StoppedError
from tasks.pull import hub_client
from tasks.pull.fetch.web import StatusError
from tasks.pull.resolve import listing as listings
from tasks.pull.resolve.listing import Listing, listing
from tasks.pull.sources import Hub, Job, PullContext
from tests.lab.hub import REVISION, HubLab, Repo, What, git_sha1
from tests.lab.hub_faults import Garbage, Hangup, Lie, RedirectLoop, Silent, Status
from tests.lab.weights import BIG, FILES, REPO, pin, pinned, processes_of, wait_for

ORDER: hub_client.Order = {
    "repo": "org/name",
    "revision": "a" * 40,
    "endpoint": "http://hub",
    "token": None,
}


def answer(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    """Return an error of the client for an answer with this status."""
    return kind("text", response=httpx2.Response(status, request=httpx2.Request("GET", "http://hub/x")))


def hidden(cause: Exception, *, by: type[Exception]) -> Exception:
    """Return `cause` behind one of the errors that the client hides causes with."""
    error = by("An error happened while trying to locate the file")
    error.__cause__ = cause
    return error


CASES = {
    "gated": (answer(errors.GatedRepoError, 401), "refused", "org/name is gated"),
    "no repository": (
        answer(errors.RepositoryNotFoundError, 404),
        "refused",
        "the hub has no org/name, or it is private",
    ),
    "no revision": (
        answer(errors.RevisionNotFoundError, 404),
        "refused",
        f"the hub has no revision {'a' * 40} of org/name",
    ),
    "forbidden": (
        answer(errors.HfHubHTTPError, 403),
        "refused",
        "the hub answered 403 Forbidden for org/name",
    ),
    "busy": (
        answer(errors.HfHubHTTPError, 429),
        "unavailable",
        "the hub answered 429 Too Many Requests for org/name",
    ),
    "gated and busy": (answer(errors.GatedRepoError, 503), "unavailable", "org/name is gated"),
    "hidden 503": (
        hidden(answer(errors.HfHubHTTPError, 503), by=errors.LocalEntryNotFoundError),
        "unavailable",
        "the hub answered 503 Service Unavailable for org/name",
    ),
    "hidden refusal": (
        hidden(httpx2.ConnectError("[Errno 111] Connection refused"), by=ValueError),
        "unavailable",
        "the hub at http://hub does not answer ([Errno 111] Connection refused)",
    ),
    "no connection in time": (
        httpx2.ConnectTimeout("timed out"),
        "unavailable",
        "the hub at http://hub does not answer (timed out)",
    ),
    "silent": (
        httpx2.ReadTimeout("The read operation timed out"),
        "unavailable",
        "the hub broke off the listing of org/name (The read operation timed out)",
    ),
    "broken": (OSError(errno.EIO, "Input/output error"), "unavailable", "the hub broke off the listing"),
    "two lines": (ValueError("one\ntwo"), "refused", "the hub client cannot list org/name (one)"),
    "no text": (ValueError(), "refused", "the hub client cannot list org/name (ValueError)"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_of_the_client(case: str) -> None:
    """Each error has its verdict and its sentence."""
    error, verdict, why = CASES[case]

    end = hub_client.explain(error, ORDER)

    assert end["verdict"] == verdict
    assert end["why"].startswith(why)
    assert "\n" not in end["why"]


def test_refusal_says_what_to_do() -> None:
    """What to do next names the page and the variable."""
    end = hub_client.explain(CASES["gated"][0], ORDER)

    assert end["then"] == "accept its licence at http://hub/org/name and set HF_TOKEN"


def test_token_is_not_shown() -> None:
    """The token is in no text that a log may get."""
    context = PullContext(token="s3cret", environment=(("PIP_INDEX_URL", "//u:s3cret@i"),))

    assert "s3cret" not in repr(context)
    assert "s3cret" not in repr(Hub("hub", "http://hub", "s3cret"))


# --- statuses of the hub, as the engine meets them -------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "what", "then"),
    [
        (401, "GatedRepo", "org/name is gated", "accept its licence at http://hub/org/name and set HF_TOKEN"),
        (404, "RepoNotFound", "the hub has no org/name, or it is private", "check the name, or set HF_TOKEN"),
        (404, "RevisionNotFound", f"the hub has no revision {REVISION} of org/name", "check the pin"),
        (404, "EntryNotFound", f"org/name has no x.bin at {REVISION}", "check the pin in the catalogue"),
        (404, "", "the hub answered 404 Not Found for x.bin", "check HF_TOKEN and the pin"),
        (418, "Other", "the hub answered 418 I'm a Teapot for x.bin", "check HF_TOKEN and the pin"),
    ],
)
def test_statuses_of_the_hub(status: int, code: str, what: str, then: str) -> None:
    """The hub's own code says what a status means."""
    error = StatusError(status, {"X-Error-Code": code}, "http://hub/x")

    explained = Hub("hub", "http://hub").explain(error, pinned(), "x.bin")

    assert type(explained) is SourceRefusedError
    assert explained.what == what
    assert explained.then.startswith(then)


def test_hub_that_was_seen_down_is_not_asked(tmp_path: Path) -> None:
    """When detection saw that the hub does not answer, nothing is started."""
    weights, context = pinned(), PullContext()
    down = Reach("hub", "http://hub", answers=False, detail="no route to host")

    def deliver(_file: WeightFile, _staged: Path, *, digest: str = "") -> None:
        raise AssertionError(digest)

    job = Job("lab", weights, weights.files, tmp_path, tmp_path / "parts", deliver, context)
    with pytest.raises(SourceUnavailableError, match=r"the hub does not answer \(no route to host\)"):
        Hub("hub", "http://hub", reach=down).fetch(job)
    with pytest.raises(SourceUnavailableError, match=r"the hub does not answer \(no route to host\)"):
        listing(REPO, None, PullContext(hub=down))

    assert list(tmp_path.iterdir()) == []


# --- listing a repository --------------------------------------------------------------------


@pytest.fixture
def hub() -> Iterator[HubLab]:
    """Return a hub that holds the lab's repository."""
    with HubLab({REPO: Repo(FILES)}) as lab:
        yield lab


def listed(path: str, data: bytes) -> WeightFile:
    """Return a file as a listing has it: large ones by sha256, small ones by the name of their git blob."""
    if path == BIG:
        return pin(path, data)
    return WeightFile(path=path, size_bytes=len(data), sha256="", git_sha1=git_sha1(data))


LISTED = {listed(path, data) for path, data in FILES.items()}


@pytest.mark.real
@pytest.mark.parametrize("revision", [None, REVISION])
def test_listing(hub: HubLab, revision: str | None) -> None:
    """A repository is listed at a revision, or now, with sizes and digests."""
    found = listing(REPO, revision, PullContext(endpoint=hub.endpoint))

    assert (found.repo, found.revision) == (REPO, REVISION)
    assert set(found.files) == LISTED
    assert hub.sent_bytes == 0


@pytest.mark.real
def test_listing_in_pages(hub: HubLab) -> None:
    """A listing of many pages is whole."""
    files = {f"folder/shard-{number}.txt": b"%d" % number for number in range(25)}
    hub.repos[REPO] = Repo(files)
    hub.page_size = 4

    found = listing(REPO, None, PullContext(endpoint=hub.endpoint))

    assert {file.path for file in found.files} == set(files)
    assert hub.requests["api"] > 6


@pytest.mark.real
def test_listing_of_a_gated_repository(hub: HubLab) -> None:
    """With the right token a gated repository is listed; the token goes to the hub alone."""
    hub.repos[REPO] = Repo(FILES, token="s3cret")

    found = listing(REPO, None, PullContext(endpoint=hub.endpoint, token="s3cret"))

    assert set(found.files) == LISTED
    assert hub.tokens == {"127.0.0.1": {"Bearer s3cret"}}


@pytest.mark.real
@pytest.mark.parametrize(
    ("repo", "revision", "token", "text"),
    [
        (Repo(FILES, token="s3cret"), None, None, "org/name is gated"),
        (Repo(FILES, token="s3cret"), None, "wrong", "org/name is gated"),
        (None, None, None, "the hub has no org/name, or it is private"),
        (Repo(FILES), "c" * 40, None, f"the hub has no revision {'c' * 40} of org/name"),
    ],
    ids=["no token", "bad token", "no repository", "no revision"],
)
def test_listing_is_refused(
    hub: HubLab, repo: Repo | None, revision: str | None, token: str | None, text: str
) -> None:
    """What the hub refuses is one sentence, without the token, and not tried again."""
    hub.repos.clear()
    if repo is not None:
        hub.repos[REPO] = repo

    with pytest.raises(SourceRefusedError, match=text) as caught:
        listing(REPO, revision, PullContext(endpoint=hub.endpoint, token=token))

    assert "wrong" not in str(caught.value)
    assert hub.requests["api"] <= 2


@pytest.mark.real
@pytest.mark.parametrize("what", [429, 503, Status(429, retry_after_s=1), Hangup(), Garbage()], ids=str)
def test_listing_stumbles(hub: HubLab, what: What) -> None:
    """One bad answer does not fail a listing."""
    hub.fail("api", what, times=1)

    assert set(listing(REPO, None, PullContext(endpoint=hub.endpoint)).files) == LISTED


@pytest.mark.real
@pytest.mark.parametrize(
    ("what", "error"),
    [(500, SourceUnavailableError), (Hangup(), SourceUnavailableError), (RedirectLoop(), PullError)],
    ids=str,
)
def test_listing_fails(hub: HubLab, what: What, error: type[PullError]) -> None:
    """A hub that stays bad is one sentence."""
    hub.fail("api", what)

    with pytest.raises(error) as caught:
        listing(REPO, None, PullContext(endpoint=hub.endpoint))

    assert str(caught.value).isprintable()


@pytest.mark.real
def test_listing_of_a_hub_that_is_gone() -> None:
    """Nobody listens: said as such."""
    with HubLab({}) as gone:
        endpoint = gone.endpoint

    with pytest.raises(SourceUnavailableError, match=f"the hub at {endpoint} does not answer"):
        listing(REPO, None, PullContext(endpoint=endpoint))


@pytest.mark.real
@pytest.mark.parametrize("lie", [Lie(file=BIG, size=-1), Lie(file=BIG, sha256="zz")], ids=str)
def test_listing_that_lies(hub: HubLab, lie: Lie) -> None:
    """What cannot be a size or a digest is refused, or else it is passed on as the hub said it."""
    hub.fail("api", lie)

    try:
        found = listing(REPO, None, PullContext(endpoint=hub.endpoint))
    except PullError as error:
        assert "cannot be read" in error.what  # noqa: PT017  # either is right
    else:
        assert isinstance(found, Listing)


@pytest.mark.real
def test_listing_can_be_stopped(hub: HubLab, tmp_path: Path) -> None:
    """A stop ends the client that waits for a silent hub, and leaves no process."""
    hub.fail("api", Silent())
    stop = Event()
    Timer(0.5, stop.set).start()
    started = time.monotonic()
    mark = (("PMOVES_TEST_MARK", str(tmp_path)),)

    with pytest.raises(StoppedError):
        listing(REPO, None, PullContext(endpoint=hub.endpoint, stop=stop, environment=mark))

    assert time.monotonic() - started < 10
    wait_for(lambda: not processes_of(tmp_path), what="the end of the client")


def test_client_that_dies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A client that ends without a word is said with its last line."""
    child = tmp_path / "child.py"
    child.write_text("print('Killed'); raise SystemExit(7)")
    monkeypatch.setattr(listings, "CHILD", child)

    with pytest.raises(SourceUnavailableError, match=r"the hub client ended with code 7 \(Killed\)"):
        listing(REPO, None, PullContext())


@pytest.mark.parametrize(
    "said", [{"revision": "x"}, {"files": [{"path": 5}], "revision": "x"}, {"files": 5, "revision": "x"}]
)
def test_listing_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: dict[str, object]
) -> None:
    """What is no listing is refused in a sentence."""
    child = tmp_path / "child.py"
    lines = [json.dumps(said), json.dumps({"verdict": "done", "why": "", "then": ""})]
    child.write_text("\n".join(f"print({line!r})" for line in lines))
    monkeypatch.setattr(listings, "CHILD", child)

    with pytest.raises(SourceRefusedError, match="the hub's listing of org/name cannot be read"):
        listing(REPO, None, PullContext())
