"""The clients that fetch the same files from the same server, each as its manual says."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from tasks.contracts import WeightFile, Weights
from tests.benchmarks.pull_measure import Command
from tests.benchmarks.pull_ours import Task
from tests.lab.environment import clean_environment

CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Fetch:
    """What to fetch from where; `folder` exists and is empty, or holds what an earlier try left."""

    endpoint: str
    weights: tuple[Weights, ...]
    folder: Path

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(one.size_bytes for one in self.weights)

    @property
    def only(self) -> tuple[str, Path]:
        """The address of the first file, and where it goes."""
        return self.pairs()[0]

    def pairs(self) -> list[tuple[str, Path]]:
        """Return each address and where the file goes."""
        return [
            (self._url(one, file), self.folder / one.repo.replace("/", "-") / file.path)
            for one in self.weights
            for file in one.files
        ]

    def _url(self, weights: Weights, file: WeightFile) -> str:
        return f"{self.endpoint}/{weights.repo}/resolve/{weights.revision}/{file.path}"


@dataclass(frozen=True, slots=True)
class Client:
    """A client by name, and how it is started."""

    name: str
    command: Callable[[Fetch], Command]


def ours(fetch: Fetch) -> Command:
    """Return our pull."""

    def order(asked_s: float) -> bytes:
        return msgspec.json.encode(Task(str(fetch.folder), fetch.endpoint, fetch.weights, asked_s))

    return Command((sys.executable, "-m", "tests.benchmarks.pull_ours"), clean_environment(), order)


def hf(fetch: Fetch) -> Command:
    """Return the hub's own client; it takes one repository."""
    (weights,) = fetch.weights
    settings = {
        "HF_ENDPOINT": fetch.endpoint,
        "HF_HOME": str(fetch.folder),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    program = str(Path(sys.executable).with_name("hf"))
    argv = (program, "download", weights.repo, "--revision", weights.revision, "--quiet")
    return Command(argv, clean_environment(**settings))


def hf_start(folder: Path) -> Command:
    """Return the hub's own client when it asks nobody, which is what its start takes."""
    quiet = {"HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    return Command((str(Path(sys.executable).with_name("hf")), "version"), clean_environment(**quiet))


def curl(fetch: Fetch) -> Command:
    """Return curl for one file; it goes on where an earlier try ended."""
    url, path = fetch.only
    argv = ("curl", "-sSfL", "--create-dirs", "-C", "-", "-o", str(path), url)
    return Command(argv, clean_environment())


def curl_checked(fetch: Fetch) -> Command:
    """Return curl, then the digest and the sync that our pull includes."""
    _, path = fetch.only
    script = 'file="$1"; shift; "$@" && openssl dgst -sha256 "$file" && sync "$file"'
    return Command(("sh", "-c", script, "sh", str(path), *curl(fetch).argv), clean_environment())


def curl_many(fetch: Fetch) -> Command:
    """Return curl for many files."""
    lines = [f'url = "{url}"\noutput = "{path}"\n' for url, path in fetch.pairs()]
    config = fetch.folder / "curl.config"
    config.write_text("".join(lines))
    argv = ("curl", "-sSfLZ", "--parallel-max", str(CONNECTIONS), "--create-dirs", "-K", str(config))
    return Command(argv, clean_environment())


def aria2(fetch: Fetch) -> Command:
    """Return aria2 for one file; it goes on where an earlier try ended."""
    url, path = fetch.only
    count = str(CONNECTIONS)
    argv = ("aria2c", "--quiet", "-x", count, "-s", count, "--file-allocation=none", "--no-conf")
    return Command((*argv, "-d", str(path.parent), "-o", path.name, url), clean_environment())


OURS = Client("pmoves", ours)
HF = Client("hf download", hf)
CURL = Client("curl -o", curl)
CURL_CHECKED = Client("curl, openssl dgst, sync", curl_checked)
CURL_MANY = Client(f"curl -Z --parallel-max {CONNECTIONS}", curl_many)
ARIA2 = Client(f"aria2c -x{CONNECTIONS} -s{CONNECTIONS}", aria2)


@cache
def present(*clients: Client) -> tuple[Client, ...]:
    """Return the clients that can be run here."""
    return tuple(one for one in clients if one is not ARIA2 or shutil.which("aria2c"))
