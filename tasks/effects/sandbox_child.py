"""The child in which code that a model wrote runs. A program of its own: nothing of `tasks` is imported.

It reads {source, function, calls, nonce} from its input, gives up everything it could do harm with, runs the
code, and writes one line, {nonce, values}, to the pipe it was given. What the values are worth, the parent
decides. The fence is the kernel's: a seccomp filter (seccomp(2)) that lets a process compute, take memory,
and write to what is open; all else (files, sockets, processes, signals) fails with EPERM. Without it nothing
is run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import struct
import sys
from typing import Any

CPU_S, MEMORY_BYTES, MOST_CHARACTERS = 2, 512 << 20, 20_000
NO_FENCE = 77

ALLOWED = {
    # read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn
    # sched_yield mremap madvise getpid exit sigaltstack gettid futex restart_syscall clock_gettime exit_group
    # getrandom rseq
    "x86_64": (
        0xC000003E,
        *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 39, 60, 131, 186, 202, 219, 228, 231),
        *(318, 334),
    ),
    "aarch64": (
        0xC00000B7,
        *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 124, 216, 233, 172, 93, 132, 178, 98, 128),
        *(113, 94, 278, 293),
    ),
}
"""For each machine its audit architecture (linux/audit.h), and the numbers of what it may call."""

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
SET_NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2


def _preload() -> None:
    """Import what such code uses; once the fence is up, nothing more can be read from the disk."""
    for name in [
        "bisect",
        "collections",
        "collections.abc",
        "copy",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "json",
        "math",
        "operator",
        "random",
        "re",
        "statistics",
        "string",
        "textwrap",
        "typing",
    ]:
        __import__(name)


def _limit() -> None:
    """Bound what the fence does not: time, memory, files."""
    for what, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (most, most))


def _fence() -> None:
    """Give up every system call but those of `ALLOWED`.

    Raises:
        OSError: the system has no such filter.
    """
    if platform.system() != "Linux" or platform.machine() not in ALLOWED:
        raise OSError(f"no filter is known for {platform.system()} on {platform.machine()}")
    architecture, *numbers = ALLOWED[platform.machine()]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    program += [(EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or system.prctl(SET_SECCOMP, FILTER, head, 0, 0):
        raise OSError(f"seccomp is refused: {os.strerror(ctypes.get_errno())}")


def _run(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each call gave: {"value": …} or {"error": …}."""
    names: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(asked["source"], "answer", "exec"), names)  # noqa: S102  # behind the fence
        function = names[asked["function"]]
    except BaseException as error:  # noqa: BLE001  # whatever the code raises is its answer
        _let_go(error)
        return [{"error": _named(error)}]
    found = []
    for arguments in asked["calls"]:
        try:
            value = function(*arguments)
            found.append({"value": json.loads(json.dumps(value))})
        except BaseException as error:  # noqa: BLE001  # as above
            _let_go(error)
            found.append({"error": _named(error)})
    return found


def _let_go(error: BaseException) -> None:
    """Free what the code held when it raised: with all memory taken, not even its error can be told."""
    trace = error.__traceback__
    while trace is not None:
        with contextlib.suppress(RuntimeError):  # this function's own caller still runs
            trace.tb_frame.clear()
        trace = trace.tb_next


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def main() -> None:
    """Run what the input asks for."""
    asked = json.loads(sys.stdin.buffer.read())
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    _preload()
    try:
        _limit()
        _fence()
    except (OSError, ValueError) as error:
        os.write(answers, json.dumps({"nonce": asked["nonce"], "no_fence": str(error)}).encode())
        os._exit(NO_FENCE)
    text = json.dumps({"nonce": asked["nonce"], "values": _run(asked)}).encode()
    os.write(answers, text[:MOST_CHARACTERS])
    os._exit(0)


if __name__ == "__main__":
    main()
