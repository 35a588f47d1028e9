"""What the server is told on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

HOST = "127.0.0.1"
DRAIN_S = 8
"""Time for requests in flight after SIGTERM; the supervisor must wait longer before SIGKILL."""
STOP_TIMEOUT_S = DRAIN_S + 4
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all of them together, may take.

    `call_tokens` counts padded tokens of one call into the engine. The engine holds the interpreter
    lock for a whole call, and above about 700 padded tokens it loses up to half its speed.
    """

    max_tokens: int = 256
    max_texts: int = 2048
    max_body_bytes: int = 4 << 20
    queue_texts: int = 8192
    queue_bytes: int = 64 << 20
    deadline_s: float = 120
    call_texts: int = 32
    call_tokens: int = 640


@dataclass(frozen=True, slots=True)
class Options:
    """Which weights to serve, where, and under which name."""

    port: int
    cache: Path
    repo: str
    revision: str
    model: str
    dimensions: int | None
    limits: Limits

    @property
    def snapshot(self) -> Path:
        """Folder of the Hugging Face cache that holds the files of the revision."""
        return self.cache / f"models--{self.repo.replace('/', '--')}" / "snapshots" / self.revision


def parse(argv: Sequence[str] | None = None) -> Options:
    """Read the command line; a wrong one ends the process with argparse's usage text."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.serve.embedded", description="Serve one BERT embedding model on 127.0.0.1."
    )
    parser.add_argument("--port", type=_port, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="a Hugging Face cache folder")
    parser.add_argument("--repo", required=True)
    parser.add_argument("--revision", required=True, type=_revision, help="a full commit, 40 hex digits")
    parser.add_argument("--model", required=True, help="the name that clients send")
    parser.add_argument(
        "--dimensions", type=_positive, help="refuse to serve weights that give another number"
    )
    for limit in fields(Limits):
        parser.add_argument(f"--{limit.name.replace('_', '-')}", type=_positive, default=limit.default)
    given = vars(parser.parse_args(argv))
    limits = Limits(**{limit.name: given.pop(limit.name) for limit in fields(Limits)})
    return Options(**given, limits=limits)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port (1 to {MAX_PORT})")
    return int(text)


def _revision(text: str) -> str:
    # Anything but a full commit makes the loader ask the hub, even when it is told to stay offline.
    if len(text) != 40 or set(text) - set("0123456789abcdef"):  # noqa: PLR2004  # the length of a git commit
        raise argparse.ArgumentTypeError(f"{text} is not a commit of 40 lower-case hex digits")
    return text
