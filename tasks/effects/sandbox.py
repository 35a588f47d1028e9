"""Code that a model wrote -> what its function returns, run where it can do no harm.

A child process with an empty environment, in an empty folder, behind a kernel filter (`sandbox_child.py`),
with limits of time, memory and output. What it writes is data that the caller judges.
"""

from __future__ import annotations

import json
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.contracts import Unknown

CHILD = Path(__file__).with_name("sandbox_child.py")
MOST_BYTES = 64 << 10
TIMEOUT_S = 20.0
"""Of the clock, where a busy host starts Python slowly; of the processor the child has two seconds."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What calls gave: JSON values, or errors in words. `error` is why there are none."""

    values: tuple[Any, ...] = ()
    errors: tuple[str, ...] = ()
    error: str = ""


def run(
    source: str, function: str, calls: Sequence[Sequence[Any]], *, timeout_s: float = TIMEOUT_S
) -> Ran | Unknown:
    """Run `source` and call its `function`; Unknown where this system has no fence for it.

    The errors of calls stand in `errors`, one for each call, "" where it returned.
    """
    nonce = secrets.token_hex(16)
    asked = {"source": source, "function": function, "calls": list(calls), "nonce": nonce}
    with tempfile.TemporaryDirectory(prefix="pmoves-code-") as folder:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            return _read(child, json.dumps(asked).encode(), nonce, timeout_s)
        finally:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
            child.wait()


def _read(child: subprocess.Popen[bytes], asked: bytes, nonce: str, timeout_s: float) -> Ran | Unknown:
    if child.stdin is None or child.stdout is None:
        raise AssertionError("the child was made with pipes")
    try:
        child.stdin.write(asked)
        child.stdin.close()
    except BrokenPipeError:
        return Ran(error="it ended before it read what to run")
    written, late = b"", time.monotonic() + timeout_s
    while len(written) <= MOST_BYTES:
        ready, _, _ = select.select([child.stdout], [], [], max(0.0, late - time.monotonic()))
        if not ready:
            return Ran(error=f"no result within {timeout_s:g} s")
        chunk = child.stdout.read1(4096)  # type: ignore[attr-defined]  # a BufferedReader
        if not chunk:
            return _result(written, nonce)
        written += chunk
    return Ran(error=f"more than {MOST_BYTES:,} bytes of output")


def _result(written: bytes, nonce: str) -> Ran | Unknown:
    try:
        answer = json.loads(written)
    except (ValueError, RecursionError):
        return Ran(error="no result" if not written else "a result that cannot be read")
    if not isinstance(answer, dict) or answer.get("nonce") != nonce:
        return Ran(error="a result that is not ours")
    if "no_fence" in answer:
        return Unknown(str(answer["no_fence"])[:200])
    rows = answer.get("values")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return Ran(error="a result that cannot be read")
    return Ran(
        tuple(row.get("value") for row in rows), tuple(str(row.get("error") or "")[:200] for row in rows)
    )
