"""Asks servers on loopback as plainly as can be, and the real clients too."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from tests.lab.hub_files import REVISION

NAME = "org/name"
BIG = random.Random(2).randbytes(300_000)  # noqa: S311  # any bytes will do
FILES = {"config.json": b"{}\n", "sub/deep/notes.txt": b"notes", "big.bin": BIG}
RESOLVE = f"/{NAME}/resolve/{REVISION}"
CLIENT = """
import json, sys
from huggingface_hub import HfApi, snapshot_download
folder = snapshot_download(sys.argv[1], revision=sys.argv[2], cache_dir=sys.argv[3])
checked = HfApi().verify_repo_checksums(sys.argv[1], revision=sys.argv[2], cache_dir=sys.argv[3])
listed = [entry.path for entry in HfApi().list_repo_tree(sys.argv[1], revision=sys.argv[2], recursive=True)]
told = HfApi().model_info(sys.argv[1], revision=sys.argv[2], files_metadata=True).siblings
sizes = {one.rfilename: [one.size, one.lfs.sha256 if one.lfs else one.blob_id] for one in told}
print(json.dumps({"folder": folder, "bad": checked.mismatches, "listed": listed, "sizes": sizes}))
"""


class HasEndpoint(Protocol):
    """A hub of some kind."""

    @property
    def endpoint(self) -> str:
        """Where it listens."""


@dataclass
class Answer:
    """What came of one request; `body` is what there was of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True


def ask(address: str, method: str = "GET", *, timeout_s: float = 30.0, **headers: str) -> Answer:
    """Ask one address and follow nothing."""
    url = urlsplit(address)
    assert url.hostname is not None
    connection = HTTPConnection(url.hostname, url.port, timeout=timeout_s)
    try:
        target = url._replace(scheme="", netloc="").geturl()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, headers=named)
        answer = connection.getresponse()
        known = {name.lower(): value for name, value in answer.getheaders()}
        try:
            return Answer(answer.status, known, answer.read())
        except IncompleteRead as error:
            return Answer(answer.status, known, error.partial, whole=False)
    finally:
        connection.close()


def cdn(hub: HasEndpoint, name: str = "big.bin") -> str:
    """Return a fresh address of a large file on the CDN."""
    return ask(f"{hub.endpoint}{RESOLVE}/{name}").headers["location"]


def with_real_client(endpoint: str, cache: Path) -> dict[str, Any]:
    """Download, verify and list the repository with the real client."""
    settings = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_ENDPOINT": endpoint}
    command = [sys.executable, "-c", CLIENT, NAME, REVISION, str(cache)]
    done = subprocess.run(
        command, env={**os.environ, **settings}, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def again(connection: HTTPConnection) -> None:
    """Ask for a small file over a connection that is kept."""
    connection.request("GET", f"{RESOLVE}/config.json")
    assert connection.getresponse().read() == FILES["config.json"]


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the real curl."""
    try:
        return subprocess.run(["curl", "-sS", *arguments], check=False, capture_output=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("curl is not installed")
