"""What a pull takes that finds everything there, and one that reads it all again."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from pathlib import Path

from flows.report import columns
from tasks.contracts import WeightFile, Weights
from tasks.pull import store
from tests.benchmarks.pull_data import MEMORY, folder_in, write
from tests.benchmarks.pull_measure import GIB
from tests.benchmarks.pull_scale import MB, Scale
from tests.benchmarks.pull_speed import hash_pass
from tests.lab.hub import REVISION

VERIFY_FILES = 8


def kept(scale: Scale) -> str:
    """Ask what is missing of weights that are all there."""
    rows = []
    for count, size_bytes in scale.kept:
        with folder_in(MEMORY) as cache:
            weights = _sparse(cache, count, size_bytes)
            begun = time.perf_counter()
            gaps = store.missing(cache, weights)
            first_s = time.perf_counter() - begun
            rest = [_seconds(cache, weights) for _ in range(scale.rounds)]
        what = f"{count} files of {size_bytes / MB:.0f} MB, {len(gaps)} missing"
        rows.append((what, f"{first_s:.3f} s", f"{statistics.median(rest):.3f} s", "< 0.2 s"))
    table = columns(("ALL THERE: store.missing", "FIRST", "MEDIAN", "AIM"), rows)
    note = "The files are sparse; their receipts name a made-up digest and were added by Receipts.add."
    return f"{table}\n{note}"


def _seconds(cache: Path, weights: Weights) -> float:
    begun = time.perf_counter()
    store.missing(cache, weights)
    return time.perf_counter() - begun


def _sparse(cache: Path, count: int, size_bytes: int) -> Weights:
    """Make a store of large files without content, with receipts as if they had been verified."""
    files = tuple(
        WeightFile(
            path=f"model-{number:05}.safetensors",
            size_bytes=size_bytes,
            sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        )
        for number in range(count)
    )
    weights = Weights(repo="lab/kept", revision=REVISION, files=files)
    known = store.receipts(cache, weights.repo)
    for file in files:
        blob, link = (
            store.repo_folder(cache, weights.repo) / "blobs" / file.sha256,
            store.link_path(cache, weights, file),
        )
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.touch()
        os.truncate(blob, size_bytes)
        link.symlink_to(os.path.relpath(blob, link.parent))
        known.add(link, file.digest, placed=True)
    known.save()
    return weights


def verified(scale: Scale) -> str:
    """Read everything again, as `--verify` does, beside one processor that hashes."""
    with folder_in(MEMORY) as cache:
        size_bytes = scale.verify_bytes // VERIFY_FILES
        folder = cache / "models--lab--read/snapshots" / REVISION
        files = tuple(write(folder, f"{number}.safetensors", size_bytes) for number in range(VERIFY_FILES))
        weights = Weights(repo="lab/read", revision=REVISION, files=files)
        alone = size_bytes / hash_pass(folder / files[0].path)
        found = []
        for _ in range(scale.rounds):
            begun = time.perf_counter()
            gaps = store.missing(cache, weights, rehash=True)
            found.append(weights.size_bytes / (time.perf_counter() - begun))
    rate, cores = statistics.median(found), os.cpu_count() or 1
    row = (
        f"{scale.verify_bytes / GIB:.3g} GiB in {VERIFY_FILES} files, {len(gaps)} damaged",
        f"{rate / 1e9:.2f} GB/s",
        f"{min(found) / 1e9:.2f}",
        f"{max(found) / 1e9:.2f}",
        f"{alone / 1e9:.2f} GB/s",
        f"{rate / alone:.2f} of {cores} processors",
    )
    head = ("--verify: store.missing(rehash=True)", "MEDIAN", "LEAST", "MOST", "HASHLIB ON ONE", "THAT IS")
    return columns(head, [row])
