"""The Hugging Face Hub, through its own client in a child process, `hub_child.py`.

A child, because the client blocks for up to minutes in waits that nothing can interrupt, reads its
settings once at import, and takes a second to import; a child can be ended, gets settings of its
own, and keeps the second out of everybody else's start.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tasks.contracts import WeightFile, Weights
from tasks.pull.child import Pairs, follow, with_environment
from tasks.pull.sources.job import Job, disk_full, refused, unavailable

if TYPE_CHECKING:  # importing it imports the hub's client
    from tasks.pull.sources.hub_child import End, Order

NAME = "huggingface"
CHILD = Path(__file__).with_name("hub_child.py")

ENVIRONMENT: Pairs = (
    ("HF_HUB_DISABLE_XET", "1"),  # Xet has no size or host that could be checked beforehand
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("HF_HUB_DISABLE_UPDATE_CHECK", "1"),
    ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
    ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "30"),
    ("HF_HUB_ETAG_TIMEOUT", "15"),
    ("HF_HUB_OFFLINE", "0"),
    ("PYTHONUNBUFFERED", "1"),
)


def room_bytes(_weights: Weights, files: tuple[WeightFile, ...]) -> int:
    """Return the size of the files: each is fetched on the store's disk and moved."""
    return sum(file.size_bytes for file in files)


def fetch(job: Job) -> int:
    """Run the hub's client and deliver each file that it brings. See `Source.fetch`."""
    hub = job.context.hub
    if hub is not None and not hub.answers:
        raise unavailable(f"the hub does not answer ({hub.detail})")
    conversation = _Conversation(job)
    pairs = (*job.context.environment, *ENVIRONMENT)
    command = with_environment((sys.executable, "-P", str(CHILD)), pairs)
    code = follow(command, conversation.hear, patience=job.patience, stdin=_order(job))
    return conversation.result(code)


def _order(job: Job) -> str:
    """Return the line that tells the child what to fetch. The token stays out of `ps`."""
    order: Order = {
        "repo": job.weights.repo,
        "revision": job.weights.revision,
        "endpoint": job.context.endpoint,
        "token": job.context.token,
        "files": [file.path for file in job.files],
        "folder": str(job.folder),
    }
    return json.dumps(order) + "\n"


class _Conversation:
    """What the child says, line by line. Anything that is not JSON is the client's own chatter."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.end: End | None = None
        self.chatter: deque[str] = deque(maxlen=5)

    def hear(self, line: str) -> None:
        """Act on one line of the child."""
        try:
            said = json.loads(line)
        except ValueError:
            said = line
        if not isinstance(said, dict):
            self.chatter.append(line)
        elif "done" in said:
            self.job.tell(
                f"fetching {self.job.weights.repo}",
                done_bytes=said["done"],
                total_bytes=self.job.size_bytes,
            )
        elif "file" in said:
            file = next(file for file in self.job.files if file.path == said["file"])
            self.job.deliver(file, Path(said["at"]))
        else:
            self.end = cast("End", said)

    def result(self, code: int) -> int:
        """Return the bytes fetched, or raise what the child ended with."""
        if self.end is None:
            last = self.chatter[-1] if self.chatter else "no output"
            raise unavailable(f"the hub client ended with code {code} ({last})")
        if self.end["verdict"] != "done":
            raise self._error(self.end)
        return self.end["fetched"]

    def _error(self, end: End) -> Exception:
        if end["verdict"] == "full":
            return disk_full()
        if end["verdict"] == "refused":
            return refused(end["why"], end["then"])
        return unavailable(end["why"])
