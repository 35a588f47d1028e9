"""The program that `huggingface.py` runs: one order on stdin, one JSON object a line on stdout.

    <- {"repo", "revision", "endpoint", "token", "files", "folder"}
    -> {"done": bytes so far}                         at most four times a second
    -> {"file": path in the repository, "at": path}   as soon as a file is whole
    -> {"verdict": "done" | "unavailable" | "refused" | "full", "why", "then", "fetched"}

It imports nothing of this project. It ends when its parent does, because stdin then ends.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from typing import Literal, Self, TypedDict

import httpx2
from huggingface_hub import constants, errors, hf_hub_download

UPDATE_S = 0.25
CHUNK_BYTES = 1 << 20
RETRY_WAITS_S = (1.0, 3.0)
AGAIN_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

Verdict = Literal["done", "unavailable", "refused", "full"]


class Order(TypedDict):
    """What to fetch, and where to put it."""

    repo: str
    revision: str
    endpoint: str
    token: str | None
    files: list[str]
    folder: str


class End(TypedDict):
    """How it ended. `then` says what to do next, where that is not to try again."""

    verdict: Verdict
    why: str
    then: str
    fetched: int


PIN = "check the pin in the catalogue"

# What an error means, most special first.
MEANINGS: tuple[tuple[type[BaseException], Verdict, str, str], ...] = (
    (
        errors.GatedRepoError,
        "refused",
        "{repo} is gated",
        "accept its licence at {endpoint}/{repo} and set HF_TOKEN",
    ),
    (
        errors.RepositoryNotFoundError,
        "refused",
        "the hub has no {repo}, or it is private",
        "check the name, or set HF_TOKEN",
    ),
    (errors.RevisionNotFoundError, "refused", "the hub has no revision {revision} of {repo}", PIN),
    (errors.RemoteEntryNotFoundError, "refused", "{repo} has no {path} at {revision}", PIN),
    (errors.HfHubHTTPError, "refused", "the hub answered {reason} for {path}", "check HF_TOKEN and the pin"),
    (httpx2.ConnectError, "unavailable", "the hub at {endpoint} does not answer ({reason})", ""),
    (httpx2.ConnectTimeout, "unavailable", "the hub at {endpoint} does not answer ({reason})", ""),
    (httpx2.HTTPError, "unavailable", "the hub broke off {path} ({reason})", ""),
    (OSError, "unavailable", "the hub broke off {path} ({reason})", ""),
    (BaseException, "refused", "the hub client cannot fetch {path} ({reason})", PIN),
)


class Bar:
    """Stands in for the client's progress bar and counts the bytes of all files."""

    fetched = 0
    told_at = 0.0

    def __init__(self, **_settings: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def update(self, size_bytes: float | None = 1) -> None:
        """Count bytes that arrived."""
        Bar.fetched += int(size_bytes or 0)
        now = time.monotonic()
        if now - Bar.told_at >= UPDATE_S:
            Bar.told_at = now
            say({"done": Bar.fetched})


def say(what: dict[str, object]) -> None:
    """Print one line to the parent."""
    print(json.dumps(what), flush=True)  # noqa: T201  # stdout is this program's voice


def fetch_all(order: Order) -> End:
    """Fetch every file of an order."""
    for path in order["files"]:
        try:
            say({"file": path, "at": fetch_one(order, path)})
        except Exception as error:  # noqa: BLE001  # every error becomes a sentence for the parent
            return explain(error, order, path)
    return End(verdict="done", why="", then="", fetched=Bar.fetched)


def fetch_one(order: Order, path: str) -> str:
    """Fetch one file; try again when the hub does not answer or breaks off."""
    for wait_s in RETRY_WAITS_S:
        try:
            return _download(order, path)
        except Exception as error:
            if explain(error, order, path)["verdict"] != "unavailable":
                raise
            time.sleep(wait_s)
    return _download(order, path)


def _download(order: Order, path: str) -> str:
    # force_download: no cached copy is taken, and an unreachable hub is said at once; the client's
    # own retries cover some of its requests only, `fetch_one` covers all alike.
    return hf_hub_download(
        order["repo"],
        path,
        revision=order["revision"],
        endpoint=order["endpoint"],
        token=order["token"] or False,
        local_dir=f"{order['folder']}/files",
        tqdm_class=Bar,
        force_download=True,
    )


def explain(error: BaseException, order: Order, path: str) -> End:
    """Return the end that an error of the client stands for."""
    # These two hide what really happened: a refused connection comes as "not found locally".
    while isinstance(error, errors.LocalEntryNotFoundError | ValueError) and error.__cause__:
        error = error.__cause__
    verdict, why, then = next(row[1:] for row in MEANINGS if isinstance(error, row[0]))
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, errors.HfHubHTTPError):
        reason = f"{error.response.status_code} {error.response.reason_phrase}"
        verdict = "unavailable" if error.response.status_code in AGAIN_STATUSES else verdict
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        verdict = "full"
    words = {**order, "path": path, "reason": reason}
    return End(verdict=verdict, why=why.format(**words), then=then.format(**words), fetched=Bar.fetched)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Read the order, fetch, and say how it ended."""
    order: Order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The client hands on nothing before a chunk is full: at its 10 MiB a slow line looks dead.
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES
    say({**fetch_all(order)})


if __name__ == "__main__":
    main()
