"""A program that fetches files through the hub's own client and its Xet transfer.

    <- {"repo", "revision", "endpoint", "token", "files", "folder"}
    -> {"done": bytes so far}                         at most four times a second
    -> {"file": path in the repository, "at": path}   as soon as a file is whole
    -> {"end": "" or why it ended}

In a process of its own for the reasons that `hub_client.py` gives. It imports nothing of this project.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Self, TypedDict

from huggingface_hub import hf_hub_download

UPDATE_S = 0.25


class Order(TypedDict):
    """What to fetch, and where to put it."""

    repo: str
    revision: str
    endpoint: str
    token: str | None
    files: list[str]
    folder: str


class Bar:
    """Stands in for the client's progress bars, and counts the bytes that crossed the network."""

    fetched = 0
    told_at = 0.0

    def __init__(self, *_rows: object, desc: str = "", **_settings: object) -> None:
        self._counts = "reconstruct" not in desc.lower()
        self.total: float | None = None
        self.n = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def update(self, size_bytes: float | None = 1) -> None:
        """Count bytes that arrived."""
        if self._counts:
            Bar.fetched += int(size_bytes or 0)
        now = time.monotonic()
        if now - Bar.told_at >= UPDATE_S:
            Bar.told_at = now
            say({"done": Bar.fetched})

    def set_postfix_str(self, *_text: object, **_settings: object) -> None:
        """Show nothing."""

    def refresh(self, *_settings: object, **_more: object) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


def say(what: dict[str, object]) -> None:
    """Print one line to the parent."""
    print(json.dumps(what), flush=True)  # noqa: T201  # stdout is this program's voice


def fetch(order: Order) -> str:
    """Fetch every file, and return "" or why that ended."""
    for path in order["files"]:
        try:
            at = hf_hub_download(
                order["repo"],
                path,
                revision=order["revision"],
                endpoint=order["endpoint"],
                token=order["token"] or False,
                local_dir=f"{order['folder']}/files",
                tqdm_class=Bar,
                force_download=True,
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent goes on by other means
            return str(error).strip().partition("\n")[0] or type(error).__name__
        say({"file": path, "at": at})
    return ""


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Read the order, fetch, and say how it ended."""
    order: Order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    say({"end": fetch(order)})


if __name__ == "__main__":
    main()
