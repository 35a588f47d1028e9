"""Child processes that fetch: the seam between a source and the program that does its work.

A child runs in a session of its own and is ended with everything it started, whatever ends the
block: its own end, a stop, an error of the reader, silence, or too long a time.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from typing import IO

from tasks.errors import SourceUnavailableError
from tasks.pull.claim import stopped
from tasks.pull.store import INTACT

POLL_S = 0.1
TERM_S = 3.0
READ_BYTES = 1 << 16

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a child: `quiet_s` without a line, `limit_s` in all; not after `stop`."""

    subject: str
    stop: Event
    quiet_s: float
    limit_s: float


def with_environment(command: tuple[str, ...], pairs: Pairs) -> tuple[str, ...]:
    """Return `command` with variables added to the environment that it inherits."""
    return ("env", *(f"{name}={value}" for name, value in pairs), *command)


def follow(
    command: tuple[str, ...], on_line: Callable[[str], None], *, patience: Patience, stdin: str = ""
) -> int:
    """Run `command`, hand each line that it prints to `on_line`, and return its exit code.

    `stdin` is written at once; then the pipe stays open, so that a child can see its parent die.

    Raises:
        StoppedError: the stop event was set; the child has ended.
        SourceUnavailableError: the child was silent or ran for too long; it has ended.
    """
    with _child(command) as process:
        assert process.stdin is not None  # noqa: S101  # _child opens both pipes; this tells mypy
        assert process.stdout is not None  # noqa: S101  # the same
        with suppress(BrokenPipeError):
            process.stdin.write(stdin.encode())
            process.stdin.flush()
        for line in _lines(process.stdout, patience):
            on_line(line)
        return process.wait()


@contextmanager
def _child(command: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        bufsize=0,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group, and close the pipes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        # The leader is not reaped yet while poll() is None, so its group id cannot be another's.
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(TERM_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def _lines(stream: IO[bytes], patience: Patience) -> Iterator[str]:
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    started = heard = time.monotonic()
    rest = b""
    while True:
        _check(patience, started=started, heard=heard)
        if not poll.poll(POLL_S * 1000):
            continue
        chunk = os.read(stream.fileno(), READ_BYTES)
        heard = time.monotonic()
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace").rstrip() for line in whole)
        if not chunk:
            yield from (line.decode(errors="replace") for line in (rest,) if line)
            return


def _check(patience: Patience, *, started: float, heard: float) -> None:
    if patience.stop.is_set():
        raise stopped(patience.subject)
    now = time.monotonic()
    if now - heard > patience.quiet_s:
        raise SourceUnavailableError(
            f"no sign of life for {patience.quiet_s:g} s", INTACT, "check the network, then run it again"
        )
    if now - started > patience.limit_s:
        raise SourceUnavailableError(
            f"not done after {patience.limit_s:g} s", INTACT, "run it again on a faster network"
        )
