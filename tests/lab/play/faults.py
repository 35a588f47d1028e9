"""What a play server can be given to do wrong, and how it is told."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

ALWAYS = 1_000_000_000
OOM_STEP_BYTES = 16 << 20
OOM_LIMIT_BYTES = 1 << 30
"""Where no limit kills it before: enough for a container's limit, and no harm to a machine without one."""


class Refused(Exception):  # noqa: N818  # it is an answer of the server, not an error of the tests
    """Raised with the status and the body of an answer that is not a 200."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


class Vanished(Exception):  # noqa: N818  # the same
    """Raised when the connection ends without an answer, or in the middle of one."""


@dataclass
class Knobs:
    """What a test can turn, from flags and from the environment."""

    faults: tuple[str, ...] = ()
    load_s: float = 0.0
    gpu: bool = True
    vision_answer: str = ""
    transcript: str = ""
    tokens_per_s: float = 0.0

    FLAGS = ("--fault", "--load-s", "--vision-answer", "--transcript")

    @classmethod
    def read(cls, given: Mapping[str, str], environment: Mapping[str, str]) -> Knobs:
        """Read them; a flag goes before a variable."""

        def one(name: str) -> str:
            variable = f"PLAY_{name.removeprefix('--').replace('-', '_').upper()}"
            return given.get(name) or environment.get(variable, "")

        return cls(
            faults=tuple(one("--fault").split()),
            load_s=float(one("--load-s") or 0),
            gpu=one("--gpu") != "none" and environment.get("CUDA_VISIBLE_DEVICES") != "-1",
            vision_answer=one("--vision-answer"),
            transcript=one("--transcript"),
            tokens_per_s=float(one("--tokens-per-s") or 0),
        )


@dataclass
class Faults:
    """What is broken now, and how often still."""

    left: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, fault: str, *, times: int = ALWAYS) -> None:
        """Break the next `times` answers."""
        with self.lock:
            self.left[fault] = times

    def take(self, name: str) -> str | None:
        """Return what stands behind the fault's colon ("" where there is none), and count it down."""
        with self.lock:
            found = next((one for one, n in self.left.items() if one.split(":")[0] == name and n > 0), None)
            if found is None:
                return None
            self.left[found] -= 1
        return found.partition(":")[2]

    def clear(self) -> None:
        """Heal everything."""
        with self.lock:
            self.left.clear()

    def has(self, name: str) -> bool:
        """Tell whether a fault is set, and count it down."""
        return self.take(name) is not None


def allocate() -> NoReturn:
    """Take memory until the kernel ends this process; where nothing limits it, end it the same way."""
    held: list[bytearray] = []
    while len(held) * OOM_STEP_BYTES < OOM_LIMIT_BYTES:
        held.append(bytearray(os.urandom(4096) * (OOM_STEP_BYTES // 4096)))
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit(137)
