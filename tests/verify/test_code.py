"""Code that a model writes is run where it can do no harm, and judged by what it returns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.contracts import Unknown
from tasks.effects import sandbox
from tasks.verify.kinds.code import extract
from tests.lab.answering import RUNS, VOWELS, Model

PLAN = {"role": "code", "model": "m"}
pytestmark = pytest.mark.skipif(
    isinstance(sandbox.run("def f(): return 1", "f", [[]]), Unknown),
    reason="this system has no seccomp filter",
)


def writes(code: str) -> Model:
    """Return a model whose first function is `code`."""
    model = Model()
    model.says = lambda question, answer: f"```python\n{code}\n```" if "count_vowels" in question else answer
    return model


def test_a_right_model_is_verified(checked: Callable[..., object]) -> None:
    """Both functions return what they must."""
    made = checked(Model(), **PLAN)

    assert ["4 right values", "3 right values"] == [one.got for one in made.answers[1:]]


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ("return len(text)", 'what is count_vowels("Provisioner")? expected 5, got "11"'),
        ("return '5'", 'expected 5, got ""5""'),
        ("return 5.0", 'expected 5, got "5.0"'),
        ("return True", 'expected 5, got "true"'),
        ("return None", 'expected 5, got "null"'),
        ("return 5", "expected 10"),
        ("return text", "expected 5"),
        ("return object()", "nothing: TypeError"),
        ("return float('nan')", "NaN"),
        ("print(5)", 'expected 5, got "null"'),
        ("print('4 right values'); raise SystemExit(0)", "nothing: SystemExit: 0"),
        ("import os; os._exit(0)", "nothing: no result"),
        ("while True: pass", "nothing: no result"),
        ("import time; time.sleep(600)", "nothing: PermissionError"),
        ("return count_vowels(text)", "nothing: RecursionError"),
        ("return 'x' * 10**12", "nothing: MemoryError"),
        ("found = []\n    while True: found.append('x' * 10**6)", "nothing: MemoryError"),
        ("return 'x' * 10**5", "nothing: a result that cannot be read"),
        ("return open('/etc/passwd').read()", "Operation not permitted"),
        ("import os; return os.listdir('/')", "Operation not permitted"),
        ("import os; return os.fork()", "Operation not permitted"),
        ("import os\n    while True:\n        try: os.fork()\n        except OSError: return 1", "got"),
        ("import os; return os.kill(os.getppid(), 9)", "got"),
        ("import socket; return socket.socket()", "nothing: "),
        ("import subprocess; return subprocess.run('id')", "nothing: "),
        ("import os; return os.execv('/bin/true', ['true'])", "Operation not permitted"),
        ("import ctypes; return ctypes.string_at(0)", "nothing: no result"),
        ("import os\n    while True: os.write(3, b'x' * 4096)", "more than 65,536 bytes of output"),
        ("import sys; sys.setrecursionlimit(10**9); return count_vowels(text)", "nothing: "),
        ("import json; json.dumps = lambda value: '5'; return 11", "expected 10"),
    ],
)
def test_wrong_and_hostile_functions(refused: Callable[..., str], body: str, got: str) -> None:
    """None passes, and each ends in its time."""
    begun = time.monotonic()
    sentence = refused(writes(f"def count_vowels(text):\n    {body}"), **PLAN)

    assert "answers wrongly: " in sentence
    assert got in sentence
    assert time.monotonic() - begun < 15


def test_a_result_that_is_made_up_is_not_ours(refused: Callable[..., str]) -> None:
    """What is written past the runner lacks the nonce, and what stands beside it spoils it."""
    fake = '{"nonce": "", "values": [{"value": 5}, {"value": 10}, {"value": 0}, {"value": 0}]}'
    code = (
        "import os\n"
        "for number in range(3, 16):\n"
        f"    try: os.write(number, {fake.encode()!r})\n"
        "    except OSError: pass\n"
    )

    assert "a result that is not ours" in refused(
        writes(f"{code}os._exit(0)\ndef count_vowels(t): 0"), **PLAN
    )
    assert "a result that cannot be read" in refused(writes(f"{code}def count_vowels(t): return 1"), **PLAN)


def test_nothing_is_written_and_nothing_of_ours_is_seen(tmp_path: Path) -> None:
    """No file, no variable, no folder of the host."""
    target = tmp_path / "mark"
    code = f"def f(): return open({str(target)!r}, 'w')"
    environment = sandbox.run("import os\ndef f(): return sorted(os.environ)", "f", [[]])
    written = sandbox.run(code, "f", [[]])

    assert isinstance(environment, sandbox.Ran)
    assert isinstance(written, sandbox.Ran)
    assert {"LC_CTYPE"} >= set(environment.values[0])
    assert "PermissionError" in written.errors[0]
    assert not target.exists()


def test_the_folder_of_a_run_is_removed_and_its_process_is_gone() -> None:
    """Also when the code had to be killed."""
    before = {name for name in os.listdir("/tmp") if name.startswith("pmoves-code-")}  # noqa: PTH208, S108
    ran = sandbox.run("while True: pass", "f", [[]])

    assert sandbox.Ran(error="no result") == ran
    assert before == {name for name in os.listdir("/tmp") if name.startswith("pmoves-code-")}  # noqa: PTH208, S108


def test_a_runner_that_hangs_is_killed() -> None:
    """The clock ends what the processor's does not."""
    begun = time.monotonic()
    code = "lock = __import__('_thread').allocate_lock()\nlock.acquire()\nlock.acquire()"
    ran = sandbox.run(code, "f", [[]], timeout_s=0.7)

    assert sandbox.Ran(error="no result within 0.7 s") == ran
    assert time.monotonic() - begun < 10


def test_usual_modules_are_there() -> None:
    """Right code may use the standard library's small tools."""
    code = "import re, math\nfrom collections import Counter\nfrom itertools import groupby\n"
    ran = sandbox.run(f"{code}def f(text): return Counter(re.findall('[aeiou]', text))['e']", "f", [["eel"]])

    assert sandbox.Ran((2,), ("",)) == ran


def test_without_a_fence_nothing_is_run(
    checked: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code is then only read, and the record says so."""
    monkeypatch.setattr(
        sandbox, "run", lambda *_args, **_more: Unknown("seccomp is refused: Invalid argument")
    )
    made = checked(Model(), **PLAN)

    assert "was read, but not run: seccomp is refused" in made.findings[0]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (VOWELS, True),
        (f"Sure!\n{VOWELS}\nIt counts.", True),
        ("def count_vowels(text):\n    return 1", True),
        (f"{RUNS}\n{VOWELS}", True),
        ("```\ndef count_vowels(text):\n    return 1\n```", True),
        (RUNS, False),
        ("```python\ndef count_vowels(text:\n```", False),
        ("```python\ncount_vowels = 5\n```", False),
        ("I cannot write code.", False),
        ("", False),
        ("(" * 10_000, False),
        ("x" * 30_000, False),
    ],
)
def test_code_is_found_in_an_answer(text: str, right: bool) -> None:  # noqa: FBT001
    """The block that defines the function counts."""
    assert right == isinstance(extract(text, "count_vowels"), str)
