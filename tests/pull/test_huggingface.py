"""What the hub's client raises becomes one sentence, and what the child says is acted on."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import errors

from tasks.contracts import Reach, WeightFile
from tasks.errors import SourceRefusedError, SourceUnavailableError
from tasks.pull.sources import Job, PullContext, hub_child, huggingface
from tests.lab.weights import BIG, FILES, Watcher, pinned

ORDER: hub_child.Order = {
    "repo": "org/name",
    "revision": "a" * 40,
    "endpoint": "http://hub",
    "token": None,
    "files": ["model.bin"],
    "folder": "/nowhere",
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
    "no file": (
        answer(errors.RemoteEntryNotFoundError, 404),
        "refused",
        f"org/name has no model.bin at {'a' * 40}",
    ),
    "forbidden": (
        answer(errors.HfHubHTTPError, 403),
        "refused",
        "the hub answered 403 Forbidden for model.bin",
    ),
    "busy": (
        answer(errors.HfHubHTTPError, 429),
        "unavailable",
        "the hub answered 429 Too Many Requests for model.bin",
    ),
    "hidden 503": (
        hidden(answer(errors.HfHubHTTPError, 503), by=errors.LocalEntryNotFoundError),
        "unavailable",
        "the hub answered 503 Service Unavailable for model.bin",
    ),
    "hidden refusal": (
        hidden(httpx2.ConnectError("[Errno 111] Connection refused"), by=ValueError),
        "unavailable",
        "the hub at http://hub does not answer ([Errno 111] Connection refused)",
    ),
    "silent": (
        httpx2.ReadTimeout("The read operation timed out"),
        "unavailable",
        "the hub broke off model.bin (The read operation timed out)",
    ),
    "short": (OSError("Consistency check failed\nmore"), "unavailable", "the hub broke off model.bin"),
    "full": (OSError(errno.ENOSPC, "No space left on device"), "full", ""),
    "too large": (ValueError("The file is too large"), "refused", "the hub client cannot fetch model.bin"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_of_the_client(case: str) -> None:
    """Each error has its verdict and its sentence."""
    error, verdict, why = CASES[case]

    end = hub_child.explain(error, ORDER, "model.bin")

    assert end["verdict"] == verdict
    assert end["why"].startswith(why)


class Delivered:
    """Takes what a source delivers."""

    def __init__(self) -> None:
        self.files: list[tuple[str, Path]] = []

    def __call__(self, file: WeightFile, staged: Path) -> None:
        """Keep where one file lies."""
        self.files.append((file.path, staged))


def conversation(context: PullContext | None = None) -> tuple[huggingface._Conversation, Delivered]:
    """Return a conversation about all files, and what it delivers to."""
    delivered = Delivered()
    weights = pinned()
    job = Job("lab", weights, weights.files, Path("/store/staging"), delivered, context or PullContext())
    return huggingface._Conversation(job), delivered


def end(verdict: str, **more: object) -> str:
    """Return the last line of a child."""
    return json.dumps({"verdict": verdict, "why": "why", "then": "do that", "fetched": 0} | more)


def test_progress_becomes_events() -> None:
    """Counts of the child become events with the whole as total."""
    watcher = Watcher()
    talk, _ = conversation(PullContext(sink=watcher))

    talk.hear('{"done": 5}')

    size_bytes = sum(len(data) for data in FILES.values())
    assert [(event.done_bytes, event.total_bytes) for event in watcher.events] == [(5, size_bytes)]


def test_files_are_delivered() -> None:
    """A whole file is delivered from where the child put it, and chatter is not minded."""
    talk, delivered = conversation()

    talk.hear("warning: something about symlinks")
    talk.hear("5")
    talk.hear(json.dumps({"file": BIG, "at": "/store/staging/files/x"}))
    talk.hear(end("done", fetched=12))

    assert delivered.files == [(BIG, Path("/store/staging/files/x"))]
    assert talk.result(0) == 12


@pytest.mark.parametrize(
    ("verdict", "error"),
    [("refused", SourceRefusedError), ("unavailable", SourceUnavailableError), ("full", OSError)],
)
def test_bad_ends(verdict: str, error: type[Exception]) -> None:
    """Each bad end of the child is the error that fits."""
    talk, _ = conversation()
    talk.hear(end(verdict))

    with pytest.raises(error):
        talk.result(0)


def test_refusal_says_what_to_do() -> None:
    """What to do next comes from the child."""
    talk, _ = conversation()
    talk.hear(end("refused", why="org/name is gated", then="accept its licence"))

    with pytest.raises(SourceRefusedError, match=r"org/name is gated; .*; accept its licence"):
        talk.result(0)


def test_child_without_an_end() -> None:
    """A child that dies without a word is said with its last line."""
    talk, _ = conversation()
    talk.hear("Killed")

    with pytest.raises(SourceUnavailableError, match=r"ended with code 137 \(Killed\)"):
        talk.result(137)


def test_hub_that_was_seen_down_is_not_asked(tmp_path: Path) -> None:
    """When detection saw that the hub does not answer, nothing is started."""
    weights = pinned()
    context = PullContext(hub=Reach("hub", "http://hub", answers=False, detail="no route to host"))

    with pytest.raises(SourceUnavailableError, match=r"the hub does not answer \(no route to host\)"):
        huggingface.fetch(Job("lab", weights, weights.files, tmp_path, Delivered(), context))

    assert list(tmp_path.iterdir()) == []


def test_token_is_not_shown() -> None:
    """The token is in no text that a log may get."""
    assert "s3cret" not in repr(PullContext(token="s3cret", environment=(("PIP_INDEX_URL", "//u:s3cret@i"),)))
