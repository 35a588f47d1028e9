"""Xet, the hub's own transfer, beside parallel ranges: which of the two brings a large file is measured.

    <store>/.locks/pmoves-rates.json     {"ranges": bytes/s, "xet": bytes/s}, as they were last measured here

Ranges are the usual way: they resume across processes, where Xet loses a file that it did not end, and
they keep to the limits of the line. Xet spares bytes that many files share, and may be faster. So the first
large file comes in ranges, one that is not too long is tried with Xet, and from then on the faster of the
two is taken, Xet only where it is clearly so. Whatever Xet brings is hashed like everything else.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from tasks.contracts import WeightFile
from tasks.effects.files import write_atomic
from tasks.pull.child import Pairs, follow, with_environment
from tasks.pull.claim import unavailable
from tasks.pull.fetch.web import AgainError, StatusError, Web
from tasks.pull.sources.job import Job

Way = Literal["ranges", "xet"]

LARGE_BYTES = 256 << 20
LONGEST_TRIAL_BYTES = 4 << 30
"""A trial that is killed costs this much again at most."""
CLEARLY = 1.25
HASH_HEADER = "x-xet-hash"
CHILD = Path(__file__).parents[1] / "xet_client.py"

ENVIRONMENT: Pairs = (
    ("HF_HUB_DISABLE_XET", "0"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("HF_HUB_DISABLE_UPDATE_CHECK", "1"),
    ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
    ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "30"),
    ("HF_HUB_ETAG_TIMEOUT", "15"),
    ("HF_HUB_OFFLINE", "0"),
    ("PYTHONUNBUFFERED", "1"),
)


def choose(size_bytes: int, held_bytes: int, rates: Mapping[str, float]) -> Way:
    """Return the way for a file of which `held_bytes` are there already, by the rates of before."""
    ranges, xet = rates.get("ranges"), rates.get("xet")
    if size_bytes < LARGE_BYTES or held_bytes or ranges is None:
        return "ranges"
    if xet is None:
        return "xet" if size_bytes <= LONGEST_TRIAL_BYTES else "ranges"
    return "xet" if xet > CLEARLY * ranges else "ranges"


def possible(web: Web, url: str) -> bool:
    """Whether the hub keeps a file in Xet, and this host has what fetches from there."""
    if importlib.util.find_spec("hf_xet") is None:
        return False
    try:
        answer = web.open(url, headers={"Range": "bytes=0-0"})
    except (AgainError, StatusError):
        return False
    answer.release()
    return HASH_HEADER in answer.headers


def rates_file(cache: Path) -> Path:
    """Return where the rates of a store are kept; the hub's own tools pass this folder over."""
    return cache / ".locks/pmoves-rates.json"


def read_rates(cache: Path) -> dict[str, float]:
    """Return what was measured here before."""
    with suppress(OSError, ValueError, AttributeError):
        said = json.loads(rates_file(cache).read_text())
        return {way: float(said[way]) for way in ("ranges", "xet") if isinstance(said.get(way), int | float)}
    return {}


def keep_rate(cache: Path, way: Way, size_bytes: int, seconds: float) -> None:
    """Keep how fast a way was; a small or a quick fetch says nothing about it."""
    if size_bytes >= LARGE_BYTES and seconds > 0:
        with suppress(OSError):
            write_atomic(rates_file(cache), json.dumps({**read_rates(cache), way: size_bytes / seconds}))


def fetch(job: Job, file: WeightFile, *, endpoint: str, token: str | None, before: int) -> int:
    """Fetch one file with Xet, deliver it, and return the bytes that crossed.

    Raises:
        SourceUnavailableError: it did not come; ranges may bring it.
        StoppedError: the context's stop event was set.
    """
    began, crossed, end, arrived = time.monotonic(), 0, "it ended without a word", Path()
    order = {
        "repo": job.weights.repo,
        "revision": job.weights.revision,
        "endpoint": endpoint,
        "token": token,
        "files": [file.path],
        "folder": str(job.folder),
    }

    def hear(line: str) -> None:
        nonlocal crossed, end, arrived
        with suppress(ValueError, TypeError, KeyError):
            said = json.loads(line)
            if "done" in said:
                crossed = int(said["done"])
                done = before + min(crossed, file.size_bytes)
                job.tell(f"fetching {job.weights.repo} with Xet", done_bytes=done, total_bytes=job.size_bytes)
            elif "file" in said:
                arrived = Path(said["at"])
            elif "end" in said:
                end = str(said["end"])

    command = with_environment((sys.executable, "-P", str(CHILD)), (*job.context.environment, *ENVIRONMENT))
    follow(command, hear, patience=job.patience, stdin=json.dumps(order) + "\n")
    if end or not arrived.is_file():
        raise unavailable(f"Xet did not bring {file.path} ({end})")
    job.deliver(file, arrived)
    keep_rate(job.cache, "xet", file.size_bytes, time.monotonic() - began)
    return crossed or file.size_bytes
