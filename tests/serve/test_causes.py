"""Why a server died, told from what the engine and its log say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import ContainerState
from tasks.serve.causes import SHOWN_CHARACTERS, cause_of, last_line, printable

ENDED = ContainerState("pmoves-llm", "1", "exited", exit_code=1)
GIB = 1 << 30


def test_its_limit_of_main_memory() -> None:
    """The kernel's word goes before everything in the log."""
    cause = cause_of(
        replace(ENDED, exit_code=137, oom_killed=True), "CUDA out of memory", limit_bytes=3 * GIB
    )

    assert "the kernel killed it, because it took more main memory than its limit of 3.0 GiB" == cause.text
    assert cause.then


def test_main_memory_without_a_limit() -> None:
    """Then the host's own ran out."""
    cause = cause_of(replace(ENDED, exit_code=137, oom_killed=True), "")

    assert "the kernel killed it, because main memory ran out" == cause.text


@pytest.mark.parametrize(
    ("log", "meaning"),
    [
        ("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory", "card's memory"),
        (
            "alloc_tensor_range: failed\nunable to allocate CUDA0 buffer\nerror: failed to load model",
            "card's memory",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "card's memory"),
        ("torch.cuda.OutOfMemoryError: no\nRuntimeError: Engine core initialization failed", "card's memory"),
        ("ValueError: No available memory for the cache blocks. Try increasing", "card's memory"),
        (
            "ValueError: Free memory on device cuda:0 (1.2/23.6 GiB) on startup is less than desired",
            "card's memory",
        ),
        ("HIP error: out of memory", "card's memory"),
        ("ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory", "card's memory"),
        ("CUDA driver version is insufficient for CUDA runtime version", "driver is too old"),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)",
            "driver is too old",
        ),
        ("CUDA error: forward compatibility was attempted on non supported HW", "driver is too old"),
        ("CUDA error: no kernel image is available for execution on the device", "not built for this card"),
        ("RuntimeError: No CUDA GPUs are available", "does not see the card"),
        ("libcuda.so.1: cannot open shared object file", "does not see the card"),
        ("OSError: [Errno 28] No space left on device", "a disk is full"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "main memory ran out"),
        ("RuntimeError: can't start new thread", "limit of processes"),
        ("OSError: [Errno 30] Read-only file system: '/root/.cache'", "writes where its image must not"),
        ("error: open /weights/blobs/1: Permission denied", "may not read or write"),
        ("PermissionError: [Errno 13] '/hub'", "may not read or write"),
        ("error: unknown argument: --no-webui", "does not know one of its arguments"),
        ("llama_model_load: unknown model architecture: 'qwen9'", "cannot serve this kind of model"),
        ("ValueError: Model architectures ['X'] is not supported for now", "cannot serve this kind of model"),
        ("gguf_init_from_file: invalid magic characters", "cannot read the weights"),
    ],
)
def test_texts_of_runtimes(log: str, meaning: str) -> None:
    """What llama.cpp, vLLM, torch, text-embeddings-inference and the system print."""
    cause = cause_of(ENDED, f"starting\n{log}\nbye\n")

    assert meaning in cause.text
    assert "it ended with exit code 1" in cause.text
    assert cause.then


@pytest.mark.parametrize(
    "log",
    [
        "WARNING mkdir /.cache: permission denied, going without",
        "WARNING FlashAttention is not supported for this head size, using another",
        "INFO compute capability 8.6",
    ],
)
def test_warnings_are_no_causes(log: str) -> None:
    """Servers print a good deal before they die of something else."""
    assert "it ended with exit code 1, saying:" in cause_of(ENDED, f"{log}\nsegmentation fault\n").text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "it ended by itself with exit code 0"),
        (2, "it ended with exit code 2"),
        (126, "its command cannot be run, exit code 126"),
        (127, "its command cannot be run, exit code 127"),
        (134, "it was ended by SIGABRT"),
        (139, "it was ended by SIGSEGV"),
        (143, "it was ended by SIGTERM"),
    ],
)
def test_exit_codes(code: int, said: str) -> None:
    """A signal by its name."""
    assert f"{said}, saying nothing" == cause_of(replace(ENDED, exit_code=code), " \n").text


def test_a_kill_from_outside() -> None:
    """Nothing in the log, no limit that was reached: the host's memory, or a person."""
    cause = cause_of(replace(ENDED, exit_code=137), "loading\n")

    assert "something outside killed it (it was ended by SIGKILL, saying: loading)" == cause.text
    assert "dmesg" in cause.then


def test_a_container_that_is_gone() -> None:
    """Somebody removed it."""
    assert "its container is gone: somebody removed it" == cause_of(None, "").text


def test_one_that_keeps_ending() -> None:
    """While it runs again, its exit code is no news."""
    looping = replace(ENDED, state="running", exit_code=0, restarts=1)

    assert "it keeps ending, and was started again 1 time, saying nothing" == cause_of(looping, "").text
    assert "exit code 1, 3 times" in cause_of(replace(ENDED, state="restarting", restarts=3), "").text


def test_colours_and_cursors_do_not_pass() -> None:
    """They would reach a terminal, and hide a text that means something."""
    log = "\x1b[1m\x1b[31mCUDA \x1b[0mout of memory\x1b[2J\x1b]0;title\x07\r\x00\x9b31m"

    cause = cause_of(ENDED, log)

    assert "the card's memory ran out" in cause.text
    assert cause.text.isprintable()
    assert "title" not in cause.text


def test_garbage_is_no_trouble() -> None:
    """Bytes of a broken file, read as text."""
    cause = cause_of(ENDED, "\x00\ufffd\ud7ff\x1b[" * 500)

    assert cause.text.isprintable()


def test_one_giant_line_is_cut() -> None:
    """The engine gives at most 256 KiB."""
    cause = cause_of(ENDED, "error " * 45_000)

    assert len(cause.text) < SHOWN_CHARACTERS + 100


def test_the_last_line_that_tells() -> None:
    """Not the last of all, which is often a good-bye."""
    assert "error: no" == last_line("start\n\terror:   no\nbye\n\n")
    assert "bye" == last_line("start\nbye\n")
    assert not last_line("")


def test_lines_stay_lines() -> None:
    """A log that is kept for the record can be read."""
    assert "a\nb c" == printable("a\n\x1b[31mb\tc")
