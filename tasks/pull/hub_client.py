"""A program that asks the hub through its own client: one order on stdin, one JSON object a line on stdout.

    <- {"repo", "revision", "endpoint", "token"}       revision null means main
    -> {"revision": 40 hex, "files": [{"path", "size_bytes", "sha256", "git_sha1"}, ...]}
    -> {"verdict": "done" | "unavailable" | "refused", "why", "then"}

In a process of its own, because the client blocks for up to minutes in waits that nothing can interrupt,
reads its settings once at import, and takes a second to import. It imports nothing of this project, and
ends when its parent does, because stdin then ends. A gated repository lists its files to everybody, so
one of them is asked for as well.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Literal, TypedDict

import httpx2
from huggingface_hub import HfApi, RepoFile, errors, get_hf_file_metadata, hf_hub_url

RETRY_WAITS_S = (1.0, 3.0)
AGAIN_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

Verdict = Literal["done", "unavailable", "refused"]


class Order(TypedDict):
    """What to list."""

    repo: str
    revision: str | None
    endpoint: str
    token: str | None


class End(TypedDict):
    """How it ended. `then` says what to do next, where that is not to try again."""

    verdict: Verdict
    why: str
    then: str


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
    (errors.HfHubHTTPError, "refused", "the hub answered {reason} for {repo}", "check HF_TOKEN and the name"),
    (httpx2.ConnectError, "unavailable", "the hub at {endpoint} does not answer ({reason})", ""),
    (httpx2.ConnectTimeout, "unavailable", "the hub at {endpoint} does not answer ({reason})", ""),
    (httpx2.HTTPError, "unavailable", "the hub broke off the listing of {repo} ({reason})", ""),
    (OSError, "unavailable", "the hub broke off the listing of {repo} ({reason})", ""),
    (BaseException, "refused", "the hub client cannot list {repo} ({reason})", PIN),
)


def say(what: dict[str, object]) -> None:
    """Print one line to the parent."""
    print(json.dumps(what), flush=True)  # noqa: T201  # stdout is this program's voice


def listed(order: Order) -> dict[str, object]:
    """Return the revision and the files of a repository; try again when the hub does not answer."""
    for wait_s in RETRY_WAITS_S:
        try:
            return _list(order)
        except Exception as error:
            if explain(error, order)["verdict"] != "unavailable":
                raise
            time.sleep(wait_s)
    return _list(order)


def _list(order: Order) -> dict[str, object]:
    api = HfApi(endpoint=order["endpoint"], token=order["token"] or False)
    info = api.model_info(order["repo"], revision=order["revision"])
    revision = str(info.sha)
    tree = api.list_repo_tree(order["repo"], revision=revision, recursive=True)
    files = [one for one in tree if isinstance(one, RepoFile)]
    if info.gated and files:
        smallest = min(files, key=lambda one: one.size)
        url = hf_hub_url(order["repo"], smallest.path, revision=revision, endpoint=order["endpoint"])
        get_hf_file_metadata(url, token=order["token"] or False)
    return {"revision": revision, "files": [_row(one) for one in files]}


def _row(file: RepoFile) -> dict[str, object]:
    sha256 = file.lfs.sha256 if file.lfs else ""
    return {"path": file.path, "size_bytes": file.size, "sha256": sha256, "git_sha1": file.blob_id}


def explain(error: BaseException, order: Order) -> End:
    """Return the end that an error of the client stands for."""
    # These two hide what really happened: a refused connection comes as "not found locally".
    while isinstance(error, errors.LocalEntryNotFoundError | ValueError) and error.__cause__:
        error = error.__cause__
    verdict, why, then = next(row[1:] for row in MEANINGS if isinstance(error, row[0]))
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, errors.HfHubHTTPError):
        reason = f"{error.response.status_code} {error.response.reason_phrase}"
        verdict = "unavailable" if error.response.status_code in AGAIN_STATUSES else verdict
    words = {**order, "reason": reason}
    return End(verdict=verdict, why=why.format(**words), then=then.format(**words))


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Read the order, list, and say how it ended."""
    order: Order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        say(listed(order))
        say({**End(verdict="done", why="", then="")})
    except Exception as error:  # noqa: BLE001  # every error becomes a sentence for the parent
        say({**explain(error, order)})


if __name__ == "__main__":
    main()
