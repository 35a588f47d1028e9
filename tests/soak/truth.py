"""Random repositories on disk, and what every byte of them should be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tasks.contracts import WeightFile, Weights
from tasks.pull.fetch.blocks import BLOCK_BYTES
from tests.lab.hub import REVISION, git_sha1

MOST_BYTES = 60_000_000
"""What one bundle has at most, or soon after."""
NAMES = ("model", "onnx/model q4", "1_Pooling/config", "a/b/c/tokenizer", "モデル", "50% off #1", "x+y&z=1")
SUFFIXES = (".json", ".safetensors", ".gguf", ".txt", "", ".bin")
TWINS = 0.1
"""How many files have the bytes of another one."""
Kind = Callable[[Random], int]
SIZES: dict[Kind, int] = {
    lambda _random: 0: 1,
    lambda random: random.randint(1, 5_000): 6,
    lambda random: random.randint(5_000, 4 * BLOCK_BYTES): 5,
    lambda random: BLOCK_BYTES * random.randint(1, 40) + random.randint(-1, 1): 4,
    lambda random: random.randint(1_000_000, 8_000_000): 4,
    lambda random: random.randint(8_000_000, 45_000_000): 1,
}
"""How large files are, and how often."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Models, and the sha256 of each file by its path below the store: `models--a--b/snapshots/<rev>/x`."""

    models: tuple[Weights, ...]
    sha256: dict[str, str]

    @property
    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum(one.size_bytes for one in self.models)


def make(random: Random, root: Path) -> Bundle:
    """Write random repositories below `root`."""
    models, sha256, room = [], {}, MOST_BYTES
    for number in range(random.randint(1, 4)):
        repo = f"soak/model-{number}"
        contents = _contents(random, room)
        room -= sum(map(len, contents.values()))
        files = []
        for path, data in contents.items():
            (root / repo / path).parent.mkdir(parents=True, exist_ok=True)
            (root / repo / path).write_bytes(data)
            right = hashlib.sha256(data).hexdigest()
            sha256[f"models--{repo.replace('/', '--')}/snapshots/{REVISION}/{path}"] = right
            files.append(_pin(random, path, data, right))
        models.append(Weights(repo=repo, revision=REVISION, files=tuple(files)))
    return Bundle(tuple(models), sha256)


def _contents(random: Random, room: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for number in range(random.randint(1, 9)):
        kind = random.choices([*SIZES], [*SIZES.values()])[0]
        size_bytes = kind(random) if room > 0 else random.randint(1, 1000)
        again = random.choice([*found.values()]) if found and random.random() < TWINS else None
        data = random.randbytes(size_bytes) if again is None else again
        room -= len(data)
        found[f"{random.choice(NAMES)}-{number}{random.choice(SUFFIXES)}"] = data
    return found


def _pin(random: Random, path: str, data: bytes, sha256: str) -> WeightFile:
    """Pin a file as the catalogue does, or a small one as the hub names it."""
    if len(data) < 100_000 and random.random() < 0.4:
        return WeightFile(path=path, size_bytes=len(data), git_sha1=git_sha1(data))
    return WeightFile(path=path, size_bytes=len(data), sha256=sha256)
