"""An answer that is a no: a status, the Hub's code for it, and one sentence. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus

BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  # the words by which the hub's client knows


class Refusal(Exception):  # noqa: N818  # it is an answer, and no error of this program
    """Raised when a request is answered with a no. `code` is what the Hub's client looks for."""

    def __init__(
        self, status: HTTPStatus, sentence: str, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, sentence, code, headers)
        self.status = status
        self.sentence = sentence
        self.code = code
        self.headers = dict(headers or {})

    @property
    def all_headers(self) -> dict[str, str]:
        """What goes before the sentence."""
        named = {"X-Error-Code": self.code, "X-Error-Message": self.code} if self.code else {}
        return {"Content-Type": "application/json", **named, **self.headers}

    @property
    def body(self) -> bytes:
        """The sentence as JSON."""
        return json.dumps({"error": self.sentence}).encode()


def no_token() -> Refusal:
    """Return the answer to whoever does not say the token."""
    return Refusal(
        HTTPStatus.UNAUTHORIZED,
        "this host gives its weights only to those who say its token; set HF_TOKEN to it",
        headers={"WWW-Authenticate": "Bearer", "X-Error-Message": BAD_TOKEN},
    )


def wrong_method() -> Refusal:
    """Return the answer to whoever wants to change something."""
    return Refusal(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "this host only gives its weights; send GET or HEAD",
        headers={"Allow": "GET, HEAD"},
    )


def nothing_there() -> Refusal:
    """Return the answer to a path that is none."""
    return Refusal(HTTPStatus.NOT_FOUND, "there is nothing here under that name; ask for a repository")


def no_repo() -> Refusal:
    """Return the answer where a repository is not in the store."""
    return Refusal(
        HTTPStatus.NOT_FOUND, "this host has no such repository; ask another source", "RepoNotFound"
    )


def no_revision() -> Refusal:
    """Return the answer where nothing of a revision is in the store, or nothing that is verified."""
    sentence = "this host has no verified file of that revision; ask another source"
    return Refusal(HTTPStatus.NOT_FOUND, sentence, "RevisionNotFound")


def no_entry(revision: str) -> Refusal:
    """Return the answer where a file is not in the store, or is not what was verified."""
    sentence = "this host has no verified file of that name; ask another source"
    return Refusal(HTTPStatus.NOT_FOUND, sentence, "EntryNotFound", {"X-Repo-Commit": revision})


def no_such_part(size_bytes: int) -> Refusal:
    """Return the answer to a range that begins behind the end."""
    return Refusal(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        f"the file has {size_bytes} bytes and none in that range; ask for less",
        headers={"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"},
    )


def come_back(sentence: str, after_s: int) -> Refusal:
    """Return the answer of a host that can give the thing later."""
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, headers={"Retry-After": str(after_s)})


def broken() -> Refusal:
    """Return the answer where this host is at fault; what exactly stands in its log."""
    sentence = "this host cannot read what was asked for; ask another source, or look into its log"
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)
