"""The weights that the benchmark of pulls serves: bytes that do not compress, and their pins."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.contracts import WeightFile, Weights
from tests.conftest import ROOT
from tests.lab.hub import REVISION

CHUNK_BYTES = 1 << 24
MEMORY = Path("/dev/shm")  # noqa: S108  # the file system in memory, on purpose
DISK = ROOT / ".cache"


@contextmanager
def folder_in(place: Path) -> Iterator[Path]:
    """Yield an empty folder; it is removed afterwards."""
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="pmoves-bench-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def repository(root: Path, repo: str, sizes: Sequence[int]) -> Weights:
    """Write a repository with files of these sizes below `root`, and return its pin."""
    files = tuple(
        write(root / repo, f"model-{number:05}.safetensors", size_bytes)
        for number, size_bytes in enumerate(sizes, 1)
    )
    return Weights(repo=repo, revision=REVISION, files=files)


def write(folder: Path, name: str, size_bytes: int) -> WeightFile:
    """Write one file and return its pin."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    seed = random.Random(f"{folder.name}/{name}")  # noqa: S311  # any bytes will do
    chunk = bytearray(seed.randbytes(min(size_bytes, CHUNK_BYTES)))
    digest, left, number = hashlib.sha256(), size_bytes, 0
    with (folder / name).open("wb") as file:
        while left:
            chunk[:8] = number.to_bytes(8)
            piece = memoryview(chunk)[: min(left, len(chunk))]
            file.write(piece)
            digest.update(piece)
            left, number = left - len(piece), number + 1
    return WeightFile(path=name, size_bytes=size_bytes, sha256=digest.hexdigest())
