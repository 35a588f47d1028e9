"""Why a server died: what the engine and the last lines of its log say, in one clause. Pure.

An exit code alone does not tell which memory ran out: the container's limit, the card's, or the host's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.contracts import ContainerState
from tasks.wording import gib, plural

KILLED, TERMINATED, SEGFAULT, NOT_FOUND, NOT_RUN = 137, 143, 139, 127, 126
SHOWN_CHARACTERS = 300
SIGNALS = {KILLED: "SIGKILL", TERMINATED: "SIGTERM", SEGFAULT: "SIGSEGV", 134: "SIGABRT", 135: "SIGBUS"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text that a runtime prints, and what it means."""

    text: re.Pattern[str]
    meaning: str
    then: str


def _pattern(text: str, meaning: str, then: str) -> Pattern:
    return Pattern(re.compile(text, re.IGNORECASE), meaning, then)


LESS = "plan less of it with `--vram`, or end what else holds the card's memory"
PATTERNS = (
    _pattern(
        r"cuda(?: error:?)? out of memory|cudaMalloc failed: out of memory|torch\.(?:cuda\.)?OutOfMemoryError"
        r"|hip(?: error:?)? out of memory|CUDA_ERROR_OUT_OF_MEMORY|ErrorOutOfDeviceMemory"
        r"|unable to allocate CUDA\d* buffer|No available memory for the cache blocks"
        r"|Free memory on device .{0,80} is less than desired",
        "the card's memory ran out",
        LESS,
    ),
    _pattern(
        r"CUDA driver version is insufficient|driver on your system is too old"
        r"|forward compatibility was attempted",
        "the driver is too old for the image",
        "update the NVIDIA driver",
    ),
    _pattern(
        r"no kernel image is available|not compiled with .{0,20}sm_"
        r"|compute capability .{0,40}not (?:supported|compatible)",
        "the image was not built for this card",
        "report the card and the image: profiles/images.yaml names another one for it",
    ),
    _pattern(
        r"No CUDA GPUs are available|no CUDA-capable device|Failed to initialize NVML"
        r"|libcuda\.so.{0,40}cannot open",
        "the container does not see the card",
        "check the NVIDIA Container Toolkit with `docker run --rm --gpus all IMAGE nvidia-smi`",
    ),
    _pattern(
        r"No space left on device",
        "a disk is full",
        "free some space where the engine and the store are",
    ),
    _pattern(
        r"std::bad_alloc|Cannot allocate memory|MemoryError\b|memory allocation of \d+ bytes failed",
        "main memory ran out",
        "end what else holds main memory, or cap the plan with `--ram`",
    ),
    _pattern(
        r"can't start new thread|Resource temporarily unavailable|pthread_create failed",
        "its limit of processes was reached",
        "report this: the limit is a number of this program",
    ),
    _pattern(
        r"Read-only file system",
        "it writes where its image must not",
        "report the image and this log",
    ),
    _pattern(
        r"(?:error|fail|cannot|panic|fatal).{0,200}Permission denied|PermissionError\b",
        "it may not read or write one of its files",
        "check who owns the weights",
    ),
    _pattern(
        r"unknown argument|unexpected argument|unrecognized arguments|error: invalid argument",
        "it does not know one of its arguments",
        "report the image: its release does not fit this program",
    ),
    _pattern(
        r"unknown model architecture|unsupported model|Unsupported architecture"
        r"|(?:Error|Exception)\b.{0,120}is not supported for",
        "the image cannot serve this kind of model",
        "report the image and the model",
    ),
    _pattern(
        r"failed to load model|invalid magic|tensor .{0,60} not found|Error while deserializing header",
        "it cannot read the weights",
        "run `pmoves provision --verify`, which reads every byte again",
    ),
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a server died: one clause, and what to do about it ("" where only the log can tell)."""

    text: str
    then: str = ""


def cause_of(state: ContainerState | None, log: str, *, limit_bytes: int = 0) -> Cause:
    """Return why a container is not running, or keeps ending.

    Args:
        state: what the engine says of it; None when it is gone.
        log: the last lines that it printed.
        limit_bytes: of main memory, that it was given; 0 for none.
    """
    if state is None:
        return Cause("its container is gone: somebody removed it")
    if state.oom_killed:
        return _out_of_memory(limit_bytes)
    log, how = printable(log), _how(state)
    said = f", saying: {last_line(log)}" if log.strip() else ", saying nothing"
    found = next((one for one in PATTERNS if one.text.search(log)), None)
    if found is not None:
        return Cause(f"{found.meaning} ({how}{said})", found.then)
    if state.exit_code == KILLED:
        return Cause(f"something outside killed it ({how}{said})", "see `dmesg` for what the kernel killed")
    return Cause(f"{how}{said}")


def _out_of_memory(limit_bytes: int) -> Cause:
    if not limit_bytes:
        return Cause("the kernel killed it, because main memory ran out", "end what else holds main memory")
    return Cause(
        f"the kernel killed it, because it took more main memory than its limit of {gib(limit_bytes)}",
        "plan a smaller model with `--ram`, and report this: the plan gave it too little",
    )


def _how(state: ContainerState) -> str:
    if state.running:
        return f"it keeps ending, and was started again {plural(state.restarts, 'time')}"
    if state.exit_code in SIGNALS:
        text = f"it was ended by {SIGNALS[state.exit_code]}"
    elif state.exit_code in {NOT_FOUND, NOT_RUN}:
        text = f"its command cannot be run, exit code {state.exit_code}"
    elif state.exit_code:
        text = f"it ended with exit code {state.exit_code}"
    else:
        text = "it ended by itself with exit code 0"
    return f"{text}, {state.restarts} times" if state.restarts > 1 else text


def printable(text: str) -> str:
    """Drop what would move a terminal's cursor or colour its text."""
    plain = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))", "", text)
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in plain)


def last_line(log: str) -> str:
    """Return the last line that says something, in one line and not too long."""
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if re.search(r"error|fail|panic|fatal|exception|cannot|out of", line, re.IGNORECASE)
    ]
    text = (telling or lines or [""])[-1]
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
