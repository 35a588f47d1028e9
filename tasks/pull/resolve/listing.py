"""A repository as the hub lists it: `hub_client.py` in a process of its own."""

from __future__ import annotations

import json
import re
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tasks.contracts import WeightFile
from tasks.pull.child import Pairs, Patience, follow, with_environment
from tasks.pull.claim import refused, unavailable
from tasks.pull.sources.job import PullContext

CHILD = Path(__file__).parents[1] / "hub_client.py"
QUIET_S = 90.0
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")

ENVIRONMENT: Pairs = (
    ("HF_HUB_DISABLE_XET", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("HF_HUB_DISABLE_UPDATE_CHECK", "1"),
    ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
    ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "30"),
    ("HF_HUB_ETAG_TIMEOUT", "15"),
    ("HF_HUB_OFFLINE", "0"),
    ("PYTHONUNBUFFERED", "1"),
)


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one revision (40 hex). A file has a sha256, or else the name of its git blob."""

    repo: str
    revision: str
    files: tuple[WeightFile, ...]


def listing(repo: str, revision: str | None, ctx: PullContext) -> Listing:
    """Ask the hub what `repo` holds at `revision`, or now.

    Raises:
        SourceUnavailableError: the hub does not answer.
        SourceRefusedError: there is no such repository or revision, or it is gated to this token.
        StoppedError: the context's stop event was set.
    """
    if ctx.hub is not None and not ctx.hub.answers:
        raise unavailable(f"the hub does not answer ({ctx.hub.detail})")
    order = {"repo": repo, "revision": revision, "endpoint": ctx.endpoint, "token": ctx.token}
    said: list[dict[str, Any]] = []
    chatter: deque[str] = deque(maxlen=5)

    def hear(line: str) -> None:
        try:
            one = json.loads(line)
        except ValueError:
            one = None
        said.append(one) if isinstance(one, dict) else chatter.append(line)

    command = with_environment((sys.executable, "-P", str(CHILD)), (*ctx.environment, *ENVIRONMENT))
    patience = Patience(repo, ctx.stop, QUIET_S, ctx.limit_s)
    code = follow(command, hear, patience=patience, stdin=json.dumps(order) + "\n")
    end = said[-1] if said else {}
    if "verdict" not in end:
        raise unavailable(
            f"the hub client ended with code {code} ({chatter[-1] if chatter else 'no output'})"
        )
    if end["verdict"] != "done":
        raise refused(end["why"], end["then"]) if end["verdict"] == "refused" else unavailable(end["why"])
    return _read(repo, said[0])


def _file(row: dict[str, Any]) -> WeightFile:
    """Return one row of a listing; its digest will name a part file, so it has to be one."""
    file = msgspec.convert(row, WeightFile)
    if not _DIGEST.fullmatch(file.digest) or file.size_bytes < 0:
        raise msgspec.ValidationError(f"{file.path!r} has no digest or no size")
    return file


def _read(repo: str, said: dict[str, Any]) -> Listing:
    try:
        files = [_file(one) for one in said["files"]]
        one_digest = tuple(msgspec.structs.replace(one, git_sha1="") if one.sha256 else one for one in files)
        return Listing(repo, str(said["revision"]), one_digest)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise refused(f"the hub's listing of {repo} cannot be read ({error})", "try another mirror") from None
